"""What is learned from an event: one number per signal, on a grid that makes sums exact."""

from typing import NamedTuple

from conduit_learner.core.events import FeedbackEvent, OutcomeEvent
from conduit_learner.models.elementary import ln

__all__ = ["MIN_COST_USD", "SIGNALS", "TARGET_BITS", "Signal", "targets", "to_grid"]

TARGET_BITS = 16
"""Targets are multiples of ``2**-TARGET_BITS``.

With contexts of 10 fraction bits (:data:`conduit_schemas.FRACTION_BITS`) and targets between -32 and 32,
the products x x', x y and y y are multiples of 2**-20, 2**-26 and 2**-32 below 2**10. Double precision
adds thousands of each without rounding, so a sum over a block of events is the same in every order.
"""

MIN_COST_USD = 1e-6
"""What costs less counts as this much: a free deployment is the cheapest there is, but not infinitely cheap."""

_LARGEST = 32.0
_GRID = float(2**TARGET_BITS)
_TO_WHOLE = 1.5 * 2.0**52
"""Added and taken away again, it leaves a small number rounded to a whole one, ties to even."""


class Signal(NamedTuple):
    """What is believed about a signal before anything was observed, and whether context can explain it."""

    default: float
    """Its expected value."""
    sigma: float
    """Its expected standard deviation."""
    contextual: bool
    """False: one mean per arm, whatever the algorithm."""


SIGNALS = {
    "quality": Signal(default=0.5, sigma=0.3, contextual=True),
    "success": Signal(default=1.0, sigma=0.2, contextual=False),
    "cost": Signal(default=-7.0, sigma=1.0, contextual=True),
    "latency": Signal(default=0.0, sigma=1.0, contextual=True),
}
"""Quality (0..1), success (0..1), ln of the cost in USD and ln of the latency in seconds."""


def targets(event: OutcomeEvent | FeedbackEvent) -> dict[str, float]:
    """Return what an event teaches, per signal; empty when it teaches nothing.

    A cancelled call says nothing about the deployment, and a cache hit never reached it. Cost and latency
    are those of successful calls: an error that answers at once is not fast.

    Examples
    --------
    >>> targets(Outcome(policy="default/chat", time=0.0, decision_id="d1", status="success", latency_s=1.0))
    {'success': 1.0, 'latency': 0.0}
    """
    if isinstance(event, FeedbackEvent):
        return {event.signal: to_grid(event.quality)}
    if event.status == "error":
        return {"success": 0.0}
    if event.status != "success":
        return {}
    learned = {"success": 1.0}
    if event.cost_usd is not None:
        learned["cost"] = to_grid(ln(max(event.cost_usd, MIN_COST_USD)))
    if event.latency_s:
        learned["latency"] = to_grid(ln(event.latency_s))
    return learned


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
