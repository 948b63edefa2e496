"""The choice itself: a pure function, which can be recomputed from the log."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from conduit_policy.beliefs import Beliefs
from conduit_policy.chance import random_number
from conduit_policy.constraints import UNCONSTRAINED, Constraints, Predictions, constrained
from conduit_policy.objective import QUALITY_ONLY, Objective, place
from conduit_policy.rules import Utilities, probabilities
from conduit_policy.signals import AMOUNTS, LIMITED, ROWS
from conduit_policy.vectors import UNIT, Context
from conduit_schemas import Flag

__all__ = ["Choice", "choice_probabilities", "choose", "draw", "predictions", "utilities"]

_UNIT = np.float32(UNIT)


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen arm, and everything needed to check the choice later."""

    index: int
    """Position in the list of arms."""
    probabilities: NDArray[np.float64]
    """Shape (K,): the vector that the arm was drawn from."""
    flags: tuple[Flag, ...]
    """The safeguards and limits that changed the probabilities."""


def choose(
    beliefs: Beliefs,
    context: Context,
    arms: Sequence[str],
    *,
    objective: Objective,
    decision_id: str,
    constraints: Constraints = UNCONSTRAINED,
) -> Choice:
    """Choose one of several arms.

    Parameters
    ----------
    beliefs
        The beliefs of a snapshot. Arms that it does not know count as never tried.
    context
        Shape (dimension,), computed by the featurizer that the snapshot names.
    arms
        The eligible arms, at least one.
    objective
        The weights of the utility.
    decision_id
        Determines the random draw: the same id and inputs give the same choice.
    constraints
        The limits of the choice.

    Examples
    --------
    >>> from conduit_schemas import ExplorationRule, LearningSettings, Snapshot
    >>> snapshot = Snapshot(policy="default/chat", partition=0, offset=0, stream_time_ms=0, arms={},
    ...                     settings=LearningSettings(), rule=ExplorationRule(name="uniform"))
    >>> choice = choose(Beliefs(snapshot), np.zeros(64, np.int16), ("a", "b"),
    ...                 objective=Objective(), decision_id="d1")
    >>> choice.probabilities.tolist()
    [0.5, 0.5]
    """
    vector, flags = choice_probabilities(
        beliefs, context, arms, utilities(beliefs, context, arms, objective), constraints
    )
    return Choice(draw(vector, decision_id), vector, flags)


def choice_probabilities(
    beliefs: Beliefs, context: Context, arms: Sequence[str], believed: Utilities, constraints: Constraints
) -> tuple[NDArray[np.float64], tuple[Flag, ...]]:
    """Return the probability vector to draw an arm from, and the safeguards and limits that changed it.

    Parameters
    ----------
    believed
        The utilities of the arms under the objective that applies.
    """
    rule = beliefs.snapshot.rule
    if constraints == UNCONSTRAINED or len(arms) == 1:
        return probabilities(rule, believed)
    predicted = predictions(beliefs, context, arms)
    cost, scales = predicted[ROWS["cost"]], beliefs.stacked(arms).scale
    of_arms = Predictions(
        limited={
            signal.name: predicted[ROWS[signal.name]] + signal.limit_deviations * beliefs.sigmas(arms, signal.name)
            for signal in LIMITED
            if getattr(constraints, signal.limit) is not None
        },
        cost=cost,
        cost_place=place(cost, scales[_COST]),
        quality=utilities(beliefs, context, arms, QUALITY_ONLY),
    )
    return constrained(rule, believed, of_arms, constraints)


_COST = [signal.name for signal in AMOUNTS].index("cost")


def utilities(beliefs: Beliefs, context: Context, arms: Sequence[str], objective: Objective) -> Utilities:
    """Return the posterior of every arm's utility.

    The weights of amounts grow with the number of ratings. Without any rating, full weights would send everything to
    the cheapest arm, however bad its answers.
    """
    weighted = beliefs.weighted(arms, objective)
    x = context * _UNIT
    quality, success, price, quality_variance, success_variance = (
        weighted.matrix.dot(np.concatenate((x, x * x))) + weighted.offset
    ).reshape(5, -1)
    success = np.minimum(np.maximum(success, 0.0), 1.0)
    mean = objective.utility(quality, success, price)
    variance = success * success * quality_variance + quality * quality * success_variance
    deviation = objective.quality * np.sqrt(variance)
    return Utilities(mean, deviation, weighted.outcomes, weighted.ratings, success)


def predictions(beliefs: Beliefs, context: Context, arms: Sequence[str]) -> NDArray[np.float64]:
    """Return the predicted mean of each of :data:`conduit_policy.SIGNALS` for every arm, shape (S, K)."""
    return beliefs.stacked(arms).predict(context * _UNIT)


def draw(vector: NDArray[np.float64], decision_id: str) -> int:
    """Draw an index from a probability vector with the random number that a decision id determines.

    Examples
    --------
    >>> draw(np.array([0.0, 1.0]), "any")
    1
    """
    # For a few arms, plain lists take a third of the time of arrays.
    chances = vector.tolist()
    cumulative = list(accumulate(chances))
    index = bisect_right(cumulative, random_number(decision_id) * cumulative[-1])
    last = max(index for index, chance in enumerate(chances) if chance)
    return min(index, last)
