"""The application's own checks of every answer: a JSON schema, or any function."""

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from json import loads
from typing import Any

from conduit_litellm.feedback.answers import Answer
from conduit_schemas import ConfigurationError

__all__ = ["Validator", "validators_of"]

Validator = Callable[[Answer], "bool | float | Awaitable[bool | float | None] | None"]
"""Rates an answer: a number from 0 to 1, True or False, or None to give no rating."""


def validators_of(given: Mapping[str, Any] | None) -> dict[str, Validator]:
    """Return validators by name.

    Parameters
    ----------
    given
        Maps each name to a function, to the import path of one (``package.module:function``), or to a JSON schema that
        the whole answer must follow.

    Raises
    ------
    ConfigurationError
        If a value is none of these.

    Examples
    --------
    >>> schema = validators_of({"numbers": {"type": "array", "items": {"type": "number"}}})["numbers"]
    >>> [schema(Answer(text, "?", "stop", False, None, None, 0.0, 1.0)) for text in ("[1, 2]", "[1, two]")]
    [True, False]
    """
    return {name: _validator(name, found) for name, found in (given or {}).items()}


def _validator(name: str, found: Any) -> Validator:
    if isinstance(found, str):
        module, colon, attribute = found.partition(":")
        try:
            found = getattr(import_module(module), attribute) if colon else None
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(f"validators: {name}={module}:{attribute}: {error}") from error
    if callable(found):
        return found  # type: ignore[no-any-return]  # what it returns is checked when it is called
    if isinstance(found, Mapping):
        return _schema_validator(name, found)
    raise ConfigurationError(
        f"validators: {name} must be a function, 'package.module:function' or a JSON schema, not {str(found)[:100]!r}"
    )


def _schema_validator(name: str, schema: Mapping[str, Any]) -> Validator:
    from jsonschema import SchemaError  # noqa: PLC0415 - slow to load, and rarely needed
    from jsonschema.validators import validator_for  # noqa: PLC0415 - as above

    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ConfigurationError(f"validators: {name} is not a valid JSON schema: {error.message}") from error
    checker = kind(schema)

    def follows(answer: Answer) -> bool | None:
        if answer.has_tool_calls and not answer.text:
            return None  # an intermediate step, not the answer
        try:
            return bool(checker.is_valid(loads(answer.text)))
        except (ValueError, RecursionError):
            return False

    return follows
