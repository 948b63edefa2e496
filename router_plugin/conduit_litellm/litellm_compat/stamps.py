"""The stamp: the id of a request's newest decision, in the metadata where LiteLLM's callbacks find it."""

from collections.abc import Mapping
from typing import Any

__all__ = ["STAMP", "clear_stamp", "earlier_attempt", "read_stamp", "write_stamp"]

STAMP = "conduit_decision_id"
"""The key under which a request carries the id of its newest decision."""


def write_stamp(request_kwargs: dict[str, Any], decision_id: str) -> None:
    """Write the decision's id into the request's metadata, where LiteLLM's callbacks find it.

    In the SDK, the metadata is replaced by a copy, since concurrent calls may share one dict. In the proxy, the dict
    belongs to the request alone and is already referred to elsewhere, so it is changed in place.
    """
    name = _bucket(request_kwargs)
    bucket = request_kwargs.get(name)
    if not isinstance(bucket, dict):
        request_kwargs[name] = {STAMP: decision_id}
    elif request_kwargs.get("litellm_logging_obj") is not None:
        bucket[STAMP] = decision_id
    else:
        request_kwargs[name] = {**bucket, STAMP: decision_id}


def clear_stamp(request_kwargs: dict[str, Any]) -> None:
    """Remove an earlier attempt's decision from a request that goes on without one."""
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
    """Return the id of the decision behind a proxied request's previous, failed attempt, or None.

    Calls made in parallel for one request share the dict with the stamp, too, but none of them precedes another.
    """
    bucket = request_kwargs.get(_bucket(request_kwargs))
    if request_kwargs.get("litellm_logging_obj") is None or not isinstance(bucket, Mapping):
        return None
    is_later_attempt = request_kwargs.get("fallback_depth") or bucket.get("previous_models")
    return read_stamp(request_kwargs) if is_later_attempt else None


def _bucket(request_kwargs: Mapping[str, Any]) -> str:
    return "litellm_metadata" if "litellm_metadata" in request_kwargs else "metadata"
