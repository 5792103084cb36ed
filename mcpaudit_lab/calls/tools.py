"""What a target says of its tools: what they take, and what they claim to do.

Annotations are claims of the server. They decide nothing here but what the user lets them decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from mcpaudit_lab.comparison import format_path
from mcpaudit_lab.record import JsonDecimal, ToolDefinition

__all__ = ["ToolFacts", "facts_of", "schema_check"]

_MISFITS_MAX = 5


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """One tool, as its server lists it.

    Attributes:
        name: its name.
        schema: its input schema, or None if it is not known.
        annotations: its annotations, or None if it is not known whether it has any.
        definition: the whole definition, or None if it is not known.
    """

    name: str
    schema: Mapping[str, Any] | None = field(default=None, repr=False)
    annotations: Mapping[str, Any] | None = None
    definition: ToolDefinition | None = field(default=None, repr=False)

    @property
    def read_only(self) -> bool:
        """Whether it claims to change nothing."""
        return self._claims("readOnlyHint") is True

    @property
    def repeatable(self) -> bool:
        """Whether it claims that a second call changes nothing more."""
        return self.read_only or self._claims("idempotentHint") is True

    @property
    def destructive(self) -> bool:
        """Whether it claims to destroy.

        A tool that only says that it is not read-only counts: ``destructiveHint`` defaults to true
        (MCP, ToolAnnotations). A tool without annotations claims nothing.
        """
        if self.read_only:
            return False
        claim = self._claims("destructiveHint")
        return claim is True or (claim is None and self._claims("readOnlyHint") is False)

    def _claims(self, hint: str) -> Any:
        return None if self.annotations is None else self.annotations.get(hint)


def facts_of(tool: Mapping[str, Any]) -> ToolFacts:
    """Read a tool of ``tools/list``, or what a portal says of one."""
    schema, annotations = tool.get("inputSchema"), tool.get("annotations")
    return ToolFacts(
        name=str(tool.get("name", "")),
        schema=schema if isinstance(schema, dict) else None,
        annotations=annotations if isinstance(annotations, dict) else {},
        definition=ToolDefinition.of(tool),
    )


def schema_check(schema: Mapping[str, Any]) -> Callable[[Any], list[tuple[str, str]] | None]:
    """A function that says where arguments do not fit an input schema.

    Nothing is fetched for a ``$ref``: one that leads out of the schema cannot be checked.

    Returns:
        A function of the arguments. It returns the path and the violated schema keyword of up to a
        few errors, without values; None if the schema is invalid or cannot be checked.
    """
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # The schema is foreign; if anything is wrong with it, it proves nothing.
    wrong = (SchemaError, Unresolvable, RecursionError, TypeError, ValueError, AttributeError)
    try:
        validator_class = validator_for(schema, default=Draft202012Validator)
        validator_class.check_schema(schema)
        validator = validator_class(schema, registry=Registry())
    except wrong:
        return lambda _: None

    def check(arguments: Any) -> list[tuple[str, str]] | None:
        try:
            errors = islice(validator.iter_errors(_plain(arguments)), _MISFITS_MAX)
            return [(format_path(error.absolute_path), str(error.validator)) for error in errors]
        except wrong:
            return None

    return check


def _plain(value: Any) -> Any:
    """The same with Python's own numbers, which is all that a schema's checks know.

    Raises:
        RecursionError: nested deeper than the checks could follow.
    """
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, JsonDecimal):
        number = float(value)
        return int(value) if number.is_integer() and abs(number) < 1e15 else number
    return value
