"""What a tail asks its portal for: the whole of an event, and a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcpaudit_lab.calls import Refusal
    from mcpaudit_lab.portal import PortalClient
    from mcpaudit_lab.record import Event

__all__ = ["replay_refusal", "whole_event"]


def whole_event(portal: PortalClient | None, event: Event) -> Event:
    """The event with its payload from the portal; unchanged without a portal.

    Frames of the reference server's stream have no id: the event is then looked for by its time,
    tool and request, and is as it was if none is found.

    Raises:
        PortalError: the portal cannot say.
    """
    if portal is None:
        return event
    if event.id:
        return portal.event(event.id)
    moment = event.timestamp
    for found in portal.events(tool=event.tool_name or None, from_=moment, to=moment):
        if found.request_id == event.request_id:
            return portal.event(found.id)
    return event


def replay_refusal(portal: PortalClient, event: Event) -> Refusal | None:
    """Why the portal must not call an event again, as in a plan; None if it may.

    A tool that its server says destroys is such a reason, ``destructive``: a person may overrule
    it, and no other.

    Args:
        portal: the portal; asked for its tools and its copy of the event. No tool is called.
        event: the event with its payload.

    Raises:
        PortalError: the portal does not answer.
        ReplayError: the event has no id.
    """
    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.replay import make_plan

    with Lab() as scratch:
        items = make_plan(scratch, [event], portal, allow="all").items
    return items[0].refusal
