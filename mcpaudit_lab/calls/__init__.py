"""One captured call as something that could be sent again.

Input: an event. Output: the arguments that would be sent, why it must not be sent, what became of
a call that was, and how fast calls may follow each other. Nothing here sends anything.
"""

from mcpaudit_lab.calls.answers import MAX_ANSWER_BYTES, Answer, ReplayStatus, event_of
from mcpaudit_lab.calls.arguments import ALL_DIALECTS, Edit, Outgoing, Secrets, prepare
from mcpaudit_lab.calls.pace import DEFAULT_PACE, Pace, Pacer, parse_pace
from mcpaudit_lab.calls.ratelimit import (
    Bucket,
    RateLimiter,
    TokenBuckets,
    Verdict,
    check_budget,
    idle_limit_s,
)
from mcpaudit_lab.calls.refusals import (
    PlanVerdict,
    Refusal,
    RefusalReason,
    not_captured,
    not_whole,
    refuse_event,
)
from mcpaudit_lab.calls.scrubbing import Scrubber, scrubbed_logs
from mcpaudit_lab.calls.tools import ToolFacts, facts_of, schema_check

__all__ = [
    "ALL_DIALECTS",
    "DEFAULT_PACE",
    "MAX_ANSWER_BYTES",
    "Answer",
    "Bucket",
    "Edit",
    "Outgoing",
    "Pace",
    "Pacer",
    "PlanVerdict",
    "RateLimiter",
    "Refusal",
    "RefusalReason",
    "ReplayStatus",
    "Scrubber",
    "Secrets",
    "TokenBuckets",
    "ToolFacts",
    "Verdict",
    "check_budget",
    "event_of",
    "facts_of",
    "idle_limit_s",
    "not_captured",
    "not_whole",
    "parse_pace",
    "prepare",
    "refuse_event",
    "schema_check",
    "scrubbed_logs",
]
