"""Limits on a choice: which arms may be chosen at all, and the utility of being cheap and of staying with an arm.

Everything here is a pure function of the beliefs and of numbers that the selection's event carries. The probabilities
can therefore be recomputed from the log. Limits come before exploration: an arm that a limit excludes has
probability 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from conduit_policy.rules import WORKING, Utilities, Vector, floor_of, probabilities
from conduit_policy.signals import LIMITED
from conduit_schemas import ExplorationRule, Flag, QualityFloor

__all__ = ["UNCONSTRAINED", "Constraints", "Predictions", "constrained"]

Mask = NDArray[np.bool_]


_MIN_RATINGS = 10.0
"""Ratings that an arm needs before others can be compared with it."""

_UNDECIDED_SHARE = 0.1
"""Share of the choices for cheaper arms that may or may not reach the floor."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """The limits of one choice as plain numbers, as they are logged.

    Examples
    --------
    >>> limits = Constraints(max_cost_usd=0.01, floor_relative=0.95, floor_confidence=0.95)
    >>> Constraints.of_log(limits.logged()) == limits
    True
    """

    max_cost_usd: float | None = None
    """Arms that cost more than this with a probability of 5 % or more are left out."""
    max_latency_s: float | None = None
    """Arms whose predicted (median) latency is above this are left out."""
    max_ttft_s: float | None = None
    """Arms whose predicted (median) time to the first token is above this are left out."""
    floor_relative: float | None = None
    """Prefer the cheapest arm whose quality is at least this share of the best arm's ..."""
    floor_confidence: float = QualityFloor().confidence
    """... with this probability."""
    budget_price: float = 0.0
    """Weight of cost in addition to the objective's: the utility lost between the pool's cheapest and its most
    expensive arm, on the log scale."""
    budget_spent: float = 0.0
    """1 to allow only the cheapest arm, else 0."""
    min_exploration: float = 0.0
    """The least share of the choices that is spread evenly over the arms that may be chosen."""
    switching_cost: float = 0.0
    """Utility that is added to the session's last arm."""
    stickiness: float = 0.0
    """1 to stay with the session's last arm for as long as it works, else 0."""
    previous: int | None = None
    """Index of the session's last arm."""

    def logged(self) -> dict[str, float]:
        """Return the limits that apply, by name, for the selection's event."""
        values = {name: getattr(self, name) for name, usual in _DEFAULTS.items() if getattr(self, name) != usual}
        if self.floor_relative is not None:
            values["floor_confidence"] = self.floor_confidence
        return {name: float(value) for name, value in values.items()}

    @classmethod
    def of_log(cls, logged: Mapping[str, float]) -> Self:
        """Return the limits that a selection's event carries. Names of a later version are ignored."""
        known = {item.name: logged[item.name] for item in fields(cls) if item.name in logged}
        previous = known.pop("previous", None)
        return cls(**known, previous=None if previous is None else int(previous))


UNCONSTRAINED = Constraints()
_DEFAULTS = {item.name: item.default for item in fields(Constraints)}


class Predictions(NamedTuple):
    """Predictions about K arms, each of shape (K,)."""

    limited: Mapping[str, Vector]
    """By limited signal: the logarithm of the amount that is compared with the limit."""
    cost: Vector
    """ln USD."""
    cost_place: Vector
    """0 for the pool's cheapest arm, 1 for its most expensive, on the log scale. 0 while no cost is known."""
    quality: Utilities
    """Utilities from quality and success alone."""


