"""Exploration rules: from what is believed about each arm to the probability of choosing it.

A rule is what a snapshot says of its algorithm: a name and parameters. The algorithm answers, and the safeguards, which
are the same for all, act on its answer.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conduit_policy.bandit_algorithm import BanditAlgorithm, Utilities, Vector
from conduit_schemas import ConfigurationError, ExplorationRule, Flag

__all__ = ["REVISION", "RULES", "SAFEGUARDS", "WORKING", "Rule", "Utilities", "Vector", "floor_of", "probabilities"]


REVISION = 3
"""Of everything here and in :mod:`conduit_policy.algorithms` that decides a probability. Whoever changes what comes out
of the same beliefs adds one: a snapshot names the revision it is meant for, so that an audit does not take a new rule
for a forgery."""

SAFEGUARDS: Mapping[str, float] = {
    "floor": 0.002,
    "cold_ratings": 5.0,
    "cold_fraction": 0.1,
    "cold_share": 0.1,
    "cold_total": 0.3,
}
"""What every algorithm takes besides its own parameters, with the defaults; see :func:`probabilities`."""

WORKING = 0.5
"""Predicted success from which on an arm counts as working: one that fails more often is preferred by nothing."""


class Rule(NamedTuple):
    """What answers for the name that a snapshot gives its rule."""

    algorithm: type[BanditAlgorithm]
    is_checked: bool
    """Whether each answer is looked at: a decision must not hang on somebody's arithmetic. Conduit's own algorithms are
    held to it by their tests instead."""


RULES: dict[str, Rule] = {}
"""By name."""


def probabilities(rule: ExplorationRule, utilities: Utilities) -> tuple[Vector, tuple[Flag, ...]]:
    """Return the choice probabilities and the safeguards that changed them.

    Two safeguards apply to every rule. ``floor`` is the share of the traffic spread evenly over all arms. Arms with
    much fewer quality feedbacks than the best known one are *cold*: fewer than ``cold_fraction`` of its, and fewer than
    ``cold_ratings``. What is believed of them is mostly luck, good or bad, so they get a fixed share instead of what
    the rule would give them, ``cold_share`` each and at most ``cold_total`` together. Arms that fail more often than
    not are never cold; when all others fail, the cold ones get everything. :data:`SAFEGUARDS` holds the defaults.

    Raises
    ------
    ConfigurationError
        When there is no such rule, or what its algorithm returns are no probabilities.

    Examples
    --------
    >>> many = np.array([500.0, 500.0])
    >>> arms = Utilities(np.array([0.9, 0.1]), np.array([0.01, 0.01]), many, many, np.ones(2))
    >>> vector, flags = probabilities(ExplorationRule(name="greedy"), arms)
    >>> vector.round(3).tolist()
    [0.999, 0.001]
    """
    count = len(utilities.mean)
    answer, safeguards = _prepared(rule)
    if count == 1:
        return np.ones(1), ()
    flags: tuple[Flag, ...] = ()
    ratings = utilities.ratings
    least = min(safeguards["cold_ratings"], safeguards["cold_fraction"] * float(ratings.max()))
    if least < 1.0 or ratings.min() >= least:
        vector = answer(utilities)
    else:
        vector, flags = _with_cold_arms(answer, utilities, safeguards, ratings < least)
    floor = safeguards["floor"]
    vector = vector * (1.0 - floor) + floor / count
    return vector / vector.sum(), flags


def floor_of(rule: ExplorationRule) -> float:
    """Return the share of the traffic that a rule spreads evenly over all arms."""
    return rule.params.get("floor", SAFEGUARDS["floor"])


class _Prepared(NamedTuple):
    answer: Callable[[Utilities], Vector]
    safeguards: Mapping[str, float]


def _prepared(rule: ExplorationRule) -> _Prepared:
    """Return what answers for a rule, and its safeguards, made when a decision first asks for them."""
    remembered = _remembered.get(id(rule))
    if remembered is not None:
        return remembered[1]
    known = RULES.get(rule.name)
    if known is None:
        raise ConfigurationError(f"no exploration rule {rule.name!r}; there are {', '.join(sorted(RULES))}")
    takes = known.algorithm.takes
    algorithm = known.algorithm(**{name: value for name, value in rule.params.items() if name in takes})
    answer = partial(_checked, algorithm) if known.is_checked else algorithm.probabilities
    prepared = _Prepared(answer, {**SAFEGUARDS, **rule.params})
    if len(_remembered) >= _MAX_REMEMBERED:
        _remembered.clear()
    _remembered[id(rule)] = rule, prepared
    return prepared


_remembered: dict[int, tuple[ExplorationRule, _Prepared]] = {}
"""By the identity of a rule, which is kept alive in it."""
_MAX_REMEMBERED = 1_000


def _checked(algorithm: BanditAlgorithm, utilities: Utilities) -> Vector:
    vector = np.asarray(algorithm.probabilities(utilities), np.float64)
    total = float(vector.sum()) if vector.shape == utilities.mean.shape else 0.0
    if not (np.isfinite(total) and total > 0.0 and (vector >= 0.0).all()):
        raise ConfigurationError(
            f"algorithm {algorithm.name!r} returned {vector.tolist()} for {len(utilities.mean)} arms; "
            "probabilities must be finite, not below 0 and not all 0, one per arm"
        )
    scaled: Vector = vector / total
    return scaled


def _with_cold_arms(
    answer: Callable[[Utilities], Vector],
    utilities: Utilities,
    safeguards: Mapping[str, float],
    unrated: NDArray[np.bool_],
) -> tuple[Vector, tuple[Flag, ...]]:
    working = utilities.success >= WORKING
    cold = unrated & working
    number = np.count_nonzero(cold)
    if not number:
        return answer(utilities), ()
    if not (working & ~unrated).any():
        return cold / number, (Flag.COLD_ONLY,)
    share = min(safeguards["cold_share"] * number, safeguards["cold_total"])
    vector = cold * (share / number)
    vector[~cold] = answer(utilities.of(~cold)) * (1.0 - share)
    return vector, (Flag.COLD_SHARE,)
