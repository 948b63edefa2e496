"""What a LiteLLM call carries and tells: the stamp of its decision, and how it went."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

__all__ = [
    "Facts",
    "call_of",
    "clear_stamp",
    "deployment_of",
    "earlier_attempt",
    "failure_facts",
    "not_before",
    "put_stamp_on_response",
    "read_stamp",
    "stamp_of_response",
    "success_facts",
    "write_stamp",
]

STAMP = "conduit_decision_id"
"""The key under which a request carries the id of its newest decision."""


def write_stamp(request_kwargs: dict[str, Any], decision_id: str) -> None:
    """Note the decision on the request, where LiteLLM's callbacks will find it.

    In the SDK the metadata is replaced by a copy, since concurrent calls may share one dict. In the proxy,
    where the dict belongs to the request and others already refer to it, it is changed in place.
    """
    name = _bucket(request_kwargs)
    bucket = request_kwargs.get(name)
    if not isinstance(bucket, dict):
        request_kwargs[name] = {STAMP: decision_id}
    elif request_kwargs.get("litellm_logging_obj") is not None:
        bucket[STAMP] = decision_id
    else:
        request_kwargs[name] = {**bucket, STAMP: decision_id}


def clear_stamp(request_kwargs: dict[str, Any] | None) -> None:
    """Take an earlier attempt's decision off a request that goes on without one."""
    if request_kwargs is None:
        return
    for name in ("metadata", "litellm_metadata"):
        bucket = request_kwargs.get(name)
        if isinstance(bucket, dict) and STAMP in bucket:
            if request_kwargs.get("litellm_logging_obj") is not None:
                del bucket[STAMP]
            else:
                request_kwargs[name] = {key: value for key, value in bucket.items() if key != STAMP}


def read_stamp(arguments: Mapping[str, Any]) -> str | None:
    """Return the decision id from a call's arguments, or from a callback's ``litellm_params``."""
    for name in ("litellm_metadata", "metadata"):
        bucket = arguments.get(name)
        if isinstance(bucket, Mapping):
            stamp = bucket.get(STAMP)
            if isinstance(stamp, str):
                return stamp
    return None


def earlier_attempt(request_kwargs: Mapping[str, Any]) -> str | None:
    """Return the decision of the attempt that a proxied request has just failed with, or None.

    Models that are asked at the same time share the stamp's dict, too, but do not follow one another.
    """
    bucket = request_kwargs.get(_bucket(request_kwargs))
    if request_kwargs.get("litellm_logging_obj") is None or not isinstance(bucket, Mapping):
        return None
    follows = request_kwargs.get("fallback_depth") or bucket.get("previous_models")
    return read_stamp(request_kwargs) if follows else None


def _bucket(request_kwargs: Mapping[str, Any]) -> str:
    return "litellm_metadata" if "litellm_metadata" in request_kwargs else "metadata"


_HIDDEN = "_hidden_params"
"""Where LiteLLM keeps what it adds to a response."""

Status = Literal["success", "error", "cancelled", "client_disconnect", "cache_hit"]


class Facts(NamedTuple):
    """How one attempt went; the fields of :class:`conduit_schemas.Outcome`."""

    status: Status
    cost_usd: float | None = None
    latency_s: float | None = None
    ttft_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error_class: str | None = None
    error_code: str | None = None


def not_before(start: Any, selected: float, end: Any) -> Any:
    """Return when an attempt began: LiteLLM's own start may be that of the request, before earlier attempts.

    Parameters
    ----------
    start, end
        What LiteLLM's callback tells.
    selected
        When the deployment was selected, in seconds since 1970.
    """
    if not (isinstance(start, datetime) and isinstance(end, datetime)):
        return start
    moment = datetime.fromtimestamp(selected, start.tzinfo)
    return moment if start < moment < end else start


def success_facts(kwargs: Mapping[str, Any], start: Any, end: Any) -> Facts:
    """Return what LiteLLM's success callback tells."""
    record = kwargs.get("standard_logging_object") or {}
    if record.get("cache_hit") or kwargs.get("cache_hit"):
        return Facts("cache_hit")
    error = record.get("error_information") or {}
    status: Status = "success"
    if error.get("error_class") == "ClientDisconnected":
        status = "client_disconnect"
    streamed = bool(record.get("stream") or kwargs.get("stream"))
    return Facts(
        status,
        # LiteLLM reports 0 where it knows no price: unknown must not pass for free.
        cost_usd=_number(record.get("response_cost", kwargs.get("response_cost"))) or None,
        latency_s=_seconds(start, end),
        ttft_s=_seconds(start, kwargs.get("completion_start_time")) if streamed else None,
        input_tokens=_count(record.get("prompt_tokens")),
        output_tokens=_count(record.get("completion_tokens")),
    )


def failure_facts(exception: object, start: Any = None, end: Any = None) -> Facts:
    """Return what an exception tells."""
    code = getattr(exception, "status_code", None) or getattr(exception, "code", None)
    return Facts(
        "error",
        latency_s=_seconds(start, end),
        error_class=type(exception).__name__ if isinstance(exception, BaseException) else None,
        error_code=None if code is None else str(code)[:256],
    )


def put_stamp_on_response(response: object, decision_id: str) -> None:
    """Put the decision id among LiteLLM's own hidden parameters of a response."""
    if isinstance(response, dict):
        response.setdefault(_HIDDEN, {})
    hidden = _hidden_parameters(response)
    if isinstance(hidden, dict):
        hidden[STAMP] = decision_id


def stamp_of_response(response: object) -> str | None:
    """Return the decision id that LiteLLM's response, or its stream, carries."""
    stamp = _hidden_parameters(response).get(STAMP)
    if isinstance(stamp, str):
        return stamp
    details = getattr(getattr(response, "logging_obj", None), "model_call_details", None)
    return read_stamp(details.get("litellm_params") or {}) if isinstance(details, Mapping) else None


def call_of(response: object) -> str | None:
    """Return LiteLLM's id of the call that gave a response."""
    call = _hidden_parameters(response).get("litellm_call_id")
    return call if isinstance(call, str) else None


def deployment_of(response: object) -> str | None:
    """Return the id of the deployment that gave a response."""
    model_id = _hidden_parameters(response).get("model_id")
    return model_id if isinstance(model_id, str) else None


def _hidden_parameters(response: object) -> Mapping[str, Any]:
    """Return what LiteLLM adds to a response: an attribute of its objects, an entry of plain dicts."""
    hidden = response.get(_HIDDEN) if isinstance(response, Mapping) else getattr(response, _HIDDEN, None)
    return hidden if isinstance(hidden, Mapping) else {}


def _seconds(start: Any, end: Any) -> float | None:
    if isinstance(start, datetime) and isinstance(end, datetime):
        return max(0.0, (end - start).total_seconds())
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and 0.0 <= value <= 1e6 else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
