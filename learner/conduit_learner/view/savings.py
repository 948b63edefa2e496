"""Savings: estimate, in bounded memory, the cost and quality of always using one arm for the same requests.

Decisions are stored in blocks. Outcomes and ratings may arrive while a block is open; once it is closed, only the
moments of its per-decision scores remain. The scores are doubly robust, with each decision's logged predictions as the
reward model: they were made before the outcome, as such an estimate requires.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from conduit_learner.evaluation.estimators import doubly_robust_scores
from conduit_learner.evaluation.intervals import asymptotic_reach
from conduit_learner.evaluation.logged_decisions import LoggedDecisions
from conduit_learner.evaluation.measures import JoinedDecision, measure
from conduit_learner.view.decision import ShownDecision
from conduit_policy import AMOUNTS, SIGNALS, Objective, place

__all__ = ["COMPARED", "DECISIONS_PER_BLOCK", "Comparison", "Moments", "SavingsLedger"]

Vector = NDArray[np.float64]

DECISIONS_PER_BLOCK = 2_000
"""How many decisions are compared together."""

_COST = SIGNALS["cost"]

COMPARED = (_COST.field, "quality", "utility")
"""See :data:`conduit_learner.evaluation.measures.MEASURES`."""

_FROM_RATINGS = frozenset({"quality", "utility"})
"""Measures that need ratings. Failures are worth 0, but they do not say how good the other answers were."""

_FLAT = np.array([[0.0, math.inf]] * len(AMOUNTS))
"""The scale of a pool without known amounts, with which no amount counts."""


@dataclass(slots=True)
class Moments:
    """Number, mean and squared deviations of scores; can be merged (Chan, Golub & LeVeque 1983).

    Examples
    --------
    >>> moments = Moments.of(np.array([1.0, 2.0])).merged(Moments.of(np.array([3.0])))
    >>> moments.mean, moments.deviation
    (2.0, 1.0)
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared deviations from the mean."""

    @classmethod
    def of(cls, scores: Vector) -> "Moments":
        """Return the moments of an array."""
        if not len(scores):
            return cls()
        mean = float(scores.mean())
        return cls(len(scores), mean, float(((scores - mean) ** 2).sum()))

    def merged(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of scores together."""
        n = self.n + other.n
        if not n:
            return Moments()
        step = other.mean - self.mean
        squares = self.squares + other.squares + step * step * self.n * other.n / n
        return Moments(n, self.mean + step * other.n / n, squares)

    @property
    def deviation(self) -> float:
        """Standard deviation; NaN for fewer than two scores."""
        return math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else math.nan

    @property
    def reach(self) -> float:
        """Half-width of the mean's 95 % confidence sequence, which remains valid however often you look at it."""
        return float(asymptotic_reach(self.n, self.deviation)) if self.n > 1 else math.inf


@dataclass(slots=True)
class Comparison:
    """Estimates for one arm, as if it had served every request for which it was available."""

    selections: int = 0
    """How often the arm actually served."""
    blind: int = 0
    """Number of requests for which the arm was available with probability 0, so that the log says nothing of them."""
    value: dict[str, Moments] = field(default_factory=dict)
    """The arm's value per decision, by measure."""
    ahead: dict[str, Moments] = field(default_factory=dict)
    """The arm's value minus that of the arm that served the same request, by measure."""

    def merged(self, other: "Comparison") -> "Comparison":
        """Return the two comparisons merged."""
        return Comparison(
            self.selections + other.selections,
            self.blind + other.blind,
            _together(self.value, other.value),
            _together(self.ahead, other.ahead),
        )


class _Block:
    def __init__(self) -> None:
        self.decisions: list[ShownDecision] = []
        self.unsettled = 0
        """Number of decisions that still accept outcomes and ratings."""
        self.is_changed = True
        """Whether anything arrived since the last evaluation."""
        self.comparisons: dict[str, Comparison] = {}


class SavingsLedger:
    """Compares every arm with the arms that served, over all of a policy's decisions that Conduit made.

    Examples
    --------
    >>> from conduit_learner.view.decision import ShownDecision
    >>> ledger = SavingsLedger()
    >>> for number in range(100):
    ...     ledger.add(ShownDecision(f"d{number}", 0, ("expensive", "cheap"), (), number % 2, (0.5, 0.5),
    ...                         {"cost": (0.01, 0.001)}, {}, (), None, status="success",
    ...                         amounts={"cost_usd": (0.01, 0.001)[number % 2]}))
    >>> found = ledger.comparisons(None)
    >>> round(found["expensive"].value["cost_usd"].mean, 6), round(found["expensive"].ahead["cost_usd"].mean, 6)
    (0.01, 0.0045)
    """

    def __init__(self) -> None:
        self._open: list[_Block] = []
        self._of: dict[str, _Block] = {}
        """The block of each unsettled decision, by decision id."""
        self._closed: dict[str, Comparison] = {}

    def add(self, decision: ShownDecision) -> None:
        """Add a decision. Decisions that Conduit did not make cannot be compared and are ignored."""
        if decision.probabilities is None:
            return
        if not self._open or len(self._open[-1].decisions) >= DECISIONS_PER_BLOCK:
            self._open.append(_Block())
        block = self._of[decision.decision_id] = self._open[-1]
        block.decisions.append(decision)
        block.unsettled += 1
        block.is_changed = True

    def changed(self, decision: ShownDecision) -> None:
        """Record that an outcome or a rating of a decision arrived."""
        if block := self._of.get(decision.decision_id):
            block.is_changed = True

    def settle(self, decision: ShownDecision, scale: Vector | None) -> None:
        """Record that a decision accepts no more outcomes and ratings; the last decision of a block closes it."""
        block = self._of.pop(decision.decision_id, None)
        if block is None:
            return
        block.unsettled -= 1
        if not block.unsettled:
            self._refresh(block, scale)
            self._closed = _sum(self._closed, block.comparisons)
            self._open.remove(block)

    def comparisons(self, scale: Vector | None) -> dict[str, Comparison]:
        """Return the comparison of every arm.

        Parameters
        ----------
        scale
            Shape (A, 2), for utilities; see :class:`conduit_policy.beliefs.StackedBeliefs`. None while it is unknown.
        """
        total = dict(self._closed)
        for block in self._open:
            self._refresh(block, scale)
            total = _sum(total, block.comparisons)
        return total

    @staticmethod
    def _refresh(block: _Block, scale: Vector | None) -> None:
        if block.is_changed:
            block.comparisons = _compare(block.decisions, _FLAT if scale is None else scale)
            block.is_changed = False