def constrained(
    rule: ExplorationRule, utilities: Utilities, predicted: Predictions, constraints: Constraints
) -> tuple[Vector, tuple[Flag, ...]]:
    """Return the choice probabilities under constraints, and the flags that say what changed them.

    If no arm meets a limit, the one that comes closest to it serves. A request is never refused.

    Examples
    --------
    >>> many = np.array([500.0, 500.0])
    >>> arms = Utilities(np.array([0.9, 0.8]), np.full(2, 0.01), many, many, np.ones(2))
    >>> cost = np.log([0.03, 0.001])
    >>> predicted = Predictions({"cost": cost}, cost, np.array([1.0, 0.0]), arms)
    >>> constrained(ExplorationRule(name="greedy"), arms, predicted, Constraints(max_cost_usd=0.01))[0].tolist()
    [0.0, 1.0]
    """
    allowed, flags = _allowed(utilities, predicted, constraints)
    previous = constraints.previous
    if previous is not None and not (previous < len(allowed) and allowed[previous]):
        previous = None
    if previous is not None and constraints.stickiness and utilities.success[previous] >= WORKING:
        return _alone(previous, len(allowed)), (*flags, Flag.SESSION_STICKY)
    mean = utilities.mean
    if constraints.budget_price > 0.0:
        mean = mean - constraints.budget_price * predicted.cost_place
        flags = (*flags, Flag.BUDGET)
    if previous is not None and constraints.switching_cost > 0.0:
        mean = mean.copy()
        mean[previous] += constraints.switching_cost
        flags = (*flags, Flag.SWITCHING_COST)
    vector: Vector | None = None
    if constraints.floor_relative is not None:
        vector = _cheapest_good_enough(
            rule, predicted, constraints.floor_relative, constraints.floor_confidence, allowed
        )
        flags = (*flags, Flag.QUALITY_FLOOR_UNKNOWN if vector is None else Flag.QUALITY_FLOOR)
    if vector is None:
        vector = np.zeros(len(allowed))
        vector[allowed], safeguards = probabilities(rule, utilities._replace(mean=mean).of(allowed))
        flags = (*safeguards, *flags)
    floor = floor_of(rule)
    if constraints.min_exploration > floor:
        more = 1.0 - (1.0 - constraints.min_exploration) / (1.0 - floor)
        vector = vector * (1.0 - more) + allowed * (more / np.count_nonzero(allowed))
        flags = (*flags, Flag.MIN_EXPLORATION)
    return vector / vector.sum(), flags


def _allowed(utilities: Utilities, predicted: Predictions, constraints: Constraints) -> tuple[Mask, tuple[Flag, ...]]:
    allowed = np.ones(len(utilities.mean), dtype=np.bool_)
    flags: list[Flag] = []
    for signal in LIMITED:
        limit = getattr(constraints, signal.limit)
        if limit is not None and signal.limit_flags is not None:
            allowed, flag = _within(allowed, predicted.limited[signal.name], math.log(limit), signal.limit_flags)
            flags += flag
    if constraints.budget_spent:
        working = allowed & (utilities.success >= WORKING)
        allowed = _least(working if working.any() else allowed, predicted.cost)
        flags.append(Flag.BUDGET_SPENT)
    return allowed, tuple(flags)


def _within(
    allowed: Mask, values: Vector, limit: float, names: tuple[Flag, Flag]
) -> tuple[Mask, tuple[()] | tuple[Flag]]:
    """Return the arms whose value is within a limit, or those that come closest if none is, and a flag.

    It is the first of ``names`` when arms were left out, and the second when no arm met the limit.
    """
    narrowed, unmet = names
    inside = allowed & (values <= limit)
    if not inside.any():
        return _least(allowed, values), (unmet,)
    return inside, () if np.count_nonzero(inside) == np.count_nonzero(allowed) else (narrowed,)


def _least(allowed: Mask, values: Vector) -> Mask:
    return np.asarray(allowed & (values == values[allowed].min()))


def _cheapest_good_enough(
    rule: ExplorationRule, predicted: Predictions, relative: float, confidence: float, allowed: Mask
) -> Vector | None:
    """Return the probabilities under a quality floor, or None when no arm has enough ratings to define it.

    Quality here is the probability of success times the quality, modelled as normal and independent between arms. Most
    choices go to the cheapest arm that reaches the floor with the required confidence. A tenth goes to cheaper arms
    that may still turn out to reach it, so that more is learned where it matters.
    """
    quality = predicted.quality
    rated = allowed & (quality.ratings >= _MIN_RATINGS) & (quality.success >= WORKING)
    if not rated.any():
        return None
    best = int(np.where(rated, quality.mean, -np.inf).argmax())
    margin = quality.mean - relative * quality.mean[best]
    spread = _quantile(confidence) * np.hypot(quality.deviation, relative * quality.deviation[best])
    sure = allowed & (margin >= spread)
    sure[best] = True
    chosen = _least(sure, predicted.cost)
    open_ = allowed & ~sure & (margin > -spread) & (predicted.cost < predicted.cost[chosen].min())
    vector = chosen / np.count_nonzero(chosen)
    if open_.any():
        vector = vector * (1.0 - _UNDECIDED_SHARE) + open_ * (_UNDECIDED_SHARE / np.count_nonzero(open_))
    floor = floor_of(rule)
    return np.asarray(vector * (1.0 - floor) + allowed * (floor / np.count_nonzero(allowed)))


@lru_cache(maxsize=64)
def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(confidence)


def _alone(index: int, count: int) -> Vector:
    vector = np.zeros(count)
    vector[index] = 1.0
    return vector
