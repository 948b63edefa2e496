"""The signals: everything that is learned about a deployment, one row each.

All code that learns, predicts, weights, limits, logs, evaluates or shows signals iterates over this table. A new signal
needs a row here, a weight in :class:`conduit_policy.Objective`, and fields in the contract: in outcomes, weights,
goals and priors.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from conduit_schemas import Flag

__all__ = ["AMOUNTS", "LIMITED", "ROWS", "SIGNALS", "Signal", "title_of"]


class Signal(NamedTuple):
    """One row of the table.

    A *score* (quality, success) is a number from 0 to 1, and more is better. An *amount* (cost, times) is what an
    answer takes, and less is better. It is learned and predicted as its natural logarithm.
    """

    name: str
    """Its key in snapshots, predictions and objectives."""
    default: float
    """The expected value before anything is observed, on the scale that is learned."""
    sigma: float
    """The expected standard deviation from request to request, on the same scale."""
    is_contextual: bool = True
    """Whether it can depend on the request. If not, it is one mean per arm, whatever the algorithm."""
    is_optional: bool = False
    """Whether only some policies report it. Snapshots then contain it only once it was observed."""
    pool_observations: float = 0.0
    """How many observations of an arm the pool's mean counts as in its prior."""
    unit: str = ""
    """``USD`` or ``s``; empty for scores."""
    label: str = ""
    """The word for people, if it differs from the name."""
    field: str = ""
    """For amounts: the field of outcomes, priors and reports that holds it, in its unit."""
    least: float = 0.0
    """For amounts: smaller amounts count as this one. If this is 0, an amount of 0 counts as not measured."""
    limit: str = ""
    """For amounts: the field of goals and constraints that limits it."""
    limit_flags: tuple[Flag, Flag] | None = None
    """The flags of choices that the limit changed: when arms were left out, and when no arm met it."""
    limit_deviations: float = 0.0
    """How many standard deviations of a single request the limit allows for. 0 applies it to the predicted median."""

    is_of_streams: bool = False
    """Whether only streams have it. It is then neither weighted nor limited for other requests."""

    @property
    def is_amount(self) -> bool:
        """Whether it is an amount and thus learned as its logarithm."""
        return bool(self.field)

    @property
    def is_money(self) -> bool:
        """Whether it is an amount of money. A failed call costs nothing, unless a cost was reported."""
        return self.unit == "USD"

    @property
    def is_time(self) -> bool:
        """Whether it is an amount of time. It is known of successful calls only."""
        return self.unit == "s"

    def shown(self, value: float) -> float:
        """Convert a value from the scale that is learned to the unit that people read.

        A linear regression can predict more than the best score or less than the worst. People read the bound instead.

        Examples
        --------
        >>> SIGNALS["latency"].shown(0.0), SIGNALS["quality"].shown(1.12), SIGNALS["success"].shown(-0.01)
        (1.0, 1.0, 0.0)
        """
        return math.exp(value) if self.is_amount else min(1.0, max(0.0, value))

    def text(self, value: float) -> str:
        """Format a value in its unit for people.

        Examples
        --------
        >>> SIGNALS["cost"].text(0.00123), SIGNALS["latency"].text(1.26), SIGNALS["quality"].text(0.876)
        ('$0.0012', '1.3 s', '0.88')
        """
        if self.is_money:
            return f"${value:.2g}" if value < 0.1 else f"${value:,.2f}"
        return f"{value:.2g} {self.unit}" if self.is_amount else f"{value:.2f}"

    @property
    def title(self) -> str:
        """The word for people."""
        return self.label or self.name


SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {
        signal.name: signal
        for signal in (
            # Quality differs less between the arms of a pool than between the answers of one arm. A handful of ratings
            # is therefore mostly luck, and the prior pulls an arm's level towards the pool's mean. Costs and times
            # differ between arms far more than within one, and failures must be noticed at once. Those have no pull.
            Signal("quality", default=0.5, sigma=0.3, pool_observations=7.0),
            Signal("success", default=1.0, sigma=0.2, is_contextual=False),
            Signal(
                "cost",
                default=-7.0,
                sigma=1.0,
                unit="USD",
                field="cost_usd",
                least=1e-6,  # a free deployment is the cheapest, but not infinitely cheap
                limit="max_cost_usd",
                limit_flags=(Flag.COST_CAP, Flag.COST_CAP_UNMET),
                limit_deviations=1.6448536269514722,  # a request stays within the cap with 95 % probability
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
            # It depends mostly on the deployment's queue and little on the request, so it is one mean per arm.
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
"""All signals by name, in the order of the rows of every stacked array."""

ROWS: Mapping[str, int] = MappingProxyType({name: row for row, name in enumerate(SIGNALS)})
"""Each signal's row."""

AMOUNTS: tuple[Signal, ...] = tuple(signal for signal in SIGNALS.values() if signal.is_amount)
"""The signals that are amounts, in the order of every array of scales."""

LIMITED: tuple[Signal, ...] = tuple(signal for signal in AMOUNTS if signal.limit)
"""The amounts that a goal can limit."""


def title_of(name: str) -> str:
    """Return a signal's word for people. A name that is not in the table, as a newer version may log it, is its own.

    Examples
    --------
    >>> title_of("ttft"), title_of("safety")
    ('time to first token', 'safety')
    """
    return SIGNALS[name].title if name in SIGNALS else name
