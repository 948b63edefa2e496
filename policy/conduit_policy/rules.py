"""Exploration rules: from the beliefs about each arm to the probability of choosing it.

A rule is how a snapshot describes its algorithm: a name and parameters. The algorithm computes probabilities. The
safeguards, which are the same for all algorithms, then adjust them.
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
"""Revision of everything here and in :mod:`conduit_policy.algorithms` that determines a probability. Increase it with
every change that gives other probabilities for the same beliefs. A snapshot names the revision it was made for, so that
an audit does not mistake a new rule for a forgery."""

SAFEGUARDS: Mapping[str, float] = {
    "floor": 0.002,
    "cold_ratings": 5.0,
    "cold_fraction": 0.1,
    "cold_share": 0.1,
    "cold_total": 0.3,
}
"""The parameters that every algorithm takes besides its own, with their defaults; see :func:`probabilities`."""

WORKING = 0.5
"""An arm counts as working when its predicted success is at least this. Arms that fail more often get no preference."""


class Rule(NamedTuple):
    """The algorithm behind the name of a rule."""

    algorithm: type[BanditAlgorithm]
    is_checked: bool
    """Whether every answer is checked, as those of other people's algorithms are. Conduit's own algorithms are tested
    instead."""


RULES: dict[str, Rule] = {}
"""All known rules, by name."""


def probabilities(rule: ExplorationRule, utilities: Utilities) -> tuple[Vector, tuple[Flag, ...]]:
    """Return the choice probabilities and the safeguards that changed them.

    Two safeguards apply to every rule. ``floor`` is the share of the traffic that is spread evenly over all arms. An
    arm is *cold* when it has far fewer ratings than the arm with the most: less than ``cold_fraction`` of that number,
    and less than ``cold_ratings``. Its ratings are mostly good or bad luck. It therefore gets a fixed share instead of
    what the rule would give it: ``cold_share`` per arm, and at most ``cold_total`` for all cold arms together. An arm
    that fails more often than it succeeds is never cold. If all other arms fail, the cold ones get everything.
    :data:`SAFEGUARDS` holds the defaults.

    Raises
    ------
    ConfigurationError
        When there is no such rule, or its algorithm returns something other than probabilities.

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
    """Return the function that computes a rule's probabilities, and its safeguards. Both are created on first use."""
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
"""By the identity of a rule. The value keeps the rule alive, so that no other one can get its identity."""
_MAX_REMEMBERED = 1_000


def _checked(algorithm: BanditAlgorithm, utilities: Utilities) -> Vector:
    vector = np.asarray(algorithm.probabilities(utilities), np.float64)
    total = float(vector.sum()) if vector.shape == utilities.mean.shape else 0.0
    if not (np.isfinite(total) and total > 0.0 and (vector >= 0.0).all()):
        raise ConfigurationError(
            f"algorithm {algorithm.name!r} returned {vector.tolist()} for {len(utilities.mean)} arms; it must return "
            "one number per arm, finite, not negative, and not all 0"
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
