"""What a lab remembers of calls: nothing is sent twice, whichever plan asks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from replaying import captured, counting_server, lab_of

from mcpaudit_lab import Event, Lab

SENT = "update replays set status = 'uncertain' where event_id = $id::uuid"


def events(count: int) -> list[Event]:
    return [captured({"n": n}, number=n) for n in range(count)]


def sent(calls: Any) -> list[Any]:
    return [found["n"] for found in calls.arguments]


def lose_the_answer(lab: Lab, event: Event) -> None:
    lab.connection.execute(SENT, {"id": event.id})


def test_two_plans_of_the_same_calls_send_each_call_once() -> None:
    server, calls = counting_server()
    with lab_of(*(given := events(3))) as lab:
        first = lab.plan_replay(given, server, allow="all")
        assert first.run(limit=1).counts() == {"succeeded": 1, "waiting": 2}
        assert lab.plan_replay(given, server, allow="all").run().counts() == {"succeeded": 3}
        assert first.run().counts() == {"succeeded": 3}
    assert sent(calls) == [0, 1, 2]


def test_threads_that_begin_the_same_calls_at_once_send_each_call_once() -> None:
    server, calls = counting_server()
    ready = threading.Barrier(3)
    with lab_of(*(given := events(20))) as lab:
        plans = [lab.plan_replay(given, server, allow="all") for _ in range(3)]

        def run(plan: Any) -> str:
            ready.wait(30)
            return str(plan.run().run_id)

        with ThreadPoolExecutor(3) as pool:
            assert len(set(pool.map(run, plans))) == 1
    assert sorted(sent(calls)) == list(range(20))


def test_a_call_that_another_run_takes_meanwhile_is_left_to_it() -> None:
    server, calls = counting_server()
    with lab_of(*(given := events(3))) as lab:
        first = lab.plan_replay(given, server, allow="all")
        second = lab.plan_replay(given, server, allow="all")
        first.run(limit=0)

        def other_runs(_: object) -> bool:
            second.run()
            return False

        assert first.run(stop_on=other_runs).counts() == {"succeeded": 3}
    assert sent(calls) == [0, 1, 2]


def test_a_plan_made_before_a_call_became_uncertain_does_not_send_it_either() -> None:
    server, calls = counting_server()
    with lab_of(*(given := events(1))) as lab:
        first = lab.plan_replay(given, server, allow="all")
        second = lab.plan_replay(given, server, allow="all")
        first.run()
        lose_the_answer(lab, given[0])
        run = second.run()
        assert run.counts() == {"uncertain": 1}
        assert "again=" in run.states[0].detail
        again = lab.plan_replay(given, server, allow="all", again=run.uncertain)
        assert again.run().counts() == {"succeeded": 1}
        assert lab.plan_replay(given, server, allow="all").counts()["refused"] == 0
    assert len(calls) == 2


def test_what_is_sent_again_is_sent_again_in_an_unfinished_run_too() -> None:
    server, calls = counting_server()
    with lab_of(*(given := events(3))) as lab:
        first = lab.plan_replay(given, server, allow="all")
        first.run(limit=1)
        lose_the_answer(lab, given[0])
        plan = lab.plan_replay(given, server, allow="all", again=[given[0].id])
        assert plan.run().counts() == {"succeeded": 3}
        assert first.run().counts() == {"succeeded": 3}
        rows = lab.sql("select status from replays where attempt = 1").fetchall()
        assert sorted(rows) == [("abandoned",), *[("succeeded",)] * 3]
    assert sent(calls) == [0, 0, 1, 2]


def test_an_edited_call_beside_the_captured_one_has_an_outcome_of_its_own() -> None:
    server, calls = counting_server()
    with lab_of(*(given := events(2))) as lab:
        first = lab.plan_replay(given, server, allow="all").run(limit=1)
        plan = lab.plan_replay(given, server, allow="all", edit=_ten_more_than_none)
        run = plan.run()
        assert run.run_id == first.run_id
        rows = lab.sql("select modified, replay_id from replays order by place").fetchall()
        assert [modified for modified, _ in rows] == [False, False, True]
        assert len({replay_id for _, replay_id in rows}) == 3
    assert sent(calls) == [0, 10, 1]


def _ten_more_than_none(_: Event, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"n": arguments["n"] or 10}


def test_two_threads_that_send_the_same_call_again_send_it_once() -> None:
    started, go_on = threading.Event(), threading.Event()

    def slowly(arguments: Any) -> dict[str, Any]:
        started.set()
        assert go_on.wait(30)
        return {"content": [], "structuredContent": {"n": arguments["n"]}}

    server, calls = counting_server(slowly)
    go_on.set()
    with lab_of(*(given := events(1))) as lab:
        lab.plan_replay(given, server, allow="all").run()
        lose_the_answer(lab, given[0])
        go_on.clear()
        started.clear()
        plans = [lab.plan_replay(given, server, allow="all", again=[given[0].id]) for _ in range(3)]
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(plans[0].run)
            assert started.wait(30)
            # While the first is on its way, and a plan that is made only now.
            meanwhile = plans[1].run()
            late = lab.plan_replay(given, server, allow="all", again=[given[0].id])
            go_on.set()
            first = sending.result()
        assert meanwhile.run_id == first.run_id
        assert first.counts() == {"succeeded": 1}
        # After it came to its end.
        assert plans[2].run().counts() == {"succeeded": 1}
        assert late.run().counts() == {"succeeded": 1}
        rows = lab.sql("select status from replays order by status").fetchall()
        assert rows == [("abandoned",), ("succeeded",)]
    assert sent(calls) == [0, 0]


def test_threads_that_begin_to_send_again_at_once_send_each_call_once() -> None:
    server, calls = counting_server()
    ready = threading.Barrier(4)
    with lab_of(*(given := events(10))) as lab:
        lab.plan_replay(given, server, allow="all").run()
        for event in given:
            lose_the_answer(lab, event)
        again = [event.id for event in given]
        plans = [lab.plan_replay(given, server, allow="all", again=again) for _ in range(3)]
        # One plan of two threads is no other case.
        plans.append(plans[0])

        def run(plan: Any) -> None:
            ready.wait(30)
            plan.run()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run, plans))
        # Somebody decides anew: it is sent anew.
        lose_the_answer(lab, given[3])
        lab.plan_replay(given[3:4], server, allow="all", again=[given[3].id]).run()
    assert sorted(sent(calls)) == sorted([*range(10), *range(10), 3])


def test_an_edited_call_is_left_to_whoever_sends_its_event_again_first() -> None:
    server, calls = counting_server()
    with lab_of(*(given := events(1))) as lab:
        lab.plan_replay(given, server, allow="all").run()
        lose_the_answer(lab, given[0])
        again = [given[0].id]
        first = lab.plan_replay(given, server, allow="all", again=again)
        edited = lab.plan_replay(given, server, allow="all", again=again, edit={"n": 7})
        first.run()
        run = edited.run()
        assert run.counts() == {"refused": 1}
        assert "make a new plan" in run.states[0].detail
        lab.plan_replay(given, server, allow="all", again=again, edit={"n": 7}).run()
    assert sent(calls) == [0, 0, 7]
