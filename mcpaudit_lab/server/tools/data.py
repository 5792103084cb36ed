"""Demonstration tools with predictable responses: by key, by size, by seed."""

from __future__ import annotations

import hashlib
import secrets
import string
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.server.tools.tool import DemoTool, ToolError, object_schema, tool_result

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp_types import CallToolResult

__all__ = ["DATA_TOOLS"]

_MAX_SIZE = 1_048_576
_MAX_WORDS = 100_000
_DEFAULT_WORDS = 50
_REPEATABLE = {"idempotentHint": True, "readOnlyHint": True}
_VOCABULARY = (
    "ad adipiscing aliqua aliquip amet anim aute cillum commodo consectetur consequat culpa "
    "cupidatat deserunt do dolor dolore duis ea eiusmod elit enim esse est et ex excepteur "
    "exercitation fugiat id in incididunt ipsum irure labore laboris laborum lorem magna minim "
    "mollit nisi non nostrud nulla occaecat officia pariatur proident quis qui reprehenderit sed "
    "sint sit sunt tempor ullamco ut velit veniam voluptate"
)
_WORDS = tuple(_VOCABULARY.split())


async def _fixed_response(
    ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]
) -> CallToolResult:
    del ctx
    key = arguments["key"]
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return tool_result({"key": key, "hash": digest, "body": f"fixed[{key}]: {digest}"})


async def _sized_response(
    ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]
) -> CallToolResult:
    del ctx
    size = int(arguments["size"])
    if size < 0:
        raise ToolError(f"size must be >= 0, got {size}")
    if size > _MAX_SIZE:
        raise ToolError(f"size {size} exceeds max {_MAX_SIZE}")
    body = (string.ascii_lowercase * (size // 26 + 1))[:size]
    return tool_result({"size": size, "body": body})


async def _lorem(ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]) -> CallToolResult:
    del ctx
    words = int(arguments["words"])
    if words <= 0:
        words = _DEFAULT_WORDS
    if words > _MAX_WORDS:
        raise ToolError(f"words {words} exceeds max {_MAX_WORDS}")
    seed = arguments.get("seed") or secrets.token_hex(8)
    chosen = (_WORDS[_draw(seed, number) % len(_WORDS)] for number in range(words))
    return tool_result({"words": words, "body": " ".join(chosen).capitalize() + "."})


def _draw(seed: str, number: int) -> int:
    """A pseudo-random number that is stable across Python versions, unlike ``random``."""
    digest = hashlib.sha256(f"{seed}\0{number}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


DATA_TOOLS = (
    DemoTool(
        name="fixed_response",
        group="data",
        summary="Return a deterministic body for a given key. Same key, same body; every time.",
        description="Return a deterministic body derived from a key. Calling with the same key "
        "always returns the same body.",
        input_schema=object_schema(
            "key",
            key={
                "type": "string",
                "description": "key that selects the response body; same key always yields the "
                "same body",
            },
        ),
        output_schema=object_schema(
            "key",
            "hash",
            "body",
            key={"type": "string"},
            hash={"type": "string"},
            body={"type": "string"},
        ),
        annotations=_REPEATABLE,
        run=_fixed_response,
    ),
    DemoTool(
        name="sized_response",
        group="data",
        summary="Return exactly N bytes of deterministic content. For testing size limits and "
        "chunking.",
        description="Return exactly the requested number of characters. The body is the lowercase "
        "ASCII alphabet repeated; not random.",
        input_schema=object_schema(
            "size",
            size={
                "type": "integer",
                "description": "number of characters to return; must be >= 0",
            },
        ),
        output_schema=object_schema(
            "size", "body", size={"type": "integer"}, body={"type": "string"}
        ),
        annotations=_REPEATABLE,
        run=_sized_response,
    ),
    DemoTool(
        name="lorem",
        group="data",
        summary="Return seeded lorem-ipsum text. Same seed produces the same output.",
        description="Return N words of lorem-ipsum text. With a seed, output is deterministic; "
        "without one, every call differs.",
        input_schema=object_schema(
            "words",
            words={
                "type": "integer",
                "description": "number of words to generate; defaults to 50 when zero",
            },
            seed={
                "type": "string",
                "description": "optional seed; same seed gives the same output",
            },
        ),
        output_schema=object_schema(
            "words", "body", words={"type": "integer"}, body={"type": "string"}
        ),
        annotations={"readOnlyHint": True},
        run=_lorem,
    ),
)
