"""An answer, in the form that answer checks get. It is never logged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer, with the request that it answers."""

    text: str
    """The whole text. Empty if the model only called tools, or said nothing."""
    messages: Any
    """The request's messages, or the input of the responses API."""
    finish_reason: str | None
    """``stop``, ``length``, ``tool_calls``, ...; None if unknown."""
    has_tool_calls: bool
    response_format: Any
    """The format that the request asked for, if any."""
    asked_by: str | None
    """The session or end user, if known."""
    started: float
    ended: float
    """Seconds since 1970."""

    @property
    def wants_json(self) -> bool:
        """Whether the request asked for JSON."""
        kind = self.response_format.get("type") if isinstance(self.response_format, Mapping) else None
        return kind in {"json_object", "json_schema"} or _is_model(self.response_format)

    @property
    def json_schema(self) -> Mapping[str, Any] | None:
        """The JSON schema that the request asked for, if any."""
        if _is_model(self.response_format):
            schema: Any = self.response_format.model_json_schema()
            return schema if isinstance(schema, Mapping) else None
        if not isinstance(self.response_format, Mapping):
            return None
        described = self.response_format.get("json_schema")
        schema = described.get("schema") if isinstance(described, Mapping) else None
        return schema if isinstance(schema, Mapping) else None


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and hasattr(value, "model_json_schema")
