"""What one request wants for itself: ``metadata={"conduit": {"objective": "cost", "max_cost_usd": 0.01}}``."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from conduit_litellm.events.counters import Counters
from conduit_policy import LIMITED, check_routing
from conduit_schemas import ConfigurationError, RoutingGoal, RoutingSettings, checked

__all__ = ["REQUEST_KEY", "RequestGoals"]

_logger = logging.getLogger("conduit")

REQUEST_KEY = "conduit"
"""Where a request's metadata says what it wants."""

_ALLOWED = ("objective", *(signal.limit for signal in LIMITED), "quality_floor")

_MAX_REMEMBERED = 1_000
_MAX_WARNINGS = 20


class RequestGoals:
    """Reads what requests want. What cannot be used is left out, counted and said; it never fails a request.

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
        self._said: set[str] = set()

    def read(self, wanted: object) -> RoutingGoal | None:
        """Return what a request wants, or None when it says nothing that can be used."""
        if wanted is None:
            return None
        try:
            wanted = json.loads(wanted) if isinstance(wanted, str) else wanted
            key = json.dumps(wanted, sort_keys=True)
        except (TypeError, ValueError) as error:
            self._refuse(f"it must be a JSON object: {error}")
            return None
        if not isinstance(wanted, Mapping):
            self._refuse(f"it must be an object with some of {', '.join(_ALLOWED)}, not {key[:100]}")
            return None
        if key in self._known:
            return self._known[key]
        fields: dict[str, Any] = {}
        for name, value in wanted.items():
            if value is not None and self._is_good(str(name), value):
                fields[str(name)] = value
        goal = checked(RoutingGoal, fields, REQUEST_KEY) if fields else None
        if len(fields) == len(wanted):  # what is wrong is counted each time
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[key] = goal
        return goal

    def _is_good(self, name: str, value: object) -> bool:
        if name not in _ALLOWED:
            self._refuse(f"a request cannot set {name[:100]!r}; it can set {', '.join(_ALLOWED)}")
            return False
        try:
            check_routing(RoutingSettings(goal=checked(RoutingGoal, {name: value}, "value")))
        except ConfigurationError as error:
            self._refuse(str(error))
            return False
        return True

    def _refuse(self, why: str) -> None:
        self._counters.add("request_goals_refused")
        if why not in self._said and len(self._said) < _MAX_WARNINGS:
            self._said.add(why)
            _logger.warning(
                'metadata["%s"] of a request is left out: %s (counted as request_goals_refused, said once)',
                REQUEST_KEY,
                why,
            )
