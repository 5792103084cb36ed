"""Calling captured calls again: planned first, limited, resumed, compared.

Input: events and a target. Output: a plan with a verdict for each event, and a run with what
became of each call. Targets are portals and MCP servers of any kind.
"""

from mcpaudit_lab.replay.check import CaseResult, check_noise, check_run, junit_xml
from mcpaudit_lab.replay.mcp_target import McpTarget
from mcpaudit_lab.replay.noise import Noise
from mcpaudit_lab.replay.plan import PlanItem, PlannedReplay
from mcpaudit_lab.replay.planning import Allowed, AllowLike, EventsLike, ReplayPlan, make_plan
from mcpaudit_lab.replay.portal_target import PortalTarget
from mcpaudit_lab.replay.run import ReplayRun
from mcpaudit_lab.replay.targets import Target, TargetLike

__all__ = [
    "AllowLike",
    "Allowed",
    "CaseResult",
    "EventsLike",
    "McpTarget",
    "Noise",
    "PlanItem",
    "PlannedReplay",
    "PortalTarget",
    "ReplayPlan",
    "ReplayRun",
    "Target",
    "TargetLike",
    "check_noise",
    "check_run",
    "junit_xml",
    "make_plan",
]
