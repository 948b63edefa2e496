"""Reads LiteLLM's requests: the user, the session, the trace and the request's own goal."""

from collections.abc import Iterator, Mapping
from typing import Any

from conduit_litellm.litellm_compat.stamps import clear_stamp, earlier_attempt, write_stamp
from conduit_litellm.routing.request_goal import REQUEST_KEY
from conduit_policy import Request

__all__ = ["LiteLLMRequest"]

_SCOPES = (
    ("key", "user_api_key_alias"),
    ("key", "user_api_key_hash"),
    ("key", "user_api_key"),
    ("team", "user_api_key_team_alias"),
    ("team", "user_api_key_team_id"),
)
"""Metadata fields by kind of scope, the most specific first. The proxy sets them, and removes any that clients send."""


class LiteLLMRequest:
    """A request in LiteLLM's form; see :class:`~conduit_litellm.routing.request.RoutingRequest`.

    Parameters
    ----------
    arguments
        The keyword arguments of the call (``request_kwargs``). The stamp is written into them.
    messages, input
        The content: the messages of a chat, or the input of an embedding or similar call.

    Examples
    --------
    >>> metadata = {"conduit": {"objective": "cost"}, "user_api_key_alias": "ci", "user_api_key_team_alias": "growth"}
    >>> request = LiteLLMRequest({"metadata": metadata, "user": "ada"}, [{"role": "user", "content": "hello"}])
    >>> request.goal, request.user, list(request.scopes())
    ({'objective': 'cost'}, 'ada', ['key:ci', 'team:growth'])
    """

    __slots__ = ("_arguments", "_input", "_messages")

    def __init__(self, arguments: dict[str, Any] | None, messages: Any = None, input: Any = None) -> None:
        self._arguments: dict[str, Any] = {} if arguments is None else arguments
        self._messages = messages
        self._input = input

    @property
    def content(self) -> Request:
        """The part of the request that the featurizer reads."""
        return Request(self._messages, self._input, self._arguments)

    @property
    def goal(self) -> object:
        """The metadata's entry ``conduit``. The proxy keeps the client's metadata one level further down."""
        for bucket in self._buckets():
            goal = bucket.get(REQUEST_KEY)
            if goal is None and isinstance(requester := bucket.get("requester_metadata"), Mapping):
                goal = requester.get(REQUEST_KEY)
            if goal is not None:
                return goal
        return None

    def scopes(self) -> Iterator[str]:
        """Yield ``key:...`` and ``team:...``, the most specific first."""
        for kind, name in _SCOPES:
            for bucket in self._buckets():
                value = bucket.get(name)
                if isinstance(value, str) and value:
                    yield f"{kind}:{value}"

    @property
    def end_user(self) -> str | None:
        """The person who asks: the request's ``user``, or else the end user known to the proxy."""
        user = self._arguments.get("user")
        return user if isinstance(user, str) and user else self._text_in_metadata("user_api_key_end_user_id", "user_id")

    @property
    def user(self) -> str | None:
        """The end user, or else the owner of the key, who may ask on behalf of many."""
        return self.end_user or self._text_in_metadata("user_api_key_user_id")

    @property
    def session(self) -> str | None:
        """``litellm_session_id``, or else the metadata's ``session_id``."""
        session = self._arguments.get("litellm_session_id")
        known = session if isinstance(session, str) else None
        return known or self._text_in_metadata("session_id", "litellm_session_id")

    @property
    def id(self) -> object:
        """LiteLLM's id of the trace, which all attempts of a request share, or else its id of the call."""
        return self._arguments.get("litellm_trace_id") or self._arguments.get("litellm_call_id")

    @property
    def traces(self) -> tuple[str, ...]:
        """LiteLLM's id of the trace, which it may have generated, and the one in the metadata."""
        found = [self._arguments.get("litellm_trace_id"), *[bucket.get("trace_id") for bucket in self._buckets()]]
        return tuple({trace for trace in found if isinstance(trace, str) and trace})

    @property
    def earlier_decision(self) -> str | None:
        """See :func:`~conduit_litellm.litellm_compat.stamps.earlier_attempt`."""
        return earlier_attempt(self._arguments)

    def stamp(self, decision_id: str) -> None:
        """See :func:`~conduit_litellm.litellm_compat.stamps.write_stamp`."""
        write_stamp(self._arguments, decision_id)

    def clear_stamp(self) -> None:
        """See :func:`~conduit_litellm.litellm_compat.stamps.clear_stamp`."""
        clear_stamp(self._arguments)

    def _buckets(self) -> Iterator[Mapping[str, Any]]:
        """Yield the dicts that may contain the metadata."""
        for name in ("metadata", "litellm_metadata"):
            bucket = self._arguments.get(name)
            if isinstance(bucket, Mapping):
                yield bucket

    def _text_in_metadata(self, *names: str) -> str | None:
        """Return the metadata's first non-empty text under one of these names."""
        for bucket in self._buckets():
            for name in names:
                value = bucket.get(name)
                if isinstance(value, str) and value:
                    return value
        return None
