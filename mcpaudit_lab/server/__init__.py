"""The audited portal: what records the tool calls of an MCP server, stores and serves them."""
