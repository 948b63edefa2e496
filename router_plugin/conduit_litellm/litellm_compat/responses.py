"""Reads LiteLLM's responses: the call behind a response, and its answer."""

from collections.abc import Iterator, Mapping
from typing import Any

from conduit_litellm.feedback.answers import Answer
from conduit_litellm.feedback.recorder import Origin
from conduit_litellm.litellm_compat.requests import LiteLLMRequest
from conduit_litellm.litellm_compat.stamps import STAMP, read_stamp

__all__ = ["answer_of", "cost_of", "latency_of", "origin_of", "origins_in_proxy", "stamp_response"]

_HIDDEN = "_hidden_params"
"""The attribute, or key, where LiteLLM stores what it adds to a response."""


def stamp_response(response: object, decision_id: str) -> None:
    """Add the decision id to LiteLLM's hidden parameters of a response."""
    if isinstance(response, dict):
        response.setdefault(_HIDDEN, {})
    hidden = _hidden(response)
    if isinstance(hidden, dict):
        hidden[STAMP] = decision_id


def origin_of(response: object) -> Origin:
    """Return the decision, call and deployment behind a response or a stream, as far as it reveals them."""
    hidden = _hidden(response)
    return Origin(_stamp(response), _text_or_none(hidden.get("litellm_call_id")), _text_or_none(hidden.get("model_id")))


def origins_in_proxy(arguments: Mapping[str, Any], response: object) -> Iterator[Origin]:
    """Yield possible origins of the response to a proxied request, the most reliable first.

    The stamp in the arguments comes last: it may be an earlier attempt's, since LiteLLM copies them for a fallback.
    """
    yield Origin(decision_id=_stamp(response))
    yield Origin(call_id=_text_or_none(arguments.get("litellm_call_id")))
    yield Origin(decision_id=read_stamp(arguments))


def cost_of(response: object) -> float | None:
    """Return a response's cost in US dollars; None if LiteLLM knows no price, which it reports as 0."""
    cost = _hidden(response).get("response_cost")
    return float(cost) if cost else None


def latency_of(response: object) -> float:
    """Return how long a call took, in seconds; 0 if unknown."""
    name = "_response_ms"
    return float(_hidden(response).get(name) or getattr(response, name, None) or 0.0) / 1000.0


def answer_of(kwargs: Mapping[str, Any], response: Any, start: Any, end: Any) -> Answer | None:
    """Return the answer that LiteLLM's success callback reports; None if it has no text, as an embedding."""
    content = _chat(response) or _responses(response)
    if content is None:
        return None
    text, finish_reason, has_tool_calls = content
    params = {**(kwargs.get("optional_params") or {}), **(kwargs.get("litellm_params") or {})}
    params = {**params, **{name: kwargs[name] for name in ("user", "litellm_session_id") if kwargs.get(name)}}
    request = LiteLLMRequest(params)
    return Answer(
        text=text,
        messages=kwargs.get("messages") or kwargs.get("input"),
        finish_reason=finish_reason,
        has_tool_calls=has_tool_calls,
        response_format=_format(kwargs, params),
        asked_by=request.session or request.end_user,
        started=_seconds(start),
        ended=_seconds(end),
    )


def _hidden(response: object) -> Mapping[str, Any]:
    """Return what LiteLLM adds to a response: in an attribute of its objects, or in an entry of plain dicts."""
    hidden = response.get(_HIDDEN) if isinstance(response, Mapping) else getattr(response, _HIDDEN, None)
    return hidden if isinstance(hidden, Mapping) else {}


def _stamp(response: object) -> str | None:
    stamp = _text_or_none(_hidden(response).get(STAMP))
    if stamp is not None:
        return stamp
    # In a stream, the stamp is among the details of its call.
    details = getattr(getattr(response, "logging_obj", None), "model_call_details", None)
    return read_stamp(details.get("litellm_params") or {}) if isinstance(details, Mapping) else None


def _chat(response: Any) -> tuple[str, str | None, bool] | None:
    choices = _get(response, "choices")
    if not isinstance(choices, list) or not choices:
        return None
    message = _get(choices[0], "message")
    if message is None:
        return None
    calls = bool(_get(message, "tool_calls") or _get(message, "function_call"))
    others = any(_get(message, name) for name in ("audio", "images"))
    return _text(_get(message, "content")), _text_or_none(_get(choices[0], "finish_reason")), calls or others


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
    text = kwargs.get("text") or params.get("text")  # the responses API has the format here, without nesting
    inner = text.get("format") if isinstance(text, Mapping) else None
    if found is None and isinstance(inner, Mapping):
        return {"type": inner.get("type"), "json_schema": inner}
    return found


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(moment: Any) -> float:
    try:
        return float(moment.timestamp())
    except (AttributeError, ValueError, OverflowError):
        return 0.0
