"""Answers of a requested type: instructs the model, validates its answer, and asks for a correction."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from conduit_schemas import ConfigurationError

__all__ = ["Messages", "ResultType", "describe_errors", "result_type_of"]

T = TypeVar("T")
Messages = Sequence[Mapping[str, Any]]
"""A conversation in the form of OpenAI's API."""

_MAX_ERRORS = 20


class ResultType(Generic[T]):
    """A type that pydantic can validate: a model, a dataclass, a TypedDict, ``list[int]``, a Literal.

    Parameters
    ----------
    kind
        The type.

    Raises
    ------
    ConfigurationError
        If pydantic cannot validate the type.

    Examples
    --------
    >>> ResultType(list[int]).parse('Here you are: [1, 2]')
    [1, 2]
    """

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        self.name = str(getattr(kind, "__name__", kind))[:64]
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(kind)
            self._schema = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise ConfigurationError(f"result type {kind!r} is not one that pydantic can validate: {error}") from error

    def with_instruction(self, messages: Messages) -> list[dict[str, Any]]:
        """Return the messages with the instruction to answer in this type, added to the system message."""
        instruction = (
            "Answer with nothing but one JSON value that is valid against this JSON schema:\n"
            f"{json.dumps(self._schema, ensure_ascii=False)}"
        )
        first, rest = (dict(messages[0]), messages[1:]) if messages else ({}, ())
        if first.get("role") == "system" and isinstance(first.get("content"), str):
            first["content"] += f"\n\n{instruction}"
            return [first, *map(dict, rest)]
        return [{"role": "system", "content": instruction}, *map(dict, messages)]

    def response_format(self) -> dict[str, Any] | None:
        """Return the ``response_format`` that enforces the type; None if the type is not an object."""
        if self._schema.get("type") != "object":
            return None
        name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in self.name)
        return {"type": "json_schema", "json_schema": {"name": name, "schema": self._schema, "strict": False}}

    def parse(self, text: str) -> T:
        """Return the value in an answer. Words and code fences around it are ignored.

        Raises
        ------
        pydantic.ValidationError
            If there is no valid value.
        """
        whole = self._attempt(text.strip())
        if not isinstance(whole, ValidationError):
            return whole
        for opening, closing in ("{}", "[]"):
            start, end = text.find(opening), text.rfind(closing)
            within = self._attempt(text[start : end + 1]) if 0 <= start < end else whole
            if not isinstance(within, ValidationError):
                return within
            if not _is_syntax(within):
                whole = within  # an error in the value is more helpful than one about the words around it
        raise whole

    def _attempt(self, text: str) -> T | ValidationError:
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            return error

    def with_correction(self, messages: Messages, text: str, error: ValidationError) -> list[dict[str, Any]]:
        """Return a conversation that tells the model what is wrong with its answer, and asks for a correction."""
        return [
            *self.with_instruction(messages),
            {"role": "assistant", "content": text or " "},  # some providers refuse an empty message
            {
                "role": "user",
                "content": f"This answer cannot be used: {describe_errors(error)}. "
                "Answer again with the corrected JSON value and nothing else.",
            },
        ]


def result_type_of(kind: type[T] | None) -> ResultType[T] | None:
    """Return the type to validate answers against; None for text."""
    return None if kind is None or kind is str else ResultType(kind)


def describe_errors(error: ValidationError) -> str:
    """Describe a validation error field by field, without the values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    descriptions = [f"{'.'.join(map(str, one['loc'])) or 'the answer'}: {one['msg']}" for one in found[:_MAX_ERRORS]]
    return "; ".join(descriptions)


def _is_syntax(error: ValidationError) -> bool:
    return error.errors()[0]["type"] == "json_invalid"
