"""Who is asking: the team, key, user and session that LiteLLM notes on a request."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["buckets", "end_user_of", "scopes", "session_of", "user_of"]

_SCOPES = (
    ("key", "user_api_key_alias"),
    ("key", "user_api_key_hash"),
    ("key", "user_api_key"),
    ("team", "user_api_key_team_alias"),
    ("team", "user_api_key_team_id"),
)
"""The most particular first. The proxy writes them and takes them off what clients send."""

_END_USERS = ("user_api_key_end_user_id", "user_id")


def buckets(params: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the places where a request's metadata may stand."""
    for name in ("metadata", "litellm_metadata"):
        bucket = params.get(name)
        if isinstance(bucket, Mapping):
            yield bucket


def scopes(params: Mapping[str, Any]) -> Iterator[str]:
    """Yield ``key:...`` and ``team:...`` of a request, the most particular first.

    Examples
    --------
    >>> list(scopes({"metadata": {"user_api_key_team_alias": "growth", "user_api_key_alias": "ci"}}))
    ['key:ci', 'team:growth']
    """
    for kind, name in _SCOPES:
        for bucket in buckets(params):
            value = bucket.get(name)
            if isinstance(value, str) and value:
                yield f"{kind}:{value}"


def end_user_of(params: Mapping[str, Any]) -> str | None:
    """Return the person who is asking, or None: the request's ``user``, or the end user that the proxy knows."""
    user = params.get("user")
    if isinstance(user, str) and user:
        return user
    return _first(params, _END_USERS)


def user_of(params: Mapping[str, Any]) -> str | None:
    """Return who is asking, or None: the end user, or else the user whose key it is, who may ask for many."""
    return end_user_of(params) or _first(params, ("user_api_key_user_id",))


def session_of(params: Mapping[str, Any]) -> str | None:
    """Return the session a request belongs to, or None: ``litellm_session_id``, or the metadata's ``session_id``."""
    session = params.get("litellm_session_id")
    if isinstance(session, str) and session:
        return session
    return _first(params, ("session_id", "litellm_session_id"))


def _first(params: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for bucket in buckets(params):
        for name in names:
            value = bucket.get(name)
            if isinstance(value, str) and value:
                return value
    return None
