"""Calling captured calls again: planned first, limited, and refused where a value was redacted."""

from mcpaudit_lab.replay.noise import Noise
from mcpaudit_lab.replay.pace import Pace
from mcpaudit_lab.replay.plan import PlanItem, ReplayPlan
from mcpaudit_lab.replay.refusals import PlanVerdict, Refusal, RefusalReason
from mcpaudit_lab.replay.run import ReplayRun
from mcpaudit_lab.replay.targets import Target

__all__ = [
    "Noise",
    "Pace",
    "PlanItem",
    "PlanVerdict",
    "Refusal",
    "RefusalReason",
    "ReplayPlan",
    "ReplayRun",
    "Target",
]
