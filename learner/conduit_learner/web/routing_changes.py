"""Change a policy's routing settings from the web page, with a token."""

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from conduit_learner.view.policy import PolicyView
from conduit_log import Message
from conduit_policy import check_routing, in_force
from conduit_schemas import ConfigurationError, RoutingChange, RoutingSettings, checked, encode

__all__ = ["MIN_TOKEN", "RoutingChanges", "changed_routing"]

MIN_TOKEN = 16
"""Minimum length of the token, because anyone who can reach the page can try to guess it."""

_FIELDS = {"policy", "by", "mode", "canary_share", "objective"}


class RoutingChanges:
    """Changes routing settings for requests that carry the token.

    Parameters
    ----------
    token
        Requests with this token may change settings.
    append
        Appends messages to the event topic.

    Raises
    ------
    ConfigurationError
        When the token is too short to be safe.
    """

    def __init__(self, token: str, append: Callable[[list[Message]], Awaitable[None]]) -> None:
        if len(token) < MIN_TOKEN:
            raise ConfigurationError(f"CONDUIT_WEB_TOKEN must have at least {MIN_TOKEN} characters: use a random value")
        self._token = token.encode()
        self._append = append

    def allows(self, authorization: str) -> bool:
        """Return whether an ``Authorization`` header carries the token."""
        kind, _, given = authorization.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)

    async def change(self, policy: PolicyView, wanted: Mapping[str, Any]) -> RoutingChange:
        """Append a change of a policy's routing and return it; see :func:`changed_routing`."""
        change = changed_routing(policy, wanted, now_s=time.time())
        await self._append([Message(policy.name.encode(), encode(change))])
        return change


def changed_routing(policy: PolicyView, wanted: Mapping[str, Any], *, now_s: float) -> RoutingChange:
    """Return the event that changes the given settings and keeps the others as they are in force.

    Parameters
    ----------
    wanted
        ``by``, the name of who makes the change, and any of ``mode``, ``canary_share`` and ``objective`` (the name of a
        preset).

    Raises
    ------
    ConfigurationError
        When a setting is missing, unknown or invalid.

    Examples
    --------
    >>> change = changed_routing(PolicyView("default/chat"), {"by": "ann", "mode": "shadow"}, now_s=0.0)
    >>> change.routing.mode, change.changed_by
    ('shadow', 'ann, on the web page')
    """
    if unknown := sorted(set(wanted) - _FIELDS):
        known = ", ".join(sorted(_FIELDS))
        raise ConfigurationError(f"{unknown[0][:100]!r} cannot be changed here; known settings are {known}")
    by = wanted.get("by")
    if not isinstance(by, str) or not by.strip():
        raise ConfigurationError("give the name of who makes the change in the field by")
    fields = _in_force(policy).model_dump(exclude_none=True)
    fields.update({name: wanted[name] for name in ("mode", "canary_share") if wanted.get(name) is not None})
    if wanted.get("objective") is not None:
        fields["goal"]["objective"] = wanted["objective"]
    routing = checked(RoutingSettings, fields, "routing")
    check_routing(routing)
    return RoutingChange(
        policy=policy.name, time=now_s, routing=routing, changed_by=f"{by.strip()[:200]}, on the web page"
    )


def _in_force(policy: PolicyView) -> RoutingSettings:
    """Return the settings that apply, from the newest snapshot and from the events that were read."""
    state = None if policy.published is None else policy.published.snapshot.routing
    published = {} if state is None else {state.origin: state.settings}
    return in_force({**published, **policy.routing}) or RoutingSettings()
