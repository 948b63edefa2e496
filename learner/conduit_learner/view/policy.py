"""The view of one policy: its traffic over time, arms, recent decisions and changed settings."""

import math
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from conduit_learner.core.events import AboutDecision, Event, FeedbackEvent, OutcomeEvent, SelectionEvent
from conduit_learner.view.decision import ShownDecision, decision_of
from conduit_learner.view.savings import SavingsLedger
from conduit_learner.view.timeline import RANGES, Cell, Timeline
from conduit_learner.view.wording import routing_words
from conduit_policy import AMOUNTS, SIGNALS, Beliefs
from conduit_schemas import LearningChange, LearningSettings, OutcomeStatus, RoutingChange, RoutingSettings, Snapshot

__all__ = ["MAX_ARMS_SHOWN", "MONEY", "OTHERS", "TIMES", "PolicyView", "Published", "SettingsChange"]

TIMES = tuple(signal.field for signal in AMOUNTS if signal.is_time)
"""The fields of an outcome that are times in seconds."""

MONEY = tuple(signal.field for signal in AMOUNTS if signal.is_money)
"""The fields of an outcome that are amounts of money."""

MAX_ARMS_SHOWN = 24
"""Maximum number of arms that are counted separately; further arms are counted together."""

OTHERS = "other deployments"
"""Display name of the arms that are counted together."""

_RECENT = 60
_CHANGES = 100
_OFFSETS = 5_000
_STEPS = 8.0
"""Steps of the latency histogram per factor e, which makes quantiles accurate to about 6 %."""


class SettingsChange(NamedTuple):
    """A change of settings by an operator, or by a strategy when it started."""

    time_ms: int
    kind: str
    """``learning`` or ``routing``."""
    by: str
    what: str
    """Description in words."""


class Published(NamedTuple):
    """A policy's newest snapshot."""

    snapshot: Snapshot
    beliefs: Beliefs
    at_ms: int
    """The log's append time."""


