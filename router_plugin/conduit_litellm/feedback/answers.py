"""What a deployment answered, as checks see it. It stays in this process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conduit_litellm.litellm_compat.callers import end_user_of, session_of

__all__ = ["Answer", "answer_of"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer and what it answers."""

    text: str
    """All of it; empty when the model called a tool instead, or said nothing."""
    messages: Any
    """The request's messages, or the input of the responses API."""
    finish_reason: str | None
    """``stop``, ``length``, ``tool_calls``, ... or None when unknown."""
    has_tool_calls: bool
    response_format: Any
    """The format that the request asked for, if any."""
    asked_by: str | None
    """The session or end user, where one is known."""
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
        """The JSON schema that the request asked for, if it did."""
        if _is_model(self.response_format):
            schema: Any = self.response_format.model_json_schema()
            return schema if isinstance(schema, Mapping) else None
        if not isinstance(self.response_format, Mapping):
            return None
        described = self.response_format.get("json_schema")
        schema = described.get("schema") if isinstance(described, Mapping) else None
        return schema if isinstance(schema, Mapping) else None


def answer_of(kwargs: Mapping[str, Any], response: Any, start: Any, end: Any) -> Answer | None:
    """Return the answer that LiteLLM's success callback tells of; None where it is no text, such as an embedding."""
    told = _chat(response) or _responses(response)
    if told is None:
        return None
    text, finish_reason, has_tool_calls = told
    params = {**(kwargs.get("optional_params") or {}), **(kwargs.get("litellm_params") or {})}
    params = {**params, **{name: kwargs[name] for name in ("user", "litellm_session_id") if kwargs.get(name)}}
    return Answer(
        text=text,
        messages=kwargs.get("messages") or kwargs.get("input"),
        finish_reason=finish_reason,
        has_tool_calls=has_tool_calls,
        response_format=_format(kwargs, params),
        asked_by=session_of(params) or end_user_of(params),
        started=_seconds(start),
        ended=_seconds(end),
    )


def _chat(response: Any) -> tuple[str, str | None, bool] | None:
    choices = _get(response, "choices")
    if not isinstance(choices, list) or not choices:
        return None
    message = _get(choices[0], "message")
    if message is None:
        return None
    reason = _get(choices[0], "finish_reason")
    calls = bool(_get(message, "tool_calls") or _get(message, "function_call"))
    others = any(_get(message, name) for name in ("audio", "images"))
    return _text(_get(message, "content")), reason if isinstance(reason, str) else None, calls or others


def _responses(response: Any) -> tuple[str, str | None, bool] | None:
    output = _get(response, "output")
    if not isinstance(output, list):
        return None
    kinds = {_get(item, "type") for item in output}
    texts = [_text(_get(item, "content")) for item in output if _get(item, "type") == "message"]
    is_cut = _get(response, "status") == "incomplete"
    return "".join(texts), "length" if is_cut else "stop", bool(kinds - {"message", "reasoning"})


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(text for part in content if isinstance(text := _get(part, "text"), str))
    return ""


def _format(kwargs: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    found = kwargs.get("response_format") or params.get("response_format")
    text = kwargs.get("text") or params.get("text")  # the responses API has it there, without a level between
    inner = text.get("format") if isinstance(text, Mapping) else None
    if found is None and isinstance(inner, Mapping):
        return {"type": inner.get("type"), "json_schema": inner}
    return found


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and hasattr(value, "model_json_schema")


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _seconds(moment: Any) -> float:
    try:
        return float(moment.timestamp())
    except (AttributeError, ValueError, OverflowError):
        return 0.0
