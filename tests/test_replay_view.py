"""Replay plans and runs as a notebook shows them."""

from __future__ import annotations

from dataclasses import replace

from mcpaudit_lab import Event, Lab, Payload
from mcpaudit_lab.calls.answers import ReplayStatus
from mcpaudit_lab.server import demo_server


def event_of(number: int, tool: str, params: object) -> Event:
    payload = Payload.build(
        jsonrpc_method="tools/call",
        request_params=params,
        response_result={"content": [{"type": "text", "text": "x"}], "isError": False},
    )
    return Event.build(
        id=f"00000000-0000-4000-8000-{number:012d}",
        timestamp="2026-11-24T03:00:00Z",
        tool_name=tool,
        success=True,
        content_blocks=1,
    ).with_payload(payload)


def test_a_plan_and_its_run_show_verdicts_reasons_and_answers() -> None:
    with Lab() as lab:
        events = [event_of(n, "echo", {"message": f"m{n}"}) for n in range(20)]
        events += [event_of(20, "echo", {"message": "[redacted]"}), event_of(21, "error", {})]
        lab.add_events(events, kind="tail", name="x")
        plan = lab.plan_replay(lab.events(), target=demo_server(), allow={"echo"})
        html = plan._repr_html_()
        for part in ("Plan for 22 calls", "20 ready", "2 refused", "1 redacted", "… 7 more"):
            assert part in html
        run = plan.run(limit=18, progress=False)
        html = run._repr_html_()
        for part in ("Run of 20 calls", "18 succeeded", "2 waiting", "changed", "… 5 more"):
            assert part in html
        run.put(replace(run.states[0], status=ReplayStatus.UNCERTAIN))
        run.stopped = "by hand"
        html = run._repr_html_()
        assert "stopped: by hand" in html
        assert "no outcome known: 1 event sent, and maybe run" in html
