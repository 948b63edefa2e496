"""What a decision earned: its outcome and feedback as numbers per measure, and how likely each was to be known."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conduit_learner.models.elementary import ln
from conduit_policy import AMOUNTS, Objective, Signal, place

__all__ = ["BOUNDS", "MEASURES", "JoinedDecision", "measure"]

Vector = NDArray[np.float64]

MEASURES = ("utility", "quality", "success", *(signal.field for signal in AMOUNTS))
"""All are means per decision. Quality is the mean of a decision's feedbacks, and 0 where the call failed. Utility
is :meth:`conduit_policy.Objective.utility` of that quality and of the call's own amounts, such as its cost; an amount
that is not known counts 0 there. Amounts are those of successful calls; a failed one costs 0 unless it was reported."""

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
    status: str = ""
    """The outcome's status; empty without one."""
    amounts: Mapping[str, float] = field(default_factory=dict)
    """What the outcome reports, by its fields."""
    qualities: list[float] = field(default_factory=list)
    """Its feedbacks."""

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

    def amount(self, signal: Signal) -> float:
        """Return what the call took of an amount; NaN where that is not known."""
        if self.status == "success":
            return self.amounts.get(signal.field, np.nan)
        if self.status == "error" and signal.unit == "USD":
            return self.amounts.get(signal.field, 0.0)
        return np.nan

    def utility(self, scale: Vector) -> float:
        """See :data:`MEASURES`; NaN where the quality is."""
        amounts = {signal.name: self.amount(signal) for signal in AMOUNTS}
        places = {
            name: place(ln(amounts[name]), (float(least), float(span)))
            for name, (least, span) in zip(amounts, scale, strict=True)
            if amounts[name] > 0.0
        }
        return self.objective.utility(self.quality, 1.0, self.objective.price(places))


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
        Shape (A, 2): per amount, the least of the arms' means and their span, on the log scale; see
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
        **{
            signal.field: (np.array([row.amount(signal) for row in rows]), None)
            for signal in AMOUNTS
            if not signal.is_optional or any(signal.field in row.amounts for row in rows)
        },
    }
