"""What every fixed arm would have cost and been worth on the same requests: off-policy estimates in bounded memory.

The decisions are kept in blocks. While a block is open, outcomes and ratings may still arrive; once it is closed only
the moments of its per-decision scores remain. Scores are doubly robust, with the predictions that were logged
with each decision as the reward model: they were made before the outcome, as such an estimate demands.
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
from conduit_policy import AMOUNTS, Objective, place
from conduit_schemas import ConfigurationError

__all__ = ["BLOCK", "MEASURES", "Comparison", "Moments", "SavingsLedger"]

Vector = NDArray[np.float64]

BLOCK = 2_000
"""Decisions of one block."""

MEASURES = ("cost_usd", "quality", "utility")
"""See :data:`conduit_learner.evaluation.measures.MEASURES`."""

_FLAT = np.array([[0.0, math.inf]] * len(AMOUNTS))
"""The scale of a pool of which no amount is known: none counts."""


@dataclass(slots=True)
class Moments:
    """Number, mean and squared deviations of scores; two of them add up exactly (Chan, Golub & LeVeque 1983).

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
        """Return the moments of both."""
        n = self.n + other.n
        if not n:
            return Moments()
        step = other.mean - self.mean
        squares = self.squares + other.squares + step * step * self.n * other.n / n
        return Moments(n, self.mean + step * other.n / n, squares)

    @property
    def deviation(self) -> float:
        """Standard deviation; NaN of fewer than two."""
        return math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else math.nan

    @property
    def reach(self) -> float:
        """How far the 95 % confidence sequence of the mean reaches; it holds however often somebody looks."""
        return float(asymptotic_reach(self.n, self.deviation)) if self.n > 1 else math.inf


@dataclass(slots=True)
class Comparison:
    """One arm, had it served every request for which it was a candidate."""

    selections: int = 0
    """How often it really served."""
    blind: int = 0
    """Requests for which it was a candidate and had no chance: nothing was measured of those."""
    value: dict[str, Moments] = field(default_factory=dict)
    """By measure: what one of its decisions is worth."""
    ahead: dict[str, Moments] = field(default_factory=dict)
    """By measure: how much more than what really served on the same request."""

    def merged(self, other: "Comparison") -> "Comparison":
        """Return both together."""
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
        """Decisions of which something may still be heard."""
        self.is_changed = True
        """Something arrived since it was last evaluated."""
        self.comparisons: dict[str, Comparison] = {}


class SavingsLedger:
    """Every arm's comparison over all of a policy's decisions that Conduit made.

    Examples
    --------
    >>> from conduit_learner.view.decision import ShownDecision
    >>> ledger = SavingsLedger()
    >>> for number in range(100):
    ...     ledger.add(ShownDecision(f"d{number}", 0, ("dear", "cheap"), (), number % 2, (0.5, 0.5),
    ...                         {"cost": (0.01, 0.001)}, {}, (), None, status="success",
    ...                         amounts={"cost_usd": (0.01, 0.001)[number % 2]}))
    >>> found = ledger.comparisons(None)
    >>> round(found["dear"].value["cost_usd"].mean, 6), round(found["dear"].ahead["cost_usd"].mean, 6)
    (0.01, 0.0045)
    """

    def __init__(self) -> None:
        self._open: list[_Block] = []
        self._of: dict[str, _Block] = {}
        """By decision id, while it is unsettled."""
        self._closed: dict[str, Comparison] = {}

    def add(self, decision: ShownDecision) -> None:
        """Take in a decision. One that Conduit did not make cannot be compared, and is passed over."""
        if decision.probabilities is None:
            return
        if not self._open or len(self._open[-1].decisions) >= BLOCK:
            self._open.append(_Block())
        block = self._of[decision.decision_id] = self._open[-1]
        block.decisions.append(decision)
        block.unsettled += 1
        block.is_changed = True

    def changed(self, decision: ShownDecision) -> None:
        """Note that an outcome or a rating of a decision arrived."""
        if block := self._of.get(decision.decision_id):
            block.is_changed = True

    def settle(self, decision: ShownDecision, scale: Vector | None) -> None:
        """Note that nothing more will be heard of a decision; a block's last one closes it."""
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
            Shape (A, 2), for utilities; see :class:`conduit_policy.beliefs.Candidates`. None while it is unknown.
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
    is_candidate = np.zeros(logging.shape, dtype=bool)
    for row, decision in enumerate(decisions):
        columns = [column[arm] for arm in decision.arms]
        logging[row, columns] = decision.probabilities
        is_candidate[row, columns] = True
    joined = [_joined(decision) for decision in decisions]
    measured = measure(joined, chosen, scale=scale)
    predicted = _predicted(decisions, joined, column, scale)
    comparisons = {}
    for arm, index in column.items():
        blind = is_candidate[:, index] & (logging[:, index] <= 0.0)
        comparisons[arm] = Comparison(selections=int((chosen == index).sum()), blind=int(blind.sum()))
    own = np.eye(len(arms))
    propensity = logging[np.arange(len(decisions)), chosen]
    for name in MEASURES:
        reward, feedback = measured[name]
        if np.isnan(reward).all():
            continue  # nobody has said anything of it
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
            scores = doubly_robust_scores(fixed)[is_candidate[:, index]]
            comparisons[arm].value[name] = Moments.of(scores)
            comparisons[arm].ahead[name] = Moments.of(scores - served[is_candidate[:, index]])
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
        decision.status or "",
        decision.amounts,
        decision.ratings,
    )


def _objective(weights: Mapping[str, float]) -> Objective:
    return _objective_of(tuple(sorted(weights.items())))


@lru_cache(maxsize=64)
def _objective_of(weights: tuple[tuple[str, float], ...]) -> Objective:
    try:
        return Objective.of_weights(dict(weights))
    except ConfigurationError:
        return Objective()  # weights that make no sense are the log's, not ours to refuse


def _predicted(
    decisions: Sequence[ShownDecision], joined: Sequence[JoinedDecision], column: Mapping[str, int], scale: Vector
) -> dict[str, Vector]:
    """Return what was expected of every arm at every decision, 0 where nothing was."""
    found = {name: np.zeros((len(decisions), len(column))) for name in MEASURES}
    alike: dict[tuple[object, ...], list[int]] = {}
    for row, decision in enumerate(decisions):
        alike.setdefault((decision.arms, joined[row].objective, *decision.predictions), []).append(row)
    for rows in alike.values():
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
        found["cost_usd"][at] = expected.get("cost", nothing)
        found["utility"][at] = objective.utility(quality, 1.0, objective.price(places))
    return found


def _together(one: Mapping[str, Moments], other: Mapping[str, Moments]) -> dict[str, Moments]:
    return {name: one.get(name, Moments()).merged(other.get(name, Moments())) for name in {**one, **other}}


def _sum(one: Mapping[str, Comparison], other: Mapping[str, Comparison]) -> dict[str, Comparison]:
    return {arm: one.get(arm, Comparison()).merged(other.get(arm, Comparison())) for arm in {**one, **other}}
