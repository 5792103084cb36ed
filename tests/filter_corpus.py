"""Events and filters with the answers, for every target: Python, DuckDB, SQLite, PostgreSQL.

The answers are written by hand, by label. Each case looks at the whole corpus, so an event of one
group that a case of another selects by mistake is seen too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.record import Event
from mcpaudit_lab.record.jsontext import loads

__all__ = ["CASES", "EVENTS", "LABELS", "Case"]

EVENTS: dict[str, Event] = {}
DEPTH = 1500
DEEP_PATH = ("deep",) + ("a",) * DEPTH


@dataclass(frozen=True)
class Case:
    """A filter and the labels of the events that it selects.

    ``portal`` says it for a portal's own tables, where their columns hold less than the lab's.
    """

    name: str
    labels: frozenset[str]
    keywords: dict[str, Any] = field(default_factory=dict)
    query: str | None = None
    portal: frozenset[str] | None = None

    @property
    def filter(self) -> EventFilter:
        if self.query is not None:
            return EventFilter.from_query(self.query)
        return EventFilter(**self.keywords)


CASES: list[Case] = []


def _event(label: str, payload: dict[str, Any] | None = None, **members: Any) -> None:
    number = len(EVENTS) + 1
    wire: dict[str, Any] = {
        "id": f"00000000-0000-4000-8000-{number:012x}",
        "timestamp": f"2026-11-24T00:{number // 60:02}:{number % 60:02}Z",
        "duration_ms": 1,
        "tool_name": "corpus",
        "success": True,
        "transport": "http",
        "source": "mcp",
        **members,
    }
    if payload is not None:
        wire["payload"] = payload
    EVENTS[label] = Event(wire)


def _params(label: str, text: str) -> None:
    _event(label, {"jsonrpc_method": "tools/call", "request_params": loads(text)})


def _case(name: str, labels: str, **keywords: Any) -> None:
    CASES.append(Case(name, frozenset(labels.split()), keywords))


def _param(name: str, labels: str, path: str | tuple[str, ...], value: Any) -> None:
    _case(name, labels, params={path: value})


def _query(name: str, labels: str, query: str) -> None:
    CASES.append(Case(name, frozenset(labels.split()), query=query))


# --- numbers, booleans, strings, null -------------------------------------------------------------

_params("int", '{"code": 200}')
_params("float", '{"code": 200.0}')
_params("exponent", '{"code": 2e2}')
_params("half", '{"code": 200.5}')
_params("digits", '{"code": "200"}')
_params("digits-quoted", '{"code": "\\"200\\""}')
_params("true", '{"flag": true}')
_params("one", '{"flag": 1}')
_params("true-text", '{"flag": "true"}')
_params("false", '{"flag": false}')
_params("zero", '{"flag": 0}')
_params("minus-zero", '{"flag": -0.0}')
_params("tiny", '{"flag": 1e-400}')
_params("null", '{"nick": null}')
_params("null-text", '{"nick": "null"}')
_params("empty-text", '{"nick": ""}')
_params("empty-object", '{"nick": {}}')
_params("empty-list", '{"nick": []}')
_params("nick-inside", '{"nick": {"nick": null}}')

_param("an int is every spelling of the number", "int float exponent", "code", 200)
_param("a float too", "int float exponent", "code", 200.0)
_param("a decimal too", "int float exponent", "code", Decimal("2.00E+2"))
_param("a fraction", "half", "code", 200.5)
_param("a string is no number", "digits", "code", "200")
_param("quotes are part of a string", "digits-quoted", "code", '"200"')
_param("True is true", "true", "flag", True)
_param("1 is not true", "one", "flag", 1)
_param("the text true", "true-text", "flag", "true")
_param("False is false", "false", "flag", False)
_param("0 is not false, nor a number too small for a double", "zero minus-zero", "flag", 0)
_param("a number too small for a double", "tiny", "flag", Decimal("1e-400"))
_param("None is null, not absent, not empty", "null", "nick", None)
_param("the text null", "null-text", "nick", "null")
_param("the empty text", "empty-text", "nick", "")
_query("a query's number", "int float exponent", "param.code=2e2")
_query("a query's plus", "int float exponent", "param.code=%2B200")
_query("a query's quotes", "digits", "param.code=%22200%22")
_query("a query's true", "true", "param.flag=true")
_query("a query has no null", "null-text", "param.nick=null")
_query("a query's quoted nothing", "empty-text", "param.nick=%22%22")

# --- numbers a double cannot hold -----------------------------------------------------------------

_params("2^53+1", '{"n": 9007199254740993}')
_params("2^53", '{"n": 9007199254740992.0}')
_params("2^53+1.0", '{"n": 9007199254740993.0}')
_params("2^63-1", '{"n": 9223372036854775807}')
_params("2^63", '{"n": 9223372036854775808}')
_params("-2^63", '{"n": -9223372036854775808}')
_params("2^64+1", '{"n": 18446744073709551617}')
_params("2^64", '{"n": 18446744073709551616.0}')
_params("1e400", '{"n": 1e400}')
_params("10e399", '{"n": 10e399}')
_params("1e401", '{"n": 1e401}')
_params("0.1", '{"n": 0.1}')
_params("0.10", '{"n": 0.10}')
_params("1e-1", '{"n": 1E-1}')
_params("0.1-and-a-bit", '{"n": 0.1000000000000000055511151231257827}')
_params("0.3", '{"n": 0.3}')
_params("0.30000000000000004", '{"n": 0.30000000000000004}')
_params("long-beside-short", '{"n": 7, "serial": 12345678901234567890123}')
_params("long-beside-float", '{"n": 7.0, "serial": 12345678901234567890123}')
_params("n-text", '{"n": "9007199254740993"}')

_param("one above 2^53", "2^53+1 2^53+1.0", "n", 9007199254740993)
_param("2^53", "2^53", "n", 9007199254740992)
_param("2^53 as a float", "2^53", "n", 9007199254740992.0)
_param("the largest of 64 bits", "2^63-1", "n", 2**63 - 1)
_param("one over 64 bits", "2^63", "n", 2**63)
_param("the smallest of 64 bits", "-2^63", "n", -(2**63))
_param("over 64 bits", "2^64+1", "n", 2**64 + 1)
_param("over 64 bits, as a float", "2^64", "n", 2**64)
_param("beyond a double", "1e400 10e399", "n", Decimal("1e400"))
_param("beyond a double, another", "1e401", "n", Decimal("1e401"))
_param("beyond PostgreSQL's numbers", "", "n", Decimal("1e200000"))
_param("beyond PostgreSQL's decimals", "", "n", Decimal("1e-20000"))
_param("0.1 is a decimal", "0.1 0.10 1e-1", "n", 0.1)
_param(
    "the double next to 0.1", "0.1-and-a-bit", "n", Decimal("0.1000000000000000055511151231257827")
)
_param("0.1 + 0.2", "0.30000000000000004", "n", 0.1 + 0.2)
_param("a short number beside a long one", "long-beside-short long-beside-float", "n", 7)
_query("a query's big integer", "2^53+1 2^53+1.0", "param.n=9007199254740993")
_query("a query's 1e400", "1e400 10e399", "param.n=1e400")
_query("a query's digits in quotes", "n-text", "param.n=%229007199254740993%22")

# --- paths ----------------------------------------------------------------------------------------

_params("nested", '{"user": {"id": "alice", "profile": {"age": 38}}}')
_params("dotted", '{"user.id": "alice"}')
_params("listed", '{"user": [{"id": "alice"}]}')
_params("roles-list", '{"roles": ["admin"]}')
_params("roles-text", '{"roles": "admin"}')
_params("zero-key", '{"items": {"0": "x"}}')
_params("zero-index", '{"items": ["x"]}')
_params("top-list", '["x"]')
_params("top-text", '"x"')
_params("top-zero", '{"0": "x"}')
_params(
    "big-index", '{"items": {"00": "y", "-": "z", "-1": "w", "#-1": "v", "*": "star", "?": "q"}}'
)
_params("cased", '{"User": {"ID": "alice"}}')
_params("deep", '{"deep": ' + '{"a": ' * DEPTH + '"bottom"' + "}" * DEPTH + "}")
_params("deep-list", '{"nick": "beside", "deep": ' + "[" * DEPTH + "]" * DEPTH + "}")

_param("a dotted path goes down", "nested", "user.id", "alice")
_param("a tuple says a key with a dot", "dotted", ("user.id",), "alice")
_param("three levels", "nested", "user.profile.age", 38)
_param("an object is no value", "", "user.profile", "38")
_param("an element is not its list", "roles-text", "roles", "admin")
_param("digits are a key", "zero-key", "items.0", "x")
_param("digits are a key at the top", "top-zero", "0", "x")
_param("two zeros", "big-index", "items.00", "y")
_param("a hyphen", "big-index", "items.-", "z")
_param("minus one", "big-index", "items.-1", "w")
_param("SQLite's last", "big-index", ("items", "#-1"), "v")
_param("a star is no wildcard", "big-index", "items.*", "star")
_param("a question mark", "big-index", "items.?", "q")
_param("a star finds nothing else", "", "items.*", "x")
_param("case counts in keys", "cased", "User.ID", "alice")
_param("the bottom", "deep", DEEP_PATH, "bottom")
_param("beside the depth", "deep-list", "nick", "beside")
_param("below a text", "", "roles.0", "a")

# --- keys -----------------------------------------------------------------------------------------

KEYS = {
    "quote": 'a"b',
    "two quotes": '"a"',
    "backslash": "a\\b",
    "slash": "a/b",
    "tilde": "a~b",
    "tilde one": "a~1b",
    "tilde zero": "a~0b",
    "percent": "100%",
    "dollar": "$",
    "dollar f0": "$f0",
    "colon f0": ":f0",
    "question": "?",
    "pyformat": "%(f0)s",
    "apostrophe": "it's",
    "brackets": "[0]",
    "space": " ",
    "empty": "",
    "accent": "café",
    "combining": "cafe\u0301",
    "emoji": "🚀",
    "newline": "a\nb",
    "NUL": "a\x00b",
    "delete": "a\x7fb",
    "separator": "a\u2028b",
    "sql": '"] or 1=1 --',
    "semicolon": "'; drop table audit_events; --",
    "surrogate": "a\ud800b",
    "replaced": "a\ufffdb",
}
for _name, _key in KEYS.items():
    _event(
        f"key-{_name.replace(' ', '-')}",
        {"jsonrpc_method": "tools/call", "request_params": {"keys": {_key: f"at {_name}"}}},
    )
    _param(f"key: {_name}", f"key-{_name.replace(' ', '-')}", ("keys", _key), f"at {_name}")
    _param(f"key: {_name}, another value", "", ("keys", _key), "elsewhere")
_event(
    "keys-unescaped",
    {
        "jsonrpc_method": "tools/call",
        "request_params": {"keys": {"a": {"b": "at slash"}, "caf\\u00e9": "at accent"}},
    },
)

# --- strings --------------------------------------------------------------------------------------

STRINGS = {
    "apostrophe": "it's",
    "quote": 'say "hi"',
    "lone quote": '"',
    "backslash": "C:\\temp",
    "escape": "\\u0041",
    "percent": "100%",
    "underscore": "a_b",
    "accent": "é",
    "combining": "e\u0301",
    "upper accent": "É",
    "emoji": "👩\u200d👩\u200d👧",
    "astral": "😀",
    "html": "<b>&amp;</b>",
    "newline": "a\nb",
    "tab": "a\tb",
    "control": "a\x01b",
    "separator": "a\u2028b",
    "NUL": "a\x00b",
    "NUL end": "a\x00",
    "before NUL": "a",
    "surrogate": "\ud800",
    "replacement": "\ufffd",
    "spaces": "  ",
    "sql": "' or 1=1 --",
    "pyformat": "%(f0)s",
    "dollar f0": "$f0",
    "colon f0": ":f0",
    "json": '{"a":1}',
    "long": "x" * 5000,
    "zero": "0",
    "infinity": "Infinity",
}
for _name, _text in STRINGS.items():
    _event(
        f"text-{_name.replace(' ', '-')}",
        {"jsonrpc_method": "tools/call", "response_result": {"said": _text}},
    )
    _case(f"text: {_name}", f"text-{_name.replace(' ', '-')}", responses={"said": _text})

# --- headers --------------------------------------------------------------------------------------


def _headers(label: str, **headers: Any) -> None:
    wire = {name.replace("_", "-"): values for name, values in headers.items()}
    _event(label, {"jsonrpc_method": "tools/call", "request_headers": wire})


_headers("curl", User_Agent=["curl/8"], X_Multi=["one", "two"], X_Count=["42"])
_headers("curl-lower", **{"user-agent": ["curl/8"]})
_headers("header-text", X_Multi="one")
_headers("header-inner", X_Multi=[["one"], {"one": "one"}, None, 1, "oneself"])
_headers("header-object", X_Multi={"one": "one"})
_headers("header-number", X_Count=[42])
_headers("header-empty", X_Empty=[""])
_headers("header-quote", X_Quote=['a"b', "a\x00b", "a\\b"])
_headers("header-odd", **{"X Odd": ["odd"], "a.b": ["dot"], "é": ["accent"], '"': ["quoted"]})

_case("a header in any case", "curl", headers={"user-agent": "curl/8"})
_case("the second value", "curl", headers={"X-MULTI": "two"})
_case("only a value of a list", "curl", headers={"x-multi": "one"})
_case("an object in a list of values", "", headers={"x-multi": '{"one":"one"}'})
_case("header values are text", "curl", headers={"X-Count": "42"})
_query("header values are text in a query", "curl", "header.x-count=42")
_query("two headers", "curl", "header.x-multi=one&header.x-multi=two")
_query("two headers, one missing", "", "header.x-multi=one&header.x-multi=three")
_query("quotes are kept in a header", "", "header.x-count=%2242%22")
_case("an empty header", "header-empty", headers={"X-Empty": ""})
_case("a quote in a header", "header-quote", headers={"X-Quote": 'a"b'})
_case("NUL in a header", "header-quote", headers={"X-Quote": "a\x00b"})
_case("what is before NUL in a header", "", headers={"X-Quote": "a"})
_case("a backslash in a header", "header-quote", headers={"X-Quote": "a\\b"})
_case("a name that is no token", "header-odd", headers={"X Odd": "odd"})
_case("a name with a dot", "", headers={"a.b": "dot"})
_case("a name outside ASCII", "header-odd", headers={"é": "accent"})
_case("a name that is a quote", "header-odd", headers={'"': "quoted"})
_case("a header with a surrogate", "", headers={"X-Multi": "\udc00"})

# --- has ------------------------------------------------------------------------------------------

_ORIGINAL = next(iter(EVENTS.values())).id
_event("no-payload", None, tool_name="bare")
_event("empty-payload", {}, tool_name="has")
_event(
    "has-nothing",
    {
        "request_params": {},
        "request_headers": {},
        "response_result": "",
        "response_error": None,
        "notifications": [],
        "replayed_from": "",
    },
    tool_name="has",
)
_event(
    "has-all",
    {
        "request_params": {"a": {}},
        "request_headers": {"A": []},
        "response_result": {"isError": True},
        "response_error": {"message": ""},
        "notifications": [{"method": "m"}],
        "replayed_from": _ORIGINAL,
    },
    tool_name="has",
)
_event("has-falsy", {"request_params": 0, "response_result": False}, tool_name="has")

_case("has params", "has-all has-falsy", tool="has", has="request_params")
_case("has headers", "has-all", tool="has", has="request_headers")
_case("has a result", "has-all has-falsy", tool="has", has="response_result")
_case("has an error", "has-all", has="response_error")
_case("has notifications", "has-all", has=["notifications"])
_case("was replayed", "has-all", has="replayed_from")
_case("has both", "has-all", has=("notifications", "replayed_from"))
_query("has both, by query", "has-all", "has=notifications&has=replayed_from")
_case("isError", "has-all", **{"response.isError": True})
_case("no payload", "no-payload", tool="bare")

# --- the summary ----------------------------------------------------------------------------------

_event(
    "echo-alice",
    tool_name="echo",
    tool_group="identity",
    user_subject="alice",
    session_id="S1",
    auth_type="oidc",
    duration_ms=10,
)
_event(
    "echo-bob",
    tool_name="echo",
    tool_group="identity",
    user_subject="apikey:bob",
    session_id="S2",
    auth_type="apikey",
    success=False,
    error_category="tool",
    source="portal-tryit",
    duration_ms=500,
)
_event(
    "lorem-alice",
    tool_name="lorem",
    tool_group="data",
    user_subject="alice",
    session_id="S1",
    auth_type="oidc",
    success=False,
    error_category="handler",
    error_message='tool "lorem" is 100% broken_',
    duration_ms=2**40,
)
_event("slow", tool_name="slow", duration_ms=10**25, user_subject="Échos de ΣΊΣΥΦΟΣ")
_event("sql", tool_name="'; drop table audit_events; --", user_subject="%' or 1=1")
_event("nul-tool", tool_name="nul\x00tool")
_event("surrogate-tool", tool_name="sur\ud800tool")
_event("replaced-tool", tool_name="sur\ufffdtool")

_case("a tool", "echo-alice echo-bob", tool="echo")
_case("a tool in another case", "", tool="ECHO")
_case("tools", "echo-alice echo-bob lorem-alice", tool=["echo", "lorem"])
_query("tools by query", "echo-alice echo-bob lorem-alice", "tool=echo&tool=lorem&tool=")
_case("a tool and a user", "echo-alice", tool="echo", user="alice")
_case("a session", "echo-alice lorem-alice", session="S1")
_case("a group", "lorem-alice", tool_group="data")
_case("an authentication", "echo-bob", auth_type="apikey")
_case("a source", "echo-bob", source="portal-tryit")
_case("categories", "echo-bob lorem-alice", error_category=["tool", "handler"])
_case("no category", "echo-alice", tool=["echo", "lorem"], error_category="")
_case(
    "a category or none",
    "echo-alice lorem-alice",
    tool=["echo", "lorem"],
    error_category=["", "handler"],
)
_case("failed", "echo-bob lorem-alice", success=False, tool=["echo", "lorem"])
_case("succeeded", "echo-alice", tool=["echo", "lorem"], success=True)
_case("duration, inclusive", "echo-bob lorem-alice slow", min_duration_ms=500)
_case("duration over 32 bits", "lorem-alice slow", min_duration_ms=2**40)
CASES.append(
    Case(
        "duration over 64 bits",
        frozenset({"slow"}),
        {"min_duration_ms": 10**24},
        portal=frozenset(),
    )
)
_case("duration over all", "", min_duration_ms=10**26)
_case("SQL for a tool", "sql", tool="'; drop table audit_events; --")
_case("NUL in a tool", "nul-tool", tool="nul\x00tool")
_case("a surrogate in a tool", "surrogate-tool", tool="sur\ud800tool")
_case("what takes its place", "replaced-tool", tool="sur\ufffdtool")

# --- q --------------------------------------------------------------------------------------------

_event("q-percent", tool_name="q 50% off")
_event("q-underscore", tool_name="q under_score")
_event("q-backslash", tool_name="q back\\slash")
_event("q-accent", tool_name="q É")
_event("q-combining", tool_name="q E\u0301")
_event("q-sharp", tool_name="q STRASSE")
_event("q-eszett", tool_name="q straße")
_event("q-capital-eszett", tool_name="q STRAẞE")
_event("q-dotted", tool_name="q İstanbul")
_event("q-dotless", tool_name="q \u0131sparta")
_event("q-final", tool_name="q λόγος")
_event("q-sigma", tool_name="q ΛΌΓΟΣ")
_event("q-kelvin", tool_name="q 4\u212a")
_event("q-long-s", tool_name="q \u017fun")
_event("q-cyrillic", tool_name="q ПРИВЕТ")
_event("q-angstrom", tool_name="q \u212bngstr\u00f6m")
_event("q-titlecase", tool_name="q \u01c5")
_event("q-cherokee", tool_name="q \u13a0\uab70")
_event("q-deseret", tool_name="q \U00010400")
_event("q-nul", tool_name="q nul\x00Middle")
_event("q-message", tool_name="x", error_message="Not Authenticated Q")
_event("q-user", tool_name="x", user_subject="apikey:CI-Runner")

_case("q: percent", "q-percent lorem-alice sql w-big", q="%")
_case("q: underscore", "q-underscore lorem-alice sql w-big", q="_")
_case("q: backslash", "q-backslash", q="\\")
_case("q: in a tool's name, any case", "echo-alice echo-bob", q="ECHO")
_case("q: in a message", "q-message", q="not auth")
_case("q: in a user", "q-user", q="ci-runner")
_case("q: a quote", "lorem-alice", q='"LOREM"')
_case("q: an accent", "q-accent", q="q é")
_case("q: an accent, upper", "q-accent", q="Q É")
_case("q: a combining accent", "q-combining", q="q e\u0301")
_case("q: the ss of STRASSE", "q-sharp", q="strasse")
_case("q: the ß of straße", "q-eszett q-capital-eszett", q="STRAßE")
_case("q: the ẞ of STRAẞE", "q-eszett q-capital-eszett", q="straẞe")
_case("q: a dotted capital is itself", "q-dotted", q="İSTANBUL")
_case("q: and not i", "", q="istanbul")
_case("q: nor dotless i", "q-dotless", q="\u0131SPARTA")
_case("q: three sigmas", "q-final q-sigma", q="ΛόγοΣ")
_case("q: a final sigma", "q-final q-sigma", q="λόγος")
_case("q: the Kelvin sign", "q-kelvin", q="4k")
_case("q: a Kelvin sign asked for", "q-kelvin", q="4\u212a")
_case("q: a long s", "q-long-s", q="SUN")
_case("q: Cyrillic", "q-cyrillic", q="привет")
_case("q: the Ångström sign", "q-angstrom", q="åNGSTRÖM")
_case("q: a titlecase letter", "q-titlecase", q="\u01c6")
_case("q: Cherokee", "q-cherokee", q="\uab70\u13a0")
_case("q: beyond the first plane", "q-deseret", q="\U00010428")
_case("q: after NUL", "q-nul", q="middle")
_case("q: over NUL", "q-nul", q="L\x00m")
_case("q: a surrogate", "surrogate-tool", q="SUR\ud800")
_case("q: no pattern", "", q="q.*")
_case("q: every sigma", "slow q-final q-sigma", q="ς")

# --- time -----------------------------------------------------------------------------------------

_event("t-zone", timestamp="2026-11-25T05:30:00.5+05:30", tool_name="time")
_event("t-utc", timestamp="2026-11-25T00:00:00.500000Z", tool_name="time")
_event("t-nanos", timestamp="2026-11-25T00:00:00.500000999Z", tool_name="time")
_event("t-later", timestamp="2026-11-25T00:00:00.500001Z", tool_name="time")
_event("t-first", timestamp="0001-01-01T00:00:00Z", tool_name="time")
_event("t-last", timestamp="9999-12-31T23:59:59.999999Z", tool_name="time")

_TIMES = "t-zone t-utc t-nanos"
_case("from, inclusive", f"{_TIMES} t-later t-last", tool="time", from_="2026-11-25T00:00:00.5Z")
_case(
    "from, in another zone",
    f"{_TIMES} t-later t-last",
    tool="time",
    from_="2026-11-24T19:00:00.5-05:00",
)
_case(
    "to, inclusive, cut to microseconds",
    f"{_TIMES} t-first",
    tool="time",
    to="2026-11-25T00:00:00.500000000Z",
)
_case("one moment", _TIMES, from_="2026-11-25T00:00:00.5Z", to="2026-11-25T00:00:00.5Z")
_case(
    "one moment, more exact than it is kept",
    _TIMES,
    from_="2026-11-25T00:00:00.5000009Z",
    to="2026-11-25T00:00:00.5000009Z",
)
_case("to before from", "", from_="2026-11-25T00:00:00Z", to="2026-11-24T00:00:00Z")
_case("the first moment", "t-first", to="0001-01-01T00:00:00Z")
_case("the last moment", "t-last", from_="9999-12-31T23:59:59.999999Z")
_query("the year 0", f"{_TIMES} t-first t-later t-last", "tool=time&from=0000-01-01T00:00:00Z")
_query(
    "an encoded offset", "t-later t-last", "tool=time&from=2026-11-25T02%3A00%3A00.500001%2B02:00"
)

# --- conditions with and, or, not -----------------------------------------------------------------


def _where(name: str, labels: str, where: str, **more: Any) -> None:
    _case(f"where: {name}", labels, tool="w", where=where, **more)


def _w(label: str, params: Any = None, **members: Any) -> None:
    headers = members.pop("headers", None)
    payload = None if params is None else {"request_params": {"w": params}, "request_size_bytes": 9}
    if headers:
        payload = {**(payload or {}), "request_headers": headers}
    _event(label, payload, **{"tool_name": "w", **members})


_w("w-bare")
_w("w-one", {"n": 1, "s": "disk FULL", "list": [5], "o": {"0": 7}}, user_subject="ann")
_w("w-five", {"n": 5, "s": "a", "x": None}, user_subject="bob", duration_ms=300)
_w("w-half", {"n": loads("5.5"), "s": "a\nb*"}, user_subject="ann", success=False)
_w("w-text", {"n": "5", "s": "\u00c9t\u00e9"}, error_message="Time OUT\nlater", success=False)
_w("w-big", {"n": loads("9007199254740993")}, error_message="50% of a_b", duration_ms=201)
_w("w-huge", {"n": loads("1e400")}, error_message="a\x00b")
_w("w-head", {"h": 1}, headers={"X-Kind": ["alpha", "Beta"]}, session_id="s^1")
_event("w-text-header", {"request_headers": {"X-Kind": "alphabet"}}, tool_name="w2")
_case("where: a header that is no list", "", tool="w2", where="header.x-kind ~ alpha")
_case("where: such a header, not", "w-text-header", tool="w2", where="header.x-kind !~ alpha")
_ALL_W = "w-bare w-one w-five w-half w-text w-big w-huge w-head"


def _but(*labels: str) -> str:
    return " ".join(label for label in _ALL_W.split() if label not in labels)


_where("not equal", _but("w-one", "w-half"), "user != ann")
_where("not in a list", _but("w-one", "w-half", "w-five"), "user not in [ann, bob]")
_where("in a list", "w-one w-half w-five", "user in (ann, bob)")
_where("empty", _but("w-one", "w-half", "w-five"), 'user = ""')
_where("not empty", "w-one w-half w-five", "user")
_where("and, or, parentheses", "w-half w-text w-five w-big", "not success or duration_ms > 200")
_where("and before or", "w-half w-five", "duration_ms >= 300 or user = ann and not success")
_where("parentheses first", "w-half", "(duration_ms >= 300 or user = ann) and not success")
_where("not over and", _but("w-one"), "not (user = ann and success)")
_where("integers", "w-big", "duration_ms > 200.5 and duration_ms < 300")
_where("an integer is not a half", "", "duration_ms = 1.5")
_where("an integer is not a half, negated", _ALL_W, "duration_ms != 1.5")
_where("at least below zero", _ALL_W, "duration_ms >= -5")
_where("beyond 64 bits", "", "duration_ms > 99999999999999999999")
_where("not beyond 64 bits", _ALL_W, "duration_ms <= 99999999999999999999")
_where("a size", "w-one w-five w-half w-text w-big w-huge w-head", "request_size_bytes > 8")
_where("a number at a path", "w-half w-five w-big w-huge", "param.w.n >= 5")
_where("after a number", "w-half w-big w-huge", "param.w.n > 5")
_where("before a number", "w-one", "param.w.n < 5")
_where("up to a number", "w-one w-five", "param.w.n <= 5.0")
_where("exactly after", "w-big w-huge", "param.w.n > 9007199254740992")
_where("exactly not after", "w-huge", "param.w.n > 9007199254740993")
_where("exactly from", "w-big w-huge", "param.w.n >= 9007199254740993")
_where("before a huge number", "w-one w-five w-half w-big", "param.w.n < 1e400")
_where("from a huge number", "w-huge", "param.w.n >= 1e400")
_where("a path not equal", _but("w-five"), "param.w.n != 5")
_where("a path not after", "w-bare w-one w-five w-text w-head", "not param.w.n > 5")
_where("a text is not a number", "w-text", 'param.w.n = "5"')
_where("texts in order", "w-text", 'param.w.n >= "5"')
_where("texts after NUL", "w-text w-one w-half w-five", 'param.w.s < "\\u0000"')
_where("texts after", "w-one w-half w-text", 'param.w.s > "a"')
_where("present", "w-five", "param.w.x")
_where("not present", _but("w-five"), "not param.w.x")
_where("null", "w-five", "param.w.x = null")
_where("not through a list", "", "param.w.list.0 >= 1")
_where("through a numeric key", "w-one", "param.w.o.0 >= 7")
_where("a numeric key is present", "w-one", "param.w.o.0")
_where("a numeric index is not", "", "param.w.list.0")
_where("contains, in any case", "w-one", 'param.w.s ~ "disk full"')
_where("contains, with an accent", "w-text", 'param.w.s ~ "\u00c9T\u00c9"')
_where("contains not", _but("w-one"), "param.w.s !~ DISK")
_where("glob at a path", "w-one", "param.w.s =~ disk*")
_where("a glob has case", "", "param.w.s =~ DISK*")
_where("a glob over lines", "w-half", "param.w.s =~ a?b?")
_where("a star in quotes is a star too", "w-half w-five", 'param.w.s =~ "a*"')
_where("contains in a column", "w-text", 'error_message ~ "time out"')
_where("contains nothing", _ALL_W, 'error_message ~ ""')
_where("glob in a column", "w-text", 'error_message =~ "Time*er"')
_where("percent and underscore", "w-big", 'error_message =~ "50% of a_b"')
_where("percent is no sign", "w-big", 'error_message =~ "*%*"')
_where("underscore is no sign", "w-big", "error_message =~ *a_b")
_where("a caret", "w-head", 'session =~ "s^*"')
_where("a glob for all", _ALL_W, "error_message =~ *")
_where("one character", "", "error_message =~ ?")
_where("over a NUL", "w-huge", "error_message =~ a?b")
_where("a header", "w-head", "header.x-kind = Beta")
_where("a header not", _but("w-head"), "header.x-kind != Beta")
_where("a header contains", "w-head", "header.x-kind ~ BET")
_where("a header by glob", "w-head", "header.x-kind =~ alp?a")
_where("a header is there", "w-head", "header.X-Kind")
_where("a header by glob, none", "", "header.x-kind =~ beta")
_where("an id", "w-one", f"id = {EVENTS['w-one'].id.upper()}")
_where("an id's end", "w-one", f"id =~ *{EVENTS['w-one'].id[-4:]}")
_where("a time", "w-one", f"time = {EVENTS['w-one'].wire['timestamp']}")
_where("after a time", _but("w-bare", "w-one"), f"time > {EVENTS['w-one'].wire['timestamp']}")
_where("not that day", "", "time != 2026-11-24")
_where("q", "w-text", "q = OUT")
_where("not q", _but("w-text"), "not q = OUT")
_where("has", _but("w-bare"), "request_params")
_where("has not", "w-bare", "not request_params")
_where("a lossy text", "", 'error_message = "\\ud800"')
_where("not a lossy text", _ALL_W, 'error_message != "\\ud800"')
_where("not a lossy path", _ALL_W, 'param.w.s != "\\ud800"')
_case("keyword: not", _but("w-one", "w-half"), tool="w", user__not="ann")
_case(
    "keyword: not of several", _but("w-one", "w-half", "w-five"), tool="w", user__not=["ann", "bob"]
)
_case("keyword: more", "w-five w-big", tool="w", duration_ms__gt=200)
_case("keyword: at a path", "w-half w-five w-big w-huge", tool="w", **{"param.w.n__ge": 5})
_case(
    "keyword: glob and contains",
    "w-text",
    tool="w",
    error_message__glob="T*",
    error__contains="OUT",
)
_query("query: where", "w-half", "tool=w&where=user%20%3D%20ann%20and%20not%20success")

# --- together -------------------------------------------------------------------------------------

_case(
    "everything at once",
    "has-all",
    tool=["has", "none"],
    success=True,
    q="HAS",
    min_duration_ms=1,
    has=["notifications", "request_params"],
    responses={"isError": True},
    from_="2026-11-24T00:00:00Z",
    to="2026-11-25T00:00:00Z",
    source="mcp",
)
_query(
    "blank fields ask nothing",
    "no-payload",
    "tool=bare&user=&success=&q=&from=&param.a=&has=&limit=",
)
_case("nothing asked, paging aside", " ".join(EVENTS), limit=0, offset=5)

LABELS = {event.id: label for label, event in EVENTS.items()}
