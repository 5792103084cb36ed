"""The recorder: stands between an MCP client and a server of any kind, and stores each tool call.

It passes every byte unchanged (:mod:`.stdio`, :mod:`.http`), reads along (:mod:`.reading`,
:mod:`.skim`, :mod:`.calls`), and stores a call before it is sent on (:mod:`.stores`). What it stores
are the events of :mod:`mcpaudit_lab.events`. :mod:`.configuration` puts it into a client's settings.
"""
