"""One decision as the view stores it while outcomes and ratings may still arrive."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from conduit_learner.core.events import OutcomeEvent, SelectionEvent
from conduit_learner.core.targets import reported
from conduit_policy import SIGNALS
from conduit_schemas import OutcomeStatus

__all__ = ["ShownDecision", "decision_of"]

_MIN_LN, _MAX_LN = -30.0, 14.0
"""Bounds to which predicted logarithms are clipped, so that no logged prediction overflows."""


@dataclass(slots=True, eq=False)
class ShownDecision:
    """A decision with its arms, predictions, outcome and ratings, but without its context."""

    decision_id: str
    time_ms: int
    """The log's append time."""
    arms: tuple[str, ...]
    models: tuple[str, ...]
    """The model that each arm serves; empty if the log does not say."""
    chosen: int
    probabilities: tuple[float, ...] | None
    predictions: Mapping[str, tuple[float, ...]]
    """By signal, one number per arm in display units; see :meth:`conduit_policy.Signal.shown`."""
    objective: Mapping[str, float]
    flags: tuple[str, ...]
    fallback: str | None
    shadow: str | None = None
    """The arm that Conduit would have chosen, if it was evaluated but LiteLLM's choice served."""
    status: OutcomeStatus | None = None
    """Status of the outcome; None while there is none."""
    amounts: Mapping[str, float] = field(default_factory=dict)
    """The call's reported amounts (cost, times), by the outcome's fields."""
    error_class: str | None = None
    ratings: list[float] = field(default_factory=list)
    raters: set[tuple[str, str]] = field(default_factory=set)
    """Source and key of every rating; each pair counts once."""

    @property
    def arm(self) -> str:
        """The arm that served."""
        return self.arms[self.chosen]

    @property
    def is_exploration(self) -> bool:
        """Whether another arm had a higher probability."""
        return self.probabilities is not None and self.probabilities[self.chosen] < max(self.probabilities)

    @property
    def rating(self) -> float | None:
        """The mean of the decision's ratings; None without any."""
        return sum(self.ratings) / len(self.ratings) if self.ratings else None

    def take(self, outcome: OutcomeEvent) -> bool:
        """Store the outcome. Returns False, and changes nothing, if there already was one."""
        if self.status:
            return False
        self.status, self.error_class = outcome.status, outcome.error_class
        self.amounts = reported(outcome)
        return True


def decision_of(selection: SelectionEvent, time_ms: int) -> ShownDecision:
    """Return the decision described by a logged selection.

    Examples
    --------
    >>> selection = SelectionEvent(policy="default/chat", time=0.0, decision_id="d1", arms=("a", "b"), chosen=1,
    ...                       featurizer="text64-v2", context=b"", predictions={"cost": (0.0, -7.0)})
    >>> decision_of(selection, 5).predictions["cost"][0]
    1.0
    """
    predictions = {
        name: tuple(SIGNALS[name].shown(min(max(value, _MIN_LN), _MAX_LN)) for value in values)
        if name in SIGNALS
        else values
        for name, values in selection.predictions.items()
    }
    return ShownDecision(
        decision_id=selection.decision_id,
        time_ms=time_ms,
        arms=selection.arms,
        models=selection.models,
        chosen=selection.chosen,
        probabilities=selection.probabilities,
        predictions=predictions,
        objective=selection.objective,
        flags=selection.flags,
        fallback=selection.fallback,
        shadow=None if selection.shadow_chosen is None else selection.arms[selection.shadow_chosen],
    )
