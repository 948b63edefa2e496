"""A snapshot prepared for choosing: a few stacked arrays for each list of arms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from conduit_policy.objective import Objective, scale_of
from conduit_policy.prior import Prior
from conduit_policy.signals import AMOUNTS, ROWS, SIGNALS
from conduit_policy.vectors import pack_vector, unpack_vector
from conduit_schemas import ArmSnapshot, SignalPosterior, Snapshot

__all__ = ["Beliefs", "StackedBeliefs", "WeightedBeliefs"]

_QUALITY, _SUCCESS = ROWS["quality"], ROWS["success"]
_SCORES = _SUCCESS + 1
"""Number of scores. They are the first rows."""

_REMEMBERED = 256

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class StackedBeliefs:
    """The beliefs about one ordered list of K arms; S is the number of signals, d the dimension."""

    mean: NDArray[np.float32]
    """Shape (S, K, d)."""
    variance: NDArray[np.float32]
    """Shape (2, K, d): sigma**2 / precision, of quality and success."""
    baseline: NDArray[np.float64]
    """Shape (S, K)."""
    outcomes: NDArray[np.float64]
    """Shape (K,): observations of each arm, the most over its signals."""
    ratings: NDArray[np.float64]
    """Shape (K,): ratings of each arm."""
    scale: NDArray[np.float64]
    """Shape (A, 2): per amount, see :func:`conduit_policy.scale_of`."""
    coverage: float
    """0..1: how well the pool's quality is known; 0 without any rating, 1 from an average of 10 ratings per arm."""

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return every signal's predicted mean at a context, shape (S, K)."""
        return self.baseline + self.mean @ x


class WeightedBeliefs(NamedTuple):
    """Stacked beliefs combined with one objective, as a single matrix product for the request path.

    With ``z`` the context followed by its squares, ``matrix @ z + offset`` has five rows of K: the means of
    quality and success, the price (:meth:`conduit_policy.Objective.price`), and the variances of quality and success.
    """

    matrix: NDArray[np.float32]
    """Shape (5*K, 2*d)."""
    offset: NDArray[np.float64]
    """Shape (5*K,)."""
    outcomes: NDArray[np.float64]
    ratings: NDArray[np.float64]
    """Shape (K,), both."""

    @classmethod
    def of(cls, stacked: StackedBeliefs, objective: Objective) -> Self:
        """Combine beliefs and objective. Amounts are weighted by how well quality is known."""
        count, dimension = stacked.mean.shape[1:]
        matrix = np.zeros((5, count, 2 * dimension), np.float32)
        offset = np.zeros((5, count))
        matrix[:2, :, :dimension] = stacked.mean[:_SCORES]
        offset[:2] = stacked.baseline[:_SCORES]
        matrix[3:, :, dimension:] = stacked.variance
        for signal, (least, span) in zip(AMOUNTS, stacked.scale, strict=True):
            row = ROWS[signal.name]
            price = getattr(objective, signal.name) * stacked.coverage / span
            matrix[2, :, :dimension] += np.float32(price) * stacked.mean[row]
            offset[2] += price * (stacked.baseline[row] - least)
        return cls(matrix.reshape(5 * count, -1), offset.ravel(), stacked.outcomes, stacked.ratings)


