"""The tools of the demonstration server."""

from mcpaudit_lab.server.tools.demo import demo_server, demo_tool_groups, demo_tools
from mcpaudit_lab.server.tools.tool import DemoTool

__all__ = ["DemoTool", "demo_server", "demo_tool_groups", "demo_tools"]
