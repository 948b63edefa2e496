"""The choice itself: pure, and reproducible from what is logged."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from conduit_policy.beliefs import COST, LATENCY, QUALITY, SIGNALS, SUCCESS, Beliefs
from conduit_policy.features import Context
from conduit_policy.objective import Objective
from conduit_policy.rules import Utilities, probabilities
from conduit_schemas import FRACTION_BITS

__all__ = ["Choice", "choose", "draw", "utilities"]

_UNIT = np.float32(2.0**-FRACTION_BITS)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and everything needed to check it later."""

    index: int
    """Position in the list of arms."""
    probabilities: NDArray[np.float64]
    """Shape (K,): the vector the arm was drawn from."""
    predictions: NDArray[np.float64]
    """Shape (S, K): predicted mean of each of :data:`conduit_policy.SIGNALS`."""
    flags: tuple[str, ...]
    """Names of the safeguards that changed the probabilities."""


def choose(
    beliefs: Beliefs, context: Context, arms: Sequence[str], *, objective: Objective, decision_id: str
) -> Choice:
    """Choose one of several arms.

    Parameters
    ----------
    beliefs
        A snapshot made ready; arms it does not know are treated as never tried.
    context
        Shape (dimension,), made by the featurizer that the snapshot names.
    arms
        The eligible arms, at least one.
    objective
        What is wanted.
    decision_id
        Decides the draw: the same id and inputs give the same choice.

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
    believed, predictions = utilities(beliefs, context, arms, objective)
    vector, flags = probabilities(beliefs.snapshot.rule, believed)
    return Choice(draw(vector, decision_id), vector, predictions, flags)


def utilities(
    beliefs: Beliefs, context: Context, arms: Sequence[str], objective: Objective
) -> tuple[Utilities, NDArray[np.float64]]:
    """Return the believed utility of every arm, and the predicted signals behind it, shape (S, K).

    Cost and latency count only as far as quality is known: without any quality feedback they would send
    everything to the cheapest arm, however bad its answers.
    """
    candidates = beliefs.candidates(arms)
    count = len(arms)
    x = context.astype(np.float32) * _UNIT
    predicted = candidates.baseline + (candidates.mean @ x).reshape(len(SIGNALS), count)
    variance = (candidates.variance @ (x * x)).reshape(2, count).astype(np.float64)
    quality = predicted[QUALITY]
    success = np.minimum(np.maximum(predicted[SUCCESS], 0.0), 1.0)
    mean = objective.quality * quality * success
    for row, weight in ((COST, objective.cost), (LATENCY, objective.latency)):
        least, span = candidates.scale[row - COST]
        mean = mean - (weight * candidates.coverage / span) * (predicted[row] - least)
    deviation = objective.quality * np.sqrt(
        success * success * variance[QUALITY] + quality * quality * variance[SUCCESS]
    )
    return Utilities(mean, deviation, candidates.outcomes), predicted


def draw(vector: NDArray[np.float64], decision_id: str) -> int:
    """Draw an index from a probability vector with the random number that belongs to a decision id.

    Examples
    --------
    >>> draw(np.array([0.0, 1.0]), "any")
    1
    """
    random = int.from_bytes(blake2b(decision_id.encode(), digest_size=8).digest(), "big") / 2.0**64
    cumulative = vector.cumsum()
    index = int(cumulative.searchsorted(random * cumulative[-1], side="right"))
    return min(index, int(np.flatnonzero(vector)[-1]))