def _compare(decisions: Sequence[ShownDecision], scale: Vector) -> dict[str, Comparison]:
    arms = sorted({arm for decision in decisions for arm in decision.arms})
    column = {arm: index for index, arm in enumerate(arms)}
    chosen = np.array([column[decision.arm] for decision in decisions])
    logging = np.zeros((len(decisions), len(arms)))
    is_offered = np.zeros(logging.shape, dtype=bool)
    for row, decision in enumerate(decisions):
        columns = [column[arm] for arm in decision.arms]
        logging[row, columns] = decision.probabilities
        is_offered[row, columns] = True
    joined = [_joined(decision) for decision in decisions]
    measured = measure(joined, chosen, scale=scale)
    predicted = _predicted(decisions, joined, column, scale)
    comparisons = {}
    for arm, index in column.items():
        blind = is_offered[:, index] & (logging[:, index] <= 0.0)
        comparisons[arm] = Comparison(selections=int((chosen == index).sum()), blind=int(blind.sum()))
    own = np.eye(len(arms))
    propensity = logging[np.arange(len(decisions)), chosen]
    is_rated = any(decision.ratings for decision in decisions)
    for name in COMPARED:
        reward, feedback = measured[name]
        if np.isnan(reward).all() or (name in _FROM_RATINGS and not is_rated):
            continue  # nothing is known about this measure
        table = LoggedDecisions(
            chosen=chosen,
            propensity=np.ones(len(chosen)),
            target=own[chosen],
            reward=reward,
            predicted=predicted[name],
            feedback=feedback,
        )
        served = doubly_robust_scores(table)
        for arm, index in column.items():
            fixed = replace(table, propensity=propensity, target=np.broadcast_to(own[index], logging.shape))
            scores = doubly_robust_scores(fixed)[is_offered[:, index]]
            comparisons[arm].value[name] = Moments.of(scores)
            comparisons[arm].ahead[name] = Moments.of(scores - served[is_offered[:, index]])
    return comparisons


def _joined(decision: ShownDecision) -> JoinedDecision:
    nothing = np.zeros(0)
    return JoinedDecision(
        decision.arms,
        decision.chosen,
        decision.probabilities or (),
        nothing,
        nothing.astype(np.int16),
        _objective(decision.objective),
        decision.status,
        decision.amounts,
        decision.ratings,
    )


def _objective(weights: Mapping[str, float]) -> Objective:
    return _objective_of(tuple(sorted(weights.items())))


@lru_cache(maxsize=64)
def _objective_of(weights: tuple[tuple[str, float], ...]) -> Objective:
    return Objective.of_log(dict(weights)) or Objective()  # invalid weights must not prevent the report


def _predicted(
    decisions: Sequence[ShownDecision], joined: Sequence[JoinedDecision], column: Mapping[str, int], scale: Vector
) -> dict[str, Vector]:
    """Return the value predicted for every arm at every decision; 0 where there is no prediction."""
    found = {name: np.zeros((len(decisions), len(column))) for name in COMPARED}
    rows_by_shape: dict[tuple[object, ...], list[int]] = {}
    for row, decision in enumerate(decisions):
        rows_by_shape.setdefault((decision.arms, joined[row].objective, *decision.predictions), []).append(row)
    for rows in rows_by_shape.values():
        first, objective = decisions[rows[0]], joined[rows[0]].objective
        at = np.ix_(rows, [column[arm] for arm in first.arms])
        expected = {
            signal: np.array([decisions[row].predictions[signal] for row in rows]) for signal in first.predictions
        }
        nothing = np.zeros((len(rows), len(first.arms)))
        working = np.clip(expected.get("success", nothing + 1.0), 0.0, 1.0)
        quality = np.clip(expected.get("quality", nothing), 0.0, 1.0) * working
        places = {
            signal.name: place(np.log(expected[signal.name]), (float(least), float(span)))
            for signal, (least, span) in zip(AMOUNTS, scale, strict=True)
            if signal.name in expected
        }
        found["quality"][at] = quality
        found[_COST.field][at] = expected.get(_COST.name, nothing)
        found["utility"][at] = objective.utility(quality, 1.0, objective.price(places))
    return found


def _together(one: Mapping[str, Moments], other: Mapping[str, Moments]) -> dict[str, Moments]:
    return {name: one.get(name, Moments()).merged(other.get(name, Moments())) for name in {**one, **other}}


def _sum(one: Mapping[str, Comparison], other: Mapping[str, Comparison]) -> dict[str, Comparison]:
    return {arm: one.get(arm, Comparison()).merged(other.get(arm, Comparison())) for arm in {**one, **other}}