class Beliefs:
    """All arms of one policy, as described by one snapshot.

    Examples
    --------
    >>> from conduit_schemas import ExplorationRule, LearningSettings
    >>> snapshot = Snapshot(policy="default/chat", partition=0, offset=0, stream_time_ms=0, arms={},
    ...                     settings=LearningSettings(), rule=ExplorationRule(name="thompson"))
    >>> Beliefs(snapshot).stacked(("a", "b")).mean.shape
    (5, 2, 64)
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._cold = _cold_arm(snapshot)
        self._weighed: dict[tuple[tuple[str, ...], Objective], WeightedBeliefs] = {}
        self._stacked: dict[tuple[str, ...], StackedBeliefs] = {}

    def weighted(self, arms: Sequence[str], objective: Objective) -> WeightedBeliefs:
        """Return the beliefs about these arms under this objective, cached for the next call with the same ones."""
        key = (tuple(arms), objective)
        known = self._weighed.get(key)
        if known is None:
            known = _remember(self._weighed, key, WeightedBeliefs.of(self.stacked(arms), objective))
        return known

    def stacked(self, arms: Sequence[str]) -> StackedBeliefs:
        """Return the stacked arrays of these arms, cached for the next call with the same arms."""
        key = tuple(arms)
        known = self._stacked.get(key)
        if known is None:
            known = _remember(self._stacked, key, self._stack(key))
        return known

    def sigmas(self, arms: Sequence[str], signal: str) -> NDArray[np.float64]:
        """Return the standard deviation of a signal's residual noise for every arm, shape (K,)."""
        return np.array([self._signals(arm)[signal].sigma for arm in arms])

    def is_observed(self, signal: str, arm: str | None = None) -> bool:
        """Return whether a signal was observed, for one arm or any. If not, predictions come from the prior alone."""
        known = self.snapshot.arms
        arms = known.values() if arm is None else [known[arm]] if arm in known else []
        return any(signal in of_arm.signals and of_arm.signals[signal].is_observed for of_arm in arms)

    def _stack(self, arms: tuple[str, ...]) -> StackedBeliefs:
        rows = [self._signals(arm) for arm in arms]
        posteriors = [[row[signal] for row in rows] for signal in SIGNALS]
        mean = np.array([[unpack_vector(p.mean) for p in signal] for signal in posteriors])
        variance = np.array(
            [
                [np.float32(p.sigma * p.sigma) / unpack_vector(p.precision) for p in signal]
                for signal in posteriors[:_SCORES]
            ]
        )
        weight = np.array([[p.weight for p in signal] for signal in posteriors])
        average = np.array([[p.average for p in signal] for signal in posteriors])
        return StackedBeliefs(
            mean=mean,
            variance=variance,
            baseline=np.array([[p.baseline for p in signal] for signal in posteriors]),
            outcomes=weight.max(axis=0),
            ratings=weight[_QUALITY],
            scale=np.array([scale_of(average[row][weight[row] > 0.0]) for row in (ROWS[s.name] for s in AMOUNTS)]),
            coverage=min(1.0, float(weight[_QUALITY].sum()) / (10.0 * len(arms))),
        )

    def _signals(self, arm: str) -> dict[str, SignalPosterior]:
        known = self.snapshot.arms.get(arm)
        return self._cold if known is None else {**self._cold, **known.signals}


def _remember(memory: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    if len(memory) >= _REMEMBERED:
        memory.clear()
    memory[key] = value
    return value


def _cold_arm(snapshot: Snapshot) -> dict[str, SignalPosterior]:
    """Return the beliefs about an arm that was never tried: the pool's averages, with the prior's uncertainty."""
    dimension = snapshot.settings.dimension
    nothing = pack_vector(np.zeros(dimension))
    prior = Prior.of(snapshot.settings)
    cold = {}
    for signal, usual in SIGNALS.items():
        seen = [arm.signals[signal] for arm in _sorted_arms(snapshot) if signal in arm.signals]
        seen = [posterior for posterior in seen if posterior.is_observed]
        weight = math.fsum(p.weight for p in seen)
        level = math.fsum(p.weight * p.average for p in seen) / weight if seen else usual.default
        sigma = math.fsum(p.weight * p.sigma for p in seen) / weight if seen else usual.sigma
        cold[signal] = SignalPosterior(
            mean=nothing,
            precision=pack_vector(prior.untried(signal)),
            baseline=level,
            sigma=sigma,
            average=level,
            weight=0.0,
        )
    return cold


def _sorted_arms(snapshot: Snapshot) -> list[ArmSnapshot]:
    return [snapshot.arms[arm] for arm in sorted(snapshot.arms)]
