"""The signals: everything that is learned about a deployment, one row each.

A signal is learned, predicted, weighed, limited, logged, evaluated and shown by walking this table. A new one needs a
row here, its weight in :class:`conduit_policy.Objective` and the contract's fields: what an outcome reports, what an
objective weighs, what a goal limits and what a prior says of it.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from conduit_schemas import Flag

__all__ = ["AMOUNTS", "LIMITED", "ROWS", "SIGNALS", "Signal"]


class Signal(NamedTuple):
    """One row of the table.

    A *score* (quality, success) is a number between 0 and 1, the more the better. An *amount* (cost, latency) is what
    an answer takes, the less the better; it is learned and predicted as its natural logarithm.
    """

    name: str
    """Its key in snapshots, predictions and objectives."""
    default: float
    """The expected value before anything was observed, on the scale it is learned on."""
    sigma: float
    """The expected standard deviation from request to request, on the same scale."""
    is_contextual: bool = True
    """Whether the request can explain it. If not, it is one mean per arm, whatever the algorithm."""
    is_optional: bool = False
    """Whether only some policies report it. A snapshot then carries it only once it was observed."""
    pool_observations: float = 0.0
    """As how many observations of an arm the pool's mean counts for it."""
    unit: str = ""
    """``USD`` or ``s``; empty for scores."""
    label: str = ""
    """What people call it, where that is not its name."""
    field: str = ""
    """Of amounts: the field of outcomes, priors and reports that holds it, in its unit."""
    least: float = 0.0
    """Of amounts: what is less counts as this much. If it is 0, an amount of 0 was not measured and teaches nothing."""
    limit: str = ""
    """Of amounts: the field of goals and constraints that limits it."""
    limit_flags: tuple[Flag, Flag] | None = None
    """The flags of choices that the limit has changed: because arms were left out, and because none meets it."""
    limit_deviations: float = 0.0
    """How many standard deviations of a single request the limit allows for. 0 limits the predicted median."""

    is_of_streams: bool = False
    """Whether only streams have it: it is neither weighed nor limited for other requests."""

    @property
    def is_amount(self) -> bool:
        """Whether it is an amount, which is learned as its logarithm."""
        return bool(self.field)

    def shown(self, value: float) -> float:
        """Return a value on the scale that it is learned on in the unit for people.

        Examples
        --------
        >>> SIGNALS["latency"].shown(0.0)
        1.0
        """
        return math.exp(value) if self.is_amount else value

    def text(self, value: float) -> str:
        """Return a value in its unit for people to read.

        Examples
        --------
        >>> SIGNALS["cost"].text(0.00123), SIGNALS["latency"].text(1.26), SIGNALS["quality"].text(0.876)
        ('$0.0012', '1.3 s', '0.88')
        """
        if self.unit == "USD":
            return f"${value:.2g}" if value < 0.1 else f"${value:,.2f}"
        return f"{value:.2g} {self.unit}" if self.is_amount else f"{value:.2f}"

    @property
    def title(self) -> str:
        """What people call it."""
        return self.label or self.name


SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {
        signal.name: signal
        for signal in (
            # The models of one pool differ in quality by less than the answers of one model do, so a handful of
            # ratings is mostly luck: an arm's level is held to the pool's mean. Costs and times differ by far more
            # than they vary, and failures have to be noticed at once: those start from nothing.
            Signal("quality", default=0.5, sigma=0.3, pool_observations=7.0),
            Signal("success", default=1.0, sigma=0.2, is_contextual=False),
            Signal(
                "cost",
                default=-7.0,
                sigma=1.0,
                unit="USD",
                field="cost_usd",
                least=1e-6,  # a free deployment is the cheapest there is, but not infinitely cheap
                limit="max_cost_usd",
                limit_flags=(Flag.COST_CAP, Flag.COST_CAP_UNMET),
                limit_deviations=1.6448536269514722,  # a request keeps within the cap with 95 % probability
            ),
            Signal(
                "latency",
                default=0.0,
                sigma=1.0,
                unit="s",
                field="latency_s",
                limit="max_latency_s",
                limit_flags=(Flag.LATENCY_TARGET, Flag.LATENCY_TARGET_UNMET),
            ),
            # Mostly a matter of the deployment's queue, so one mean per arm; the request itself says little about it.
            Signal(
                "ttft",
                default=0.0,
                sigma=1.0,
                is_contextual=False,
                is_optional=True,
                unit="s",
                label="time to first token",
                field="ttft_s",
                limit="max_ttft_s",
                limit_flags=(Flag.TTFT_TARGET, Flag.TTFT_TARGET_UNMET),
                is_of_streams=True,
            ),
        )
    }
)
"""All signals by name. Their order is that of the rows of every stacked array."""

ROWS: Mapping[str, int] = MappingProxyType({name: row for row, name in enumerate(SIGNALS)})
"""Each signal's row."""

AMOUNTS: tuple[Signal, ...] = tuple(signal for signal in SIGNALS.values() if signal.is_amount)
"""What an answer takes; their order is that of every array of scales."""

LIMITED: tuple[Signal, ...] = tuple(signal for signal in AMOUNTS if signal.limit)
"""The amounts that a goal can limit."""
