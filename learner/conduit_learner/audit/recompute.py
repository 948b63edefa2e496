"""Recompute one logged decision with the plugin's own code, and compare it with what was logged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    random_number,
    title_of,
    unpack_context,
    utilities,
)
from conduit_schemas import Fallback, Flag, Selection
from conduit_schemas.reasons import NothingToProve

__all__ = [
    "PREDICTION_TOLERANCE",
    "PROBABILITY_TOLERANCE",
    "Recomputation",
    "about_without_snapshot",
    "recompute",
    "without_snapshot",
]

AnySelection = Selection | events.SelectionEvent
"""A selection as the contract decodes it, or as the learner's faster decoder does."""

PROBABILITY_TOLERANCE = 1e-3
"""Largest difference at which a recomputed and a logged probability count as equal.

On the same machine the difference is zero. The plugin multiplies in single precision, and another machine's linear
algebra library may sum in another order and differ by 1e-6; an exploration rule that depends on small differences
between arms amplifies this. The draw from the logged probabilities, in contrast, must agree exactly.
"""

PREDICTION_TOLERANCE = 1e-4
"""Largest difference at which predicted means count as equal, in units of ``1 + |mean|``."""


@dataclass(frozen=True)
class Recomputation:
    """What the plugin must have computed for a decision."""

    utilities: Utilities
    probabilities: NDArray[np.float64]
    """Shape (K,)."""
    predictions: NDArray[np.float64]
    """Shape (S, K), rows in the order of :data:`conduit_policy.SIGNALS`."""
    flags: tuple[Flag, ...]
    random_number: float
    """0..1, derived from the decision's id: where the draw fell on the cumulative probabilities."""
    drawn: int
    """Index of the arm that this number draws from the logged probabilities."""
    largest_difference: float
    """Largest difference between a recomputed and a logged probability."""
    disagreements: tuple[str, ...]
    """One sentence for each difference from what was logged; empty when everything agrees."""


def recompute(selection: AnySelection, beliefs: Beliefs) -> Recomputation | str:
    """Recompute a logged decision.

    Parameters
    ----------
    selection
        The decision, which Conduit must have made.
    beliefs
        The snapshot that the decision names, rebuilt.

    Returns
    -------
    The result, or a sentence that says why the decision cannot be recomputed.

    Examples
    --------
    >>> from conduit_schemas import ExplorationRule, LearningSettings, Snapshot
    >>> snapshot = Snapshot(policy="p", partition=0, offset=0, stream_time_ms=0, arms={},
    ...                     settings=LearningSettings(), rule=ExplorationRule(name="uniform", revision=REVISION))
    >>> selection = Selection(policy="p", time=0.0, decision_id="d1", arms=("a", "b"), chosen=1,
    ...                       probabilities=(0.5, 0.5), featurizer="text64-v2", context=bytes(128),
    ...                       flags=("cold_share",))
    >>> recompute(selection, Beliefs(snapshot)).disagreements
    ("the flags are [], but ['cold_share'] was logged",)
    """
    settings, objective = beliefs.snapshot.settings, Objective.of_log(selection.objective)
    if beliefs.snapshot.rule.revision != REVISION:
        return (
            f"it was made with revision {beliefs.snapshot.rule.revision} of the exploration rules, but this release "
            f"has revision {REVISION}: use the release that made it"
        )
    context = unpack_context(selection.context)
    if (selection.featurizer, len(context)) != (settings.featurizer, settings.dimension):
        return (
            f"it has {len(context)} features of {selection.featurizer!r}, but its snapshot was learned "
            f"from {settings.dimension} features of {settings.featurizer!r}"
        )
    if objective is None:
        return f"its objective {selection.objective} is invalid"
    if (draw_logged := _logged_draw(selection)) is None:
        return "it names a snapshot but has no probabilities"
    logged, chosen = draw_logged
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
        random_number=random_number(selection.decision_id),
        drawn=drawn,
        largest_difference=float(abs(vector - logged).max()),
        disagreements=(
            *_differing_probabilities(selection.arms, vector, logged),
            *([] if drawn == chosen else [_differing_draw(selection.arms, drawn, chosen)]),
            *_differing_flags_and_predictions(selection, predicted, flags),
        ),
    )


def without_snapshot(selection: AnySelection) -> str:
    """Return the code that says why there is nothing to prove about a decision that names no snapshot.

    It is that of a :class:`~conduit_schemas.Fallback` or of :class:`~conduit_schemas.reasons.NothingToProve`.
    """
    if selection.fallback is not None:
        return selection.fallback
    return NothingToProve.ONE_DEPLOYMENT if len(selection.arms) == 1 else NothingToProve.NOT_CONDUIT


def about_without_snapshot(code: str) -> str:
    """Return what a code of :func:`without_snapshot` means.

    Examples
    --------
    >>> about_without_snapshot("one_deployment")
    'Only one deployment was available, so there was nothing to choose.'
    """
    known = NothingToProve.known(code)
    return f"LiteLLM's own selection chose ({code}). {Fallback.sentence(code)}" if known is None else known.about


def _logged_draw(selection: AnySelection) -> tuple[NDArray[np.float64], int] | None:
    """Return the logged probabilities and the arm drawn from them, whether or not that arm served the request."""
    if selection.probabilities is not None:
        return np.array(selection.probabilities), selection.chosen
    if selection.shadow_probabilities is not None and selection.shadow_chosen is not None:
        return np.array(selection.shadow_probabilities), selection.shadow_chosen
    return None


def _differing_probabilities(
    arms: Sequence[str], vector: NDArray[np.float64], logged: NDArray[np.float64]
) -> Iterator[str]:
    for arm, ours, theirs in zip(arms, vector.tolist(), logged.tolist(), strict=True):
        if abs(ours - theirs) > PROBABILITY_TOLERANCE:
            yield f"deployment {arm!r} has probability {ours:.6g}, but {theirs:.6g} was logged"


def _differing_draw(arms: Sequence[str], drawn: int, chosen: int) -> str:
    return f"the decision's id draws {arms[drawn]!r} from the logged probabilities, but {arms[chosen]!r} was logged"


def _differing_flags_and_predictions(
    selection: AnySelection, predicted: NDArray[np.float64], flags: tuple[Flag, ...]
) -> Iterator[str]:
    if flags != selection.flags:
        yield f"the flags are {list(map(str, flags))}, but {list(selection.flags)} was logged"
    for row, signal in enumerate(SIGNALS):
        for arm, ours, theirs in zip(
            selection.arms,
            predicted[row].tolist(),
            selection.predictions.get(signal, predicted[row].tolist()),
            strict=True,
        ):
            if abs(ours - theirs) > PREDICTION_TOLERANCE * (1.0 + abs(ours)):
                title = title_of(signal)
                yield f"deployment {arm!r} has a predicted {title} of {ours:.6g}, but {theirs:.6g} was logged"
