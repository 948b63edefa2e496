"""One logged decision taken again, with the plugin's own mathematics, and compared with what was logged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from conduit_learner.core import events
from conduit_policy import (
    REVISION,
    SIGNALS,
    Beliefs,
    Constraints,
    Objective,
    Utilities,
    choice_probabilities,
    draw,
    predictions,
    utilities,
)
from conduit_schemas import ConfigurationError, Selection

__all__ = ["PREDICTION_TOLERANCE", "PROBABILITY_TOLERANCE", "Recomputation", "logged_objective", "recompute"]

AnySelection = Selection | events.SelectionEvent
"""The contract's, or the learner's own reading of it."""

PROBABILITY_TOLERANCE = 1e-3
"""Largest difference between a recomputed and a logged probability that counts as equal.

On one machine there is none. The plugin multiplies in single precision, where another machine's linear
algebra may add in another order and be off by 1e-6; a rule that looks at small differences between arms
makes more of it. The draw from the logged vector, in contrast, must agree exactly.
"""

PREDICTION_TOLERANCE = 1e-4
"""The same for predicted means, in units of ``1 + |mean|``."""


@dataclass(frozen=True)
class Recomputation:
    """What a decision's maker must have computed."""

    utilities: Utilities
    probabilities: NDArray[np.float64]
    """Shape (K,)."""
    predictions: NDArray[np.float64]
    """Shape (S, K), rows in the order of :data:`conduit_policy.SIGNALS`."""
    flags: tuple[str, ...]
    random_number: float
    """0..1, from the decision's id: where on the cumulated probabilities the draw fell."""
    drawn: int
    """Index of the arm that this number draws from the logged probabilities."""
    largest_difference: float
    """Between a recomputed and a logged probability."""
    disagreements: tuple[str, ...]
    """What is not as logged, in sentences; empty when all is."""


_WEIGHTS = frozenset(Objective().weights())


def logged_objective(selection: AnySelection) -> Objective | None:
    """Return the objective a decision was made for; None when it makes no sense."""
    known = {name: weight for name, weight in selection.objective.items() if name in _WEIGHTS}
    try:
        return Objective(**known)
    except ConfigurationError:
        return None


def recompute(selection: AnySelection, beliefs: Beliefs) -> Recomputation | str:
    """Take a logged decision again.

    Parameters
    ----------
    selection
        The decision; Conduit must have made it.
    beliefs
        The snapshot it names, built again.

    Returns
    -------
    The result, or why there can be none, in a sentence.

    Examples
    --------
    >>> from conduit_schemas import ExplorationRule, LearningSettings, Snapshot
    >>> snapshot = Snapshot(policy="p", partition=0, offset=0, stream_time_ms=0, arms={},
    ...                     settings=LearningSettings(), rule=ExplorationRule(name="uniform", revision=REVISION))
    >>> selection = Selection(policy="p", time=0.0, decision_id="d1", arms=("a", "b"), chosen=1,
    ...                       probabilities=(0.5, 0.5), featurizer="text64-v2", context=bytes(128),
    ...                       flags=("cold_share",))
    >>> recompute(selection, Beliefs(snapshot)).disagreements
    ("the safeguards at work are [], logged are ['cold_share']",)
    """
    settings, objective = beliefs.snapshot.settings, logged_objective(selection)
    if beliefs.snapshot.rule.revision != REVISION:
        return (
            f"it was taken with revision {beliefs.snapshot.rule.revision} of the exploration rules, this software has "
            f"revision {REVISION}: use the release it was taken with"
        )
    if (selection.featurizer, len(selection.context)) != (settings.featurizer, 2 * settings.dimension):
        return (
            f"it holds {len(selection.context) // 2} features of {selection.featurizer!r}, the snapshot it names knows "
            f"{settings.dimension} of {settings.featurizer!r}"
        )
    if objective is None:
        return f"its objective {selection.objective} makes no sense"
    if (taken := _taken(selection)) is None:
        return "it names a snapshot, but no probabilities"
    logged, chosen = taken
    context = np.frombuffer(selection.context, "<i2")
    believed = utilities(beliefs, context, selection.arms, objective)
    constraints = Constraints.of_log(selection.constraints)
    vector, flags = choice_probabilities(beliefs, context, selection.arms, believed, constraints)
    predicted = predictions(beliefs, context, selection.arms)
    drawn = draw(logged, selection.decision_id)
    return Recomputation(
        utilities=believed,
        probabilities=vector,
        predictions=predicted,
        flags=flags,
        random_number=int.from_bytes(blake2b(selection.decision_id.encode(), digest_size=8).digest(), "big") / 2.0**64,
        drawn=drawn,
        largest_difference=float(abs(vector - logged).max()),
        disagreements=(
            *_differences(selection.arms, vector, logged),
            *([] if drawn == chosen else [_other_draw(selection.arms, drawn, chosen)]),
            *_disagreements(selection, predicted, flags),
        ),
    )


def _taken(selection: AnySelection) -> tuple[NDArray[np.float64], int] | None:
    """Return the logged vector and the arm drawn from it, whether or not that arm was obeyed."""
    if selection.probabilities is not None:
        return np.array(selection.probabilities), selection.chosen
    if selection.shadow_probabilities is not None and selection.shadow_chosen is not None:
        return np.array(selection.shadow_probabilities), selection.shadow_chosen
    return None


def _differences(arms: Sequence[str], vector: NDArray[np.float64], logged: NDArray[np.float64]) -> Iterator[str]:
    for arm, ours, theirs in zip(arms, vector.tolist(), logged.tolist(), strict=True):
        if abs(ours - theirs) > PROBABILITY_TOLERANCE:
            yield f"arm {arm!r} has probability {ours:.6g}, logged is {theirs:.6g}"


def _other_draw(arms: Sequence[str], drawn: int, chosen: int) -> str:
    return f"the decision's id draws arm {arms[drawn]!r} from the logged probabilities, logged is {arms[chosen]!r}"


def _disagreements(selection: AnySelection, predicted: NDArray[np.float64], flags: tuple[str, ...]) -> Iterator[str]:
    if flags != selection.flags:
        yield f"the safeguards at work are {list(flags)}, logged are {list(selection.flags)}"
    for row, signal in enumerate(SIGNALS):
        for arm, ours, theirs in zip(
            selection.arms,
            predicted[row].tolist(),
            selection.predictions.get(signal, predicted[row].tolist()),
            strict=True,
        ):
            if abs(ours - theirs) > PREDICTION_TOLERANCE * (1.0 + abs(ours)):
                yield f"arm {arm!r} has a predicted {signal} of {ours:.6g}, logged is {theirs:.6g}"
