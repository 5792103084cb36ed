"""Calling captured calls again: planned first, limited, and refused where a value was redacted."""

from mcpaudit_lab.replay.answers import ReplayStatus
from mcpaudit_lab.replay.mcp_target import McpTarget
from mcpaudit_lab.replay.noise import Noise
from mcpaudit_lab.replay.pace import Pace
from mcpaudit_lab.replay.plan import PlanItem, ReplayPlan
from mcpaudit_lab.replay.planning import Allowed
from mcpaudit_lab.replay.portal_target import PortalTarget
from mcpaudit_lab.replay.refusals import PlanVerdict, Refusal, RefusalReason
from mcpaudit_lab.replay.run import ReplayRun
from mcpaudit_lab.replay.targets import Target

__all__ = [
    "Allowed",
    "McpTarget",
    "Noise",
    "Pace",
    "PlanItem",
    "PlanVerdict",
    "PortalTarget",
    "Refusal",
    "RefusalReason",
    "ReplayPlan",
    "ReplayRun",
    "ReplayStatus",
    "Target",
]
