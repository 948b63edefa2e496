"""Answers of a wanted type: how it is asked for, how an answer is checked, how the model is asked again."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from conduit_schemas import ConfigurationError

__all__ = ["Messages", "ResultType", "complaints", "result_type_of"]

T = TypeVar("T")
Messages = Sequence[Mapping[str, Any]]
"""A conversation, as OpenAI's API has it."""

_MAX_ERRORS = 20


class ResultType(Generic[T]):
    """Anything pydantic can validate: a model, a dataclass, a TypedDict, ``list[int]``, a Literal.

    Parameters
    ----------
    kind
        The type.

    Raises
    ------
    ConfigurationError
        When pydantic cannot make anything of it.

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

    def asked_for(self, messages: Messages) -> list[dict[str, Any]]:
        """Return the messages with the instruction to answer in this type, in the system's own words."""
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
        """Return what has a provider hold the model to the type; None where the type is not that of an object."""
        if self._schema.get("type") != "object":
            return None
        name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in self.name)
        return {"type": "json_schema", "json_schema": {"name": name, "schema": self._schema, "strict": False}}

    def parse(self, text: str) -> T:
        """Return the value in an answer; words and code fences around it do not matter.

        Raises
        ------
        pydantic.ValidationError
            When there is none.
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
                whole = within  # what is wrong with the value says more than that there are words around it
        raise whole

    def _attempt(self, text: str) -> T | ValidationError:
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            return error

    def asked_again(self, messages: Messages, text: str, error: ValidationError) -> list[dict[str, Any]]:
        """Return a conversation in which the model is told what is wrong with its answer."""
        return [
            *self.asked_for(messages),
            {"role": "assistant", "content": text or " "},  # some providers refuse an empty message
            {
                "role": "user",
                "content": f"This answer cannot be used: {complaints(error)}. "
                "Answer again with the corrected JSON value and nothing else.",
            },
        ]


def result_type_of(kind: type[T] | None) -> ResultType[T] | None:
    """Return what an answer is validated against; None for text."""
    return None if kind is None or kind is str else ResultType(kind)


def complaints(error: ValidationError) -> str:
    """Return what is wrong, field by field, without the values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, one['loc'])) or 'the answer'}: {one['msg']}" for one in found[:_MAX_ERRORS]]
    return "; ".join(told)


def _is_syntax(error: ValidationError) -> bool:
    return error.errors()[0]["type"] == "json_invalid"
