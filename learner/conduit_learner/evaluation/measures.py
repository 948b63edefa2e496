"""What decisions earned: outcome and feedback as one number per measure, and the probability that it is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from conduit_learner.models.elementary import ln
from conduit_policy import AMOUNTS, Objective, Signal, place
from conduit_schemas import OutcomeStatus

__all__ = ["BOUNDS", "MEASURES", "JoinedDecision", "measure"]

Vector = NDArray[np.float64]

MEASURES = ("utility", "quality", "success", *(signal.field for signal in AMOUNTS))
"""All are means per decision. Quality is the mean of a decision's ratings, and 0 if the call failed. Utility is
:meth:`conduit_policy.Objective.utility` of that quality and of the call's amounts, such as its cost; an unknown amount
counts as 0. Only successful calls have amounts, but a failed call has a cost: the reported one, or else 0."""

BOUNDS = {"quality": (0.0, 1.0), "success": (0.0, 1.0)}
"""The smallest and the largest possible value of the measures that are bounded."""


@dataclass(slots=True)
class JoinedDecision:
    """A logged decision with its outcome and feedback, and what a candidate would have chosen."""

    arms: tuple[str, ...]
    chosen: int
    probabilities: tuple[float, ...]
    """The logging policy's probabilities, by arm."""
    target: Vector
    """The candidate's probabilities, by arm."""
    context: NDArray[np.int16]
    objective: Objective
    """The objective that defines its utility."""
    status: OutcomeStatus | None = None
    """How the call ended; None if there is no outcome."""
    amounts: Mapping[str, float] = field(default_factory=dict)
    """The amounts that the outcome reports, by field."""
    qualities: list[float] = field(default_factory=list)
    """Its ratings."""

    @property
    def has_failed(self) -> bool:
        """Whether the call failed, which is worth 0 whatever its feedback."""
        return self.status == OutcomeStatus.ERROR

    @property
    def quality(self) -> float:
        """See :data:`MEASURES`; NaN if nobody rated the answer."""
        if self.has_failed:
            return 0.0
        return sum(self.qualities) / len(self.qualities) if self.qualities else np.nan

    @property
    def success(self) -> float:
        """1 or 0; NaN if the call was cancelled, never reached the arm, or has no outcome."""
        match self.status:
            case OutcomeStatus.SUCCESS:
                return 1.0
            case OutcomeStatus.ERROR:
                return 0.0
            case None | OutcomeStatus.CANCELLED | OutcomeStatus.CLIENT_DISCONNECT | OutcomeStatus.CACHE_HIT:
                return np.nan
            case _:
                assert_never(self.status)

    def amount(self, signal: Signal) -> float:
        """Return one of the call's amounts; NaN if it is unknown."""
        match self.status:
            case OutcomeStatus.SUCCESS:
                return self.amounts.get(signal.field, np.nan)
            case OutcomeStatus.ERROR:
                return self.amounts.get(signal.field, 0.0) if signal.is_money else np.nan
            case None | OutcomeStatus.CANCELLED | OutcomeStatus.CLIENT_DISCONNECT | OutcomeStatus.CACHE_HIT:
                return np.nan
            case _:
                assert_never(self.status)

    def utility(self, scale: Vector) -> float:
        """See :data:`MEASURES`; NaN if the quality is NaN."""
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
    """Return the values of each measure, NaN if unknown, and the probability that each is known; shape (n,) each.

    The probability is None if the estimator should estimate it per arm. Failures are always known, and worth 0, but
    only some of the other calls get feedback. For quality and utility, the probability is therefore 1 for failures; for
    other calls, it is the share of the same arm's calls that got feedback.

    Parameters
    ----------
    rows
        The n decisions.
    chosen
        Shape (n,): the index of each decision's arm.
    scale
        Shape (A, 2): for each amount, the smallest of the arms' means, and their span, on the log scale; see
        :class:`conduit_policy.Beliefs`.
    """
    failed = np.array([row.has_failed for row in rows])
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
