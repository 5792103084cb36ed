"""The parts of a demonstration tool: description, argument validation, results."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from mcp_types import CallToolResult, TextContent, Tool, ToolAnnotations

from mcpaudit_lab.record import dumps, wire_text

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

__all__ = ["DemoTool", "ToolError", "check_arguments", "object_schema", "text_block", "tool_result"]

Run: TypeAlias = (
    "Callable[[ServerRequestContext[Any, Any], dict[str, Any]], Awaitable[CallToolResult]]"
)

_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, Mapping),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    # JSON Schema counts 1.0 as an integer.
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    ),
}


class ToolError(Exception):
    """A tool failed, on request or because of its arguments. The message is the response."""


@dataclass(frozen=True, slots=True)
class DemoTool:
    """One tool of the demonstration server.

    Attributes:
        name: the tool's name.
        group: what it tests: ``identity``, ``data``, ``failure`` or ``streaming``.
        summary: one line for the portal's tool list.
        description: description for MCP clients.
        input_schema: JSON Schema of the arguments.
        run: runs a call with valid arguments; may raise :class:`ToolError`.
        output_schema: JSON Schema of the structured result; None if there is none.
        annotations: MCP annotations, by their JSON names.
    """

    name: str
    group: str
    summary: str
    description: str
    input_schema: dict[str, Any]
    run: Run
    output_schema: dict[str, Any] | None = None
    annotations: Mapping[str, bool] = field(default_factory=dict)

    def to_mcp(self) -> Tool:
        """The tool as ``tools/list`` shows it."""
        hints = ToolAnnotations.model_validate(self.annotations) if self.annotations else None
        return Tool(
            name=self.name,
            description=self.description,
            input_schema=self.input_schema,
            output_schema=self.output_schema,
            annotations=hints,
        )


def object_schema(*required: str, **properties: Any) -> dict[str, Any]:
    """JSON Schema of an object without additional properties.

    Args:
        *required: names of required properties.
        **properties: property name to schema.
    """
    schema: dict[str, Any] = {"type": "object"}
    if properties:
        schema["properties"] = properties
    if required:
        schema["required"] = list(required)
    return {**schema, "additionalProperties": False}


def check_arguments(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Validate arguments against a schema from :func:`object_schema`.

    Supports only what those schemas use: properties, their types, and which are required.

    Raises:
        ToolError: the arguments are invalid; the message is the reference server's.
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    where = 'validating "arguments": '
    if not _is_finite(arguments):
        raise ToolError(f"{where}a number is out of range")
    for name, rule in properties.items():
        if name in arguments and not _TYPES[rule["type"]](arguments[name]):
            found = _type_name(arguments[name])
            raise ToolError(
                f"{where}validating root: validating /properties/{name}: type: "
                f'{_brief(arguments[name])} has type "{found}", want "{rule["type"]}"'
            )
    missing = [name for name in schema.get("required", ()) if name not in arguments]
    if missing:
        raise ToolError(f"{where}validating root: required: missing properties: {dumps(missing)}")
    unknown = [name for name in arguments if name not in properties]
    if unknown:
        raise ToolError(
            f"{where}validating root: unexpected additional properties {dumps(unknown)}"
        )


def _is_finite(arguments: Mapping[str, Any]) -> bool:
    """Whether all numbers are finite: 1e400 is parsed as infinity."""
    left: list[Any] = list(arguments.values())
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            left.extend(value)
        elif isinstance(value, float) and not math.isfinite(value):
            return False
    return True


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return "array"
    order = ("string", "boolean", "object", "integer", "number")
    return next(name for name in order if _TYPES[name](value))


def _brief(value: Any) -> str:
    return "value" if isinstance(value, Mapping | list | tuple) else dumps(value)


def text_block(text: str) -> TextContent:
    """A content block of text."""
    return TextContent(type="text", text=text)


def tool_result(structured: dict[str, Any]) -> CallToolResult:
    """A successful result: structured content, and the same as JSON text."""
    return CallToolResult(
        content=[text_block(wire_text(structured))], structured_content=structured
    )
