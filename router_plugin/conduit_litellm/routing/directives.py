"""Works out what applies to one request: whether Conduit chooses, with which objective, within which limits."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, assert_never

from conduit_litellm.decisions.directive import Directive
from conduit_litellm.decisions.ledger import Decision
from conduit_litellm.events.counters import Counters
from conduit_litellm.routing.request import RoutingRequest
from conduit_litellm.routing.request_goal import RequestGoals
from conduit_litellm.routing.sessions import Sessions
from conduit_litellm.routing.spending import Spending
from conduit_policy import (
    LIMITED,
    UNCONSTRAINED,
    Beliefs,
    Constraints,
    Objective,
    in_force,
    merged,
    objective_of,
    pace,
    random_number,
)
from conduit_schemas import ConfigurationError, Fallback, Mode, RoutingGoal, RoutingSettings, Spend

__all__ = ["Directives"]

_NOTHING_SPENT = Spend()
_MAX_REMEMBERED = 1_000
_OF_STREAMS = [signal for signal in LIMITED if signal.is_of_streams]


class _Goals(NamedTuple):
    """The goals of the policy, an override and the request, and the goal that results from them."""

    policy: RoutingGoal
    override: RoutingGoal | None
    scope: str | None
    """The key or team that the override belongs to."""
    request: RoutingGoal | None
    goal: RoutingGoal
    """All of them merged. The lowest limit on a request's cost applies."""
    objective: Objective
    weights: dict[str, float]


class _CurrentSettings(NamedTuple):
    """A policy's settings as of one snapshot."""

    beliefs: Beliefs | None
    settings: RoutingSettings
    mode: Mode
    share: float
    spend: Mapping[str, Spend]
    plain: Directive | None
    """The directive of all requests without a goal of their own; None if such requests may differ."""
    goals: dict[tuple[str | None, int, bool], _Goals]
    """A cache by scope, ``id()`` of the request's own goal (which the entry keeps alive), and whether it streams."""


