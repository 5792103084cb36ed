"""What a tail asks its portal for: the whole of an event, and a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.redaction import redacted_paths

if TYPE_CHECKING:
    from mcpaudit_lab.client.portal import PortalClient
    from mcpaudit_lab.events import Event

__all__ = ["replay_refusal", "whole_event"]


def whole_event(portal: PortalClient | None, event: Event) -> Event:
    """The event with its payload, as the portal has it; as it is where there is nobody to ask.

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


def replay_refusal(event: Event) -> str:
    """Why the event must not be called again, for a person; empty where nothing speaks against it.

    Args:
        event: the event with its payload.
    """
    payload = event.payload
    if payload is None:
        return "its request was not kept"
    if payload.request_truncated:
        return "its request was too big to keep"
    if redacted_paths(payload.request_params):
        return "its arguments were redacted"
    return ""
