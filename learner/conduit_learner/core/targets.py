"""The targets that an event teaches: one number per signal, on a grid that makes sums exact."""

from operator import attrgetter
from typing import assert_never

from conduit_learner.core.events import FeedbackEvent, OutcomeEvent
from conduit_learner.models.elementary import ln
from conduit_policy import AMOUNTS
from conduit_schemas import OutcomeStatus

__all__ = ["TARGET_BITS", "reported", "targets", "to_grid"]

TARGET_BITS = 16
"""Targets are multiples of ``2**-TARGET_BITS``.

With contexts of 10 fraction bits (:data:`conduit_schemas.FRACTION_BITS`) and targets between -32 and 32,
the products x x', x y and y y are multiples of 2**-20, 2**-26 and 2**-32 below 2**10. Double precision
adds thousands of each without rounding, so a sum over a block of events is the same in every order.
"""

_LARGEST = 32.0
_GRID = float(2**TARGET_BITS)
_TO_WHOLE = 1.5 * 2.0**52
"""Adding and subtracting it rounds a small number to an integer, ties to even."""


def targets(event: OutcomeEvent | FeedbackEvent) -> dict[str, float]:
    """Return what an event teaches, by signal. Empty if it teaches nothing.

    A cancelled call says nothing about the deployment, and a cache hit never reached it. Amounts are learned only from
    successful calls, because a quick error does not make a deployment fast.

    Examples
    --------
    >>> targets(OutcomeEvent(policy="default/chat", time=0.0, decision_id="d1", status="success", latency_s=1.0))
    {'success': 1.0, 'latency': 0.0}
    """
    if isinstance(event, FeedbackEvent):
        return {event.signal: to_grid(event.quality)}
    match event.status:
        case OutcomeStatus.SUCCESS:
            return _of_success(event)
        case OutcomeStatus.ERROR:
            return {"success": 0.0}
        case OutcomeStatus.CANCELLED | OutcomeStatus.CLIENT_DISCONNECT | OutcomeStatus.CACHE_HIT:
            return {}
        case _:
            assert_never(event.status)


def _of_success(event: OutcomeEvent) -> dict[str, float]:
    learned = {"success": 1.0}
    for (name, least), amount in zip(_AMOUNTS, _read_amounts(event), strict=True):
        if amount is not None and (amount > 0.0 or least):
            learned[name] = to_grid(ln(amount if amount > least else least))
    return learned


# Needed for every event, so kept as plain tuples.
_AMOUNTS = tuple((signal.name, signal.least) for signal in AMOUNTS)
_FIELDS = tuple(signal.field for signal in AMOUNTS)
_read_amounts = attrgetter(*_FIELDS)


def reported(outcome: OutcomeEvent) -> dict[str, float]:
    """Return the amounts that an outcome reports, by field."""
    amounts = zip(_FIELDS, _read_amounts(outcome), strict=True)
    return {field: amount for field, amount in amounts if amount is not None}


def to_grid(value: float) -> float:
    """Round to the nearest multiple of ``2**-TARGET_BITS`` between -32 and 32.

    Examples
    --------
    >>> to_grid(0.1) * 2**16
    6554.0
    """
    if not -_LARGEST <= value <= _LARGEST:
        value = max(-_LARGEST, min(_LARGEST, value))
    return ((value * _GRID + _TO_WHOLE) - _TO_WHOLE) / _GRID
