"""What LiteLLM notes on a request: who is asking, in which session and trace, and what for."""

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
"""The most particular first. The proxy writes them and takes them off what clients send."""


class LiteLLMRequest:
    """A request as LiteLLM has it; see :class:`~conduit_litellm.routing.request.RoutingRequest`.

    Parameters
    ----------
    arguments
        The keyword arguments of the call (``request_kwargs``). The stamp is written into them.
    messages, input
        What is asked: the messages of a chat, or the input of an embedding and the like.

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
        """What the featurizer reads."""
        return Request(self._messages, self._input, self._arguments)

    @property
    def goal(self) -> object:
        """What stands under ``conduit`` in the metadata; the proxy keeps a client's own a level further down."""
        for bucket in self._buckets():
            wanted = bucket.get(REQUEST_KEY)
            if wanted is None and isinstance(requester := bucket.get("requester_metadata"), Mapping):
                wanted = requester.get(REQUEST_KEY)
            if wanted is not None:
                return wanted
        return None

    def scopes(self) -> Iterator[str]:
        """Yield ``key:...`` and ``team:...``, the most particular first."""
        for kind, name in _SCOPES:
            for bucket in self._buckets():
                value = bucket.get(name)
                if isinstance(value, str) and value:
                    yield f"{kind}:{value}"

    @property
    def end_user(self) -> str | None:
        """The person who is asking: the request's ``user``, or the end user that the proxy knows."""
        user = self._arguments.get("user")
        return user if isinstance(user, str) and user else self._noted("user_api_key_end_user_id", "user_id")

    @property
    def user(self) -> str | None:
        """The end user, or else the user whose key it is, who may ask for many."""
        return self.end_user or self._noted("user_api_key_user_id")

    @property
    def session(self) -> str | None:
        """``litellm_session_id``, or the metadata's ``session_id``."""
        session = self._arguments.get("litellm_session_id")
        known = session if isinstance(session, str) else None
        return known or self._noted("session_id", "litellm_session_id")

    @property
    def id(self) -> object:
        """LiteLLM's id of the trace, which all attempts of a request share, or else of the call."""
        return self._arguments.get("litellm_trace_id") or self._arguments.get("litellm_call_id")

    @property
    def traces(self) -> tuple[str, ...]:
        """LiteLLM's own id of the trace, which it may have made up, and the one in the metadata."""
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
        """Yield the places where the metadata may stand."""
        for name in ("metadata", "litellm_metadata"):
            bucket = self._arguments.get(name)
            if isinstance(bucket, Mapping):
                yield bucket

    def _noted(self, *names: str) -> str | None:
        """Return the first of these names that the metadata holds a text for."""
        for bucket in self._buckets():
            for name in names:
                value = bucket.get(name)
                if isinstance(value, str) and value:
                    return value
        return None
