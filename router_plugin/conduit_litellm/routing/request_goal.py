"""Reads a request's own goal: ``metadata={"conduit": {"objective": "cost", "max_cost_usd": 0.01}}``."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from conduit_litellm.events.counters import Counters
from conduit_policy import LIMITED, check_routing
from conduit_schemas import ConfigurationError, RoutingGoal, RoutingSettings, checked, unknown_name

__all__ = ["REQUEST_KEY", "RequestGoals", "goal_of_request"]

_logger = logging.getLogger("conduit")

REQUEST_KEY = "conduit"
"""The key of a request's metadata that holds its goal."""

_ALLOWED = ("objective", *(signal.limit for signal in LIMITED), "quality_floor")

_MAX_REMEMBERED = 1_000
_MAX_WARNINGS = 20


def goal_of_request(fields: Mapping[str, Any], where: str) -> RoutingGoal:
    """Return the goal that a request sets.

    Parameters
    ----------
    where
        What the fields belong to, for the message.

    Raises
    ------
    ConfigurationError
        When a request cannot set a field, or its value cannot be used.

    Examples
    --------
    >>> goal_of_request({"budget": "25/day"}, "constraints")
    Traceback (most recent call last):
    conduit_schemas.errors.ConfigurationError: constraints: a request cannot set 'budget'; it can set objective, ...
    """
    for name in fields:
        if name not in _ALLOWED:
            raise ConfigurationError(f"{where}: a request cannot set {unknown_name(name, _ALLOWED, 'it can set')}")
    goal = checked(RoutingGoal, fields, where)
    check_routing(RoutingSettings(goal=goal))
    return goal


class RequestGoals:
    """Reads the goals of requests. Invalid fields are ignored, counted and logged; they never fail a request.

    Examples
    --------
    >>> counters = Counters()
    >>> goals = RequestGoals(counters)
    >>> goals.read({"objective": "cost"}).objective
    'cost'
    >>> goals.read({"max_cost_usd": -1}), counters["request_goals_refused"]
    (None, 1)
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._known: dict[str, RoutingGoal | None] = {}
        self._warned: set[str] = set()

    def read(self, given: object) -> RoutingGoal | None:
        """Return a request's goal, or None if it gives none that is valid."""
        if given is None:
            return None
        try:
            given = json.loads(given) if isinstance(given, str) else given
            key = json.dumps(given, sort_keys=True)
        except (TypeError, ValueError) as error:
            self._refuse(f"it must be a JSON object: {error}")
            return None
        if not isinstance(given, Mapping):
            self._refuse(f"it must be an object with some of {', '.join(_ALLOWED)}, not {key[:100]}")
            return None
        if key in self._known:
            return self._known[key]
        fields: dict[str, Any] = {}
        for name, value in given.items():
            if value is not None and self._is_valid(str(name), value):
                fields[str(name)] = value
        goal = checked(RoutingGoal, fields, REQUEST_KEY) if fields else None
        if len(fields) == len(given):  # invalid goals are not remembered, since each one is counted
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[key] = goal
        return goal

    def _is_valid(self, name: str, value: object) -> bool:
        try:
            goal_of_request({name: value}, "value")
        except ConfigurationError as error:
            self._refuse(str(error))
            return False
        return True

    def _refuse(self, why: str) -> None:
        self._counters.add("request_goals_refused")
        if why not in self._warned and len(self._warned) < _MAX_WARNINGS:
            self._warned.add(why)
            _logger.warning(
                'metadata["%s"] of a request is ignored: %s (counted as request_goals_refused, logged once)',
                REQUEST_KEY,
                why,
            )
