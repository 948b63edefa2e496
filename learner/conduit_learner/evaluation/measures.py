"""What a decision earned: its outcome and feedback as numbers per measure, and how likely each was to be known."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conduit_learner.core.events import OutcomeEvent
from conduit_learner.models.elementary import ln
from conduit_policy import Objective

__all__ = ["BOUNDS", "MEASURES", "JoinedDecision", "measure"]

Vector = NDArray[np.float64]

MEASURES = ("utility", "quality", "success", "cost_usd", "latency_s")
"""All are means per decision. Quality is the mean of a decision's feedbacks, and 0 where the call failed. Utility
is the objective's, of that quality and of the call's own cost and latency, each between the pool's cheapest (fastest)
arm, 0, and its dearest (slowest), 1, on a log scale; a cost or latency that is not known counts 0 there.
The latency is that of successful calls; the cost of a failed one is 0 unless it was reported."""

BOUNDS = {"quality": (0.0, 1.0), "success": (0.0, 1.0)}
"""The least and the largest possible value, of measures that have them."""


@dataclass(slots=True)
class JoinedDecision:
    """A logged decision, what a candidate would have done, and what came of it."""

    arms: tuple[str, ...]
    chosen: int
    probabilities: tuple[float, ...]
    """The logging policy's, by arm."""
    target: Vector
    """The candidate's, by arm."""
    context: NDArray[np.int16]
    objective: Objective
    """By which its utility is judged."""
    outcome: OutcomeEvent | None = None
    qualities: list[float] = field(default_factory=list)
    """Its feedbacks."""

    @property
    def status(self) -> str:
        """The outcome's status; empty without one."""
        return "" if self.outcome is None else self.outcome.status

    @property
    def quality(self) -> float:
        """See :data:`MEASURES`; NaN where nobody said."""
        if self.status == "error":
            return 0.0
        return sum(self.qualities) / len(self.qualities) if self.qualities else np.nan

    @property
    def success(self) -> float:
        """1 or 0; NaN where the call was cancelled, never reached the arm or has no outcome."""
        return {"success": 1.0, "error": 0.0}.get(self.status, np.nan)

    @property
    def cost_usd(self) -> float:
        """What the call cost; NaN where that is not known."""
        if self.outcome is None or self.status not in {"success", "error"}:
            return np.nan
        return _or(self.outcome.cost_usd, np.nan if self.status == "success" else 0.0)

    @property
    def latency_s(self) -> float:
        """How long a successful call took; NaN where that is not known."""
        return np.nan if self.outcome is None or self.status != "success" else _or(self.outcome.latency_s, np.nan)

    def utility(self, scale: Vector) -> float:
        """See :data:`MEASURES`; NaN where the quality is."""
        value = self.objective.quality * self.quality
        weights = (self.objective.cost, self.objective.latency)
        for weight, amount, (least, span) in zip(weights, (self.cost_usd, self.latency_s), scale, strict=True):
            if amount > 0.0:
                value -= weight * (ln(amount) - float(least)) / float(span)
        return value


def measure(
    rows: list[JoinedDecision], chosen: NDArray[np.intp], *, scale: Vector
) -> dict[str, tuple[Vector, Vector | None]]:
    """Return each measure's values, shape (n,), NaN where unknown, and the probability of knowing them.

    The latter is None where it is to be estimated per arm. A failure is always known to be worth 0, but
    of the calls that did not fail only some get feedback; so for quality and utility the probability is 1
    for failures, and for the others the share that got feedback among those of the same arm.

    Parameters
    ----------
    rows
        n decisions.
    chosen
        Shape (n,): the number of each decision's arm.
    scale
        Shape (2, 2): for cost and latency, the least of the arms' means and their span, on the log scale; see
        :class:`conduit_policy.Beliefs`.
    """
    failed = np.array([row.status == "error" for row in rows])
    judged = np.array([bool(row.qualities) for row in rows])
    asked = np.bincount(chosen, ~failed)
    share = (np.bincount(chosen, judged & ~failed) / np.maximum(asked, 1.0))[chosen]
    feedback = np.where(failed, 1.0, share)
    return {
        "utility": (np.array([row.utility(scale) for row in rows]), feedback),
        "quality": (np.array([row.quality for row in rows]), feedback),
        "success": (np.array([row.success for row in rows]), None),
        "cost_usd": (np.array([row.cost_usd for row in rows]), None),
        "latency_s": (np.array([row.latency_s for row in rows]), None),
    }


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