@dataclass(slots=True, eq=False)
class PolicyView:
    """The statistics of one policy, in bounded memory.

    Examples
    --------
    >>> view = PolicyView("default/chat")
    >>> selection = SelectionEvent(policy="default/chat", time=0.0, decision_id="d1", arms=("a", "b"), chosen=1,
    ...                       featurizer="text64-v2", context=b"")
    >>> _ = view.apply(selection, time_ms=5_000, offset=7)
    >>> [(start, dict(cells)["b"].selections) for start, cells in view.timelines["all"]]
    [(5000, 1)]
    """

    name: str
    partition: int = 0
    timelines: dict[str, Timeline] = field(
        default_factory=lambda: {
            name: Timeline(span.width_ms, span.buckets, grows=span.grows) for name, span in RANGES.items()
        }
    )
    arms: dict[str, str] = field(default_factory=dict)
    """The arms that are counted separately, with each one's model, in order of appearance."""
    times: dict[tuple[str, str], Counter[int]] = field(default_factory=dict)
    """A histogram of ``ln`` seconds, by arm and field of the outcome."""
    decisions: dict[str, ShownDecision] = field(default_factory=dict)
    """Decisions that still accept outcomes and ratings, by id."""
    ledger: SavingsLedger = field(default_factory=SavingsLedger)
    recent: deque[ShownDecision] = field(default_factory=lambda: deque(maxlen=_RECENT))
    changes: deque[SettingsChange] = field(default_factory=lambda: deque(maxlen=_CHANGES))
    settings: LearningSettings | None = None
    objective: dict[str, float] = field(default_factory=dict)
    """The objective's weights in the newest decision."""
    published: Published | None = None
    fallbacks: Counter[str] = field(default_factory=Counter)
    """Number of selections that LiteLLM made, by reason."""
    errors: Counter[str] = field(default_factory=Counter)
    """Number of failed calls, by error class."""
    offsets: deque[int] = field(default_factory=lambda: deque(maxlen=_OFFSETS))
    """Offsets of the newest events."""
    events: int = 0
    selections: int = 0
    unmatched: int = 0
    """Number of outcomes and ratings whose decision is unknown or was dropped."""
    spent_usd: float = 0.0
    judging_usd: float = 0.0
    """Total cost of the ratings themselves, from ``cost_usd`` in their details."""
    routing: dict[str, RoutingSettings | None] = field(default_factory=dict)
    """The newest routing settings by origin."""
    newest_ms: int = 0

    @property
    def scale(self) -> NDArray[np.float64] | None:
        """The pool's scales; see :class:`conduit_policy.beliefs.StackedBeliefs`. None without a snapshot."""
        if self.published is None or not self.published.snapshot.arms:
            return None
        return self.published.beliefs.stacked(tuple(sorted(self.published.snapshot.arms))).scale

    def apply(self, event: Event, *, time_ms: int, offset: int) -> ShownDecision | None:
        """Add one event; returns the decision that it opens, if any."""
        self.newest_ms = time_ms = max(time_ms, self.newest_ms)  # a broker's clock may have been turned back
        self.events += 1
        self.offsets.append(offset)
        match event:
            case SelectionEvent():
                return self._select(event, time_ms)
            case OutcomeEvent():
                if decision := self._decision(event):
                    self._resolve(decision, event)
            case FeedbackEvent():
                if decision := self._decision(event):
                    self._rate(decision, event)
            case LearningChange():
                self._change_settings(event, time_ms)
            case RoutingChange():
                self._change_routing(event, time_ms)
            case _:
                assert_never(event)
        return None

    def forget(self, decision: ShownDecision) -> None:
        """Drop a decision; later outcomes and ratings of it count as unmatched."""
        del self.decisions[decision.decision_id]
        self.ledger.settle(decision, self.scale)

    def arm_of(self, arm: str) -> str:
        """Return the name under which an arm is counted."""
        return arm if arm in self.arms else OTHERS

    def observed(self, arm: str) -> frozenset[str] | None:
        """Return the signals that were observed of an arm, by the newest snapshot; None without one.

        A decision may be older than that snapshot, but its own one is not at hand.
        """
        if self.published is None:
            return None
        return frozenset(signal for signal in SIGNALS if self.published.beliefs.is_observed(signal, arm))

    def behind(self) -> tuple[int, bool]:
        """Return how many events the newest snapshot does not cover yet, and whether there may be more."""
        covered = 0 if self.published is None else self.published.snapshot.offset
        count = len(self.offsets) - bisect_left(self.offsets, covered)
        return count, count == len(self.offsets) and self.events > count

    def quantile(self, arm: str, field: str, share: float) -> float | None:
        """Return a quantile of one of an arm's times in seconds, accurate to about 6 %; None without any."""
        histogram = self.times.get((arm, field))
        if not histogram:
            return None
        wanted, so_far = share * histogram.total(), 0
        for step in sorted(histogram):
            so_far += histogram[step]
            if so_far >= wanted:
                return math.exp((step + 0.5) / _STEPS)
        return None

    def _decision(self, event: AboutDecision) -> ShownDecision | None:
        decision = self.decisions.get(event.decision_id)
        self.unmatched += decision is None
        return decision

    def _select(self, selection: SelectionEvent, time_ms: int) -> ShownDecision | None:
        if selection.decision_id in self.decisions:
            return None  # delivered twice
        for index, arm in enumerate(selection.arms):
            if arm in self.arms or len(self.arms) < MAX_ARMS_SHOWN:
                self.arms[arm] = selection.models[index] if selection.models else self.arms.get(arm, "")
        decision = decision_of(selection, time_ms)
        self.decisions[decision.decision_id] = decision
        self.recent.append(decision)
        self.selections += 1
        if decision.objective:
            self.objective = dict(decision.objective)
        if decision.fallback is not None:
            self.fallbacks[decision.fallback] += 1
        arm = self.arm_of(decision.arm)
        for timeline in self.timelines.values():
            cell = timeline.record(time_ms, arm)
            cell.selections += 1
            cell.fallbacks += decision.fallback is not None
            cell.explored += decision.is_exploration
        self.ledger.add(decision)
        return decision

    def _resolve(self, decision: ShownDecision, outcome: OutcomeEvent) -> None:
        if not decision.take(outcome):
            return
        arm, rating = self.arm_of(decision.arm), decision.rating
        self.spent_usd += outcome.cost_usd or 0.0
        worked, failed = outcome.status == OutcomeStatus.SUCCESS, outcome.status == OutcomeStatus.ERROR
        known = dict(decision.amounts)
        for name in TIMES:
            if not worked:
                known.pop(name, None)
            elif seconds := known.get(name):
                step = math.floor(math.log(seconds) * _STEPS)
                self.times.setdefault((arm, name), Counter())[step] += 1
        if failed:
            for name in MONEY:
                known.setdefault(name, 0.0)
            self.errors[outcome.error_class or "unknown"] += 1
        for cell in self._cells(decision, arm):
            cell.successes += worked
            if failed:
                cell.errors += 1
                if rating is not None:
                    _rate(cell, -1, -rating, -rating * rating)  # a failed call is worth 0, whatever its rating
            for name, amount in known.items():
                cell.amounts[name] += amount
                cell.known[name] += 1
        self.ledger.changed(decision)

    def _rate(self, decision: ShownDecision, feedback: FeedbackEvent) -> None:
        rater = feedback.source, feedback.key
        if rater in decision.raters:
            return
        cost = feedback.details.get("cost_usd")
        if isinstance(cost, int | float) and not isinstance(cost, bool) and 0.0 <= cost < math.inf:
            self.judging_usd += cost
        if feedback.signal != "quality":
            return
        before = decision.rating
        decision.raters.add(rater)
        decision.ratings.append(feedback.quality)
        if decision.status is not OutcomeStatus.ERROR:
            after, old = decision.rating or 0.0, before or 0.0
            for cell in self._cells(decision, self.arm_of(decision.arm)):
                _rate(cell, int(before is None), after - old, after * after - old * old)
        self.ledger.changed(decision)

    def _cells(self, decision: ShownDecision, arm: str) -> list[Cell]:
        found = (timeline.find(decision.time_ms, arm) for timeline in self.timelines.values())
        return [cell for cell in found if cell is not None]

    def _change_settings(self, event: LearningChange, time_ms: int) -> None:
        if event.settings == self.settings:
            return  # every strategy sends its settings when it starts
        self.changes.append(
            SettingsChange(time_ms, "learning", event.changed_by, _difference(self.settings, event.settings))
        )
        self.settings = event.settings

    def _change_routing(self, event: RoutingChange, time_ms: int) -> None:
        known = self.routing.get(event.origin)
        if event.routing == known and (known is not None or event.origin in self.routing):
            return  # every strategy sends its application's settings when it starts
        self.routing[event.origin] = event.routing
        removed = f"The settings of the {event.origin} were removed."
        what = removed if event.routing is None else routing_words(event.routing)
        self.changes.append(SettingsChange(time_ms, "routing", event.changed_by or event.origin, what))


def _rate(cell: Cell, count: int, rating: float, square: float) -> None:
    cell.rated += count
    cell.rating += rating
    cell.rating_squares += square


def _difference(before: LearningSettings | None, after: LearningSettings) -> str:
    new = after.model_dump()
    if before is None:
        return f"learns with {after.algorithm} on {after.featurizer}"
    old = before.model_dump()
    return "; ".join(
        f"{name.replace('_', ' ')}: {_short(old[name])} → {_short(new[name])}" for name in new if new[name] != old[name]
    )


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
