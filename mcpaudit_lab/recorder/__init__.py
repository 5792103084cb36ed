"""The recorder: stands between an MCP client and a server of any kind, and stores each tool call.

It passes every byte unchanged (:mod:`.stdio`, :mod:`.http`), reads along (:mod:`.reading`,
:mod:`.skim`, :mod:`.calls`), and stores a call before it is sent on (:mod:`.keeping`,
:mod:`.stores`, :mod:`.lines`). It stores events of :mod:`mcpaudit_lab.events`. A client's
configuration is edited by :mod:`.configuration`.
"""