class Directives:
    """Works out what applies to a request.

    An operator's settings, which arrive with the snapshot, take precedence over the application's own. A goal in an
    override (the key's, or else the team's) replaces the policy's, and a goal in the request replaces both, field by
    field. The exception is the limit on a request's cost: the lowest one always applies.

    Parameters
    ----------
    own
        The application's settings.
    objective
        The application's objective, used if no goal names one.
    clock
        Seconds since 1970.
    """

    def __init__(
        self,
        own: RoutingSettings,
        objective: Objective,
        counters: Counters,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.own = own
        self.spending = Spending()
        self.sessions = Sessions()
        self._objective = objective
        self._requests = RequestGoals(counters)
        self._clock = clock
        self._current: dict[str, _CurrentSettings] = {}

    def paid(self, decision: Decision, cost_usd: float | None) -> None:
        """Count what an attempt cost towards the budgets."""
        self.spending.pay(decision.policy, decision.scope, cost_usd or 0.0, int(self._clock() * 1000.0))

    def of_request(
        self, policy: str, beliefs: Beliefs | None, request: RoutingRequest, arms: Sequence[str], decision_id: str
    ) -> Directive:
        """Return what applies to a request.

        Parameters
        ----------
        beliefs
            The policy's newest beliefs, if any.
        arms
            The ids of the deployments that may serve the request.
        decision_id
            Assigns the request to a canary or its control group if neither user nor session is known.
        """
        found = self._current.get(policy)
        if found is None or found.beliefs is not beliefs:
            found = self._current[policy] = self._read_settings(policy, beliefs)
        own = self._requests.read(request.goal)
        if found.plain is not None and own is None:
            return found.plain
        scope = next((scope for scope in request.scopes() if scope in found.settings.overrides), None)
        goals = self._goals(found, scope, own, is_stream=bool(request.content.params.get("stream")))
        session = self._session(policy, found.settings, request)
        constraints = self._constraints(policy, found, goals, self._index(session, arms))
        is_in_canary = found.mode == "canary" and _is_in_canary(policy, found, request, decision_id)
        return Directive(
            mode=found.mode,
            fallback=_fallback(found.mode, is_in_canary=is_in_canary),
            objective=goals.objective,
            weights=goals.weights,
            constraints=constraints,
            logged=constraints.logged(),
            scope=scope,
            session=session,
        )

    def _read_settings(self, policy: str, beliefs: Beliefs | None) -> _CurrentSettings:
        state = None if beliefs is None else beliefs.snapshot.routing
        spend = {} if state is None else state.spend
        if beliefs is not None:
            self.spending.forget_until(policy, beliefs.snapshot.stream_time_ms)
        published = {} if state is None else {state.origin: state.settings}
        settings = in_force({**published, "application": self.own}) or self.own
        mode, share = settings.mode, settings.canary_share
        if state is not None and state.settings == settings:
            mode, share = state.mode, state.canary_share
        found = _CurrentSettings(beliefs, settings, mode, share, spend, None, {})
        differs = settings.overrides or settings.session_stickiness or settings.switching_cost
        if mode == "canary" or settings.goal.budget is not None or differs:
            return found
        goals = self._goals(found, None, None, is_stream=False)
        streams = self._goals(found, None, None, is_stream=True)
        if (streams.goal, streams.objective) != (goals.goal, goals.objective):
            return found
        constraints = self._constraints(policy, found, goals, None)
        fallback = _fallback(mode, is_in_canary=False)
        directive = Directive(mode, fallback, goals.objective, goals.weights, constraints, constraints.logged())
        return found._replace(plain=directive)

    def _goals(self, found: _CurrentSettings, scope: str | None, own: RoutingGoal | None, *, is_stream: bool) -> _Goals:
        known = found.goals.get((scope, id(own), is_stream))
        if known is not None:
            return known
        override = None if scope is None else found.settings.overrides[scope]
        levels = [level for level in (found.settings.goal, override, own) if level is not None]
        cap = min((level.max_cost_usd for level in levels if level.max_cost_usd is not None), default=None)
        goal = merged([*levels, RoutingGoal.model_construct(max_cost_usd=cap)])
        objective = objective_of(goal, self._objective)
        if not is_stream:
            goal = goal.model_copy(update={signal.limit: None for signal in _OF_STREAMS})
            with suppress(ConfigurationError):  # an objective that weighs nothing else keeps these weights
                objective = replace(objective, **{signal.name: 0.0 for signal in _OF_STREAMS})
        goals = _Goals(found.settings.goal, override, scope, own, goal, objective, objective.weights())
        if len(found.goals) >= _MAX_REMEMBERED:
            found.goals.clear()
        found.goals[scope, id(own), is_stream] = goals
        return goals

    def _constraints(self, policy: str, found: _CurrentSettings, goals: _Goals, previous: int | None) -> Constraints:
        goal = goals.goal
        price = spent = 0.0
        for scope, level in (("", goals.policy), (goals.scope or "", goals.override)):
            if level is not None and level.budget is not None:
                now_ms = int(self._clock() * 1000.0)
                known = found.spend.get(scope, _NOTHING_SPENT)
                asked = pace(level.budget, self.spending.total(policy, scope, known, now_ms), now_ms)
                price, spent = max(price, asked.price), max(spent, float(asked.is_spent))
        limits = {signal.limit: getattr(goal, signal.limit) for signal in LIMITED}
        if (floor := goal.quality_floor) is not None:
            limits |= {"floor_relative": floor.relative, "floor_confidence": floor.confidence}
        settings = found.settings
        constraints = Constraints(
            **limits,
            budget_price=price,
            budget_spent=spent,
            min_exploration=settings.min_exploration,
            switching_cost=0.0 if previous is None else settings.switching_cost,
            stickiness=float(settings.session_stickiness and previous is not None),
            previous=previous,
        )
        return UNCONSTRAINED if constraints == UNCONSTRAINED else constraints

    @staticmethod
    def _session(policy: str, settings: RoutingSettings, request: RoutingRequest) -> tuple[str, str] | None:
        if not (settings.session_stickiness or settings.switching_cost):
            return None
        session = request.session
        return None if session is None else (policy, session)

    def _index(self, session: tuple[str, str] | None, arms: Sequence[str]) -> int | None:
        last = None if session is None else self.sessions.last(session)
        return arms.index(last) if last in arms else None


def _fallback(mode: Mode, *, is_in_canary: bool) -> Fallback | None:
    """Return why LiteLLM chooses; None if Conduit chooses."""
    match mode:
        case "active":
            return None
        case "canary":
            return None if is_in_canary else Fallback.CONTROL
        case "shadow":
            return Fallback.SHADOW
        case "off":
            return Fallback.OFF
        case _:
            assert_never(mode)


def _is_in_canary(policy: str, found: _CurrentSettings, request: RoutingRequest, decision_id: str) -> bool:
    unit = _canary_unit(found.settings, request) or decision_id
    return random_number(f"{policy}\0{unit}", "canary") < found.share


def _canary_unit(settings: RoutingSettings, request: RoutingRequest) -> str | None:
    """Return the user or session that always stays in the canary, or always out of it; None if unknown."""
    match settings.sticky_by:
        case "user":
            return request.user
        case "session":
            return request.session
        case "request":
            return None
        case _:
            assert_never(settings.sticky_by)
