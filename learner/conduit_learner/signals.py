"""What is learned from an event: one number per signal, on a grid that makes sums exact."""

import math
from typing import NamedTuple

from conduit_learner.events import Feedback, Outcome

__all__ = ["LEAST_COST_USD", "SIGNALS", "TARGET_BITS", "Signal", "ln", "targets", "to_grid"]

TARGET_BITS = 16
"""Targets are multiples of ``2**-TARGET_BITS``.

With contexts of 10 fraction bits (:data:`conduit_schemas.FRACTION_BITS`) and targets between -32 and 32,
the products x x', x y and y y are multiples of 2**-20, 2**-26 and 2**-32 below 2**10. Double precision
adds thousands of each without rounding, so a sum over a block of events is the same in every order.
"""

LEAST_COST_USD = 1e-6
"""What costs less counts as this much: a free deployment is the cheapest there is, but not infinitely cheap."""

_LARGEST = 32.0
_GRID = float(2**TARGET_BITS)


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


def targets(event: Outcome | Feedback) -> dict[str, float]:
    """Return what an event teaches, per signal; empty when it teaches nothing.

    A cancelled call says nothing about the deployment, and a cache hit never reached it. Cost and latency
    are those of successful calls: an error that answers at once is not fast.

    Examples
    --------
    >>> targets(Outcome(policy="default/chat", time=0.0, decision_id="d1", status="success", latency_s=1.0))
    {'success': 1.0, 'latency': 0.0}
    """
    if isinstance(event, Feedback):
        return {event.signal: to_grid(event.quality)}
    if event.status == "error":
        return {"success": 0.0}
    if event.status != "success":
        return {}
    learned = {"success": 1.0}
    if event.cost_usd is not None:
        learned["cost"] = to_grid(ln(max(event.cost_usd, LEAST_COST_USD)))
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
    return round(max(-_LARGEST, min(_LARGEST, value)) * _GRID) / _GRID


def ln(value: float) -> float:
    """Return the natural logarithm of a positive number, the same bits on every machine.

    ``math.log`` comes from the C library, whose last bit differs between platforms. This is
    ln(m * 2**e) = e ln 2 + 2 artanh((m - 1) / (m + 1)) with m between sqrt(1/2) and sqrt(2), where eleven
    terms of artanh's series reach double precision, in operations that IEEE 754 fixes to the bit.

    Examples
    --------
    >>> ln(1.0), round(ln(10.0), 12)
    (0.0, 2.302585092994)
    """
    mantissa, exponent = math.frexp(value)
    if mantissa < _SQRT_HALF:
        mantissa *= 2.0
        exponent -= 1
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = _C21
    series = series * square + _C19
    series = series * square + _C17
    series = series * square + _C15
    series = series * square + _C13
    series = series * square + _C11
    series = series * square + _C9
    series = series * square + _C7
    series = series * square + _C5
    series = series * square + _C3
    return exponent * _LN_2 + 2.0 * ratio * (series * square + 1.0)


_SQRT_HALF = 0.7071067811865476
_LN_2 = 0.6931471805599453
_C3, _C5, _C7, _C9, _C11, _C13, _C15, _C17, _C19, _C21 = (1.0 / k for k in range(3, 22, 2))
