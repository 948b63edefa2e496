"""The objective: the weights that turn predicted signals into one utility."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from conduit_policy.signals import AMOUNTS
from conduit_schemas import ConfigurationError, Weights, unknown_name

__all__ = ["PRESETS", "QUALITY_ONLY", "Objective", "place", "scale_of"]

Number = TypeVar("Number", float, NDArray[np.float64])

_USUAL = Weights()

PRESETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "quality": {"cost": 0.005, "latency": 0.0},
        "balanced": {},
        "cost": {"cost": 0.2},
        "speed": {"cost": 0.03, "latency": 0.15},
    }
)
"""The presets: what each weighs differently from the defaults, by signal."""

_MIN_SPAN = math.log(4.0)
"""A pool whose most expensive arm costs less than four times its cheapest is scaled as if it were four times, so that
small differences stay small."""


@dataclass(frozen=True, slots=True)
class Objective:
    """Weights of quality and of the amounts: cost, latency and the time to the first token.

    The utility of an arm is ``quality * P(success) * q - cost * c - latency * l - ttft * t``. ``q`` is the predicted
    quality, 0 to 1. ``c``, ``l`` and ``t`` are the positions of its predicted cost, latency and time to first token
    within the pool, on a log scale: 0 for the cheapest (fastest) arm, 1 for the most expensive (slowest). Only streams
    have a time to first token; for other requests it does not count. So ``cost=0.05`` means: going from the most
    expensive arm to the cheapest is worth a loss of 0.05 in quality.

    Examples
    --------
    >>> Objective.preset("balanced").cost
    0.05
    """

    quality: float = _USUAL.quality
    cost: float = _USUAL.cost
    latency: float = _USUAL.latency
    ttft: float = _USUAL.ttft or 0.0

    def __post_init__(self) -> None:
        for name, weight in self.weights().items():
            if not (math.isfinite(weight) and weight >= 0.0):
                raise ConfigurationError(f"objective weight {name}={weight} must be a finite number, 0 or more")
        if not any(self.weights().values()):
            raise ConfigurationError("at least one objective weight must be above 0")

    def weights(self) -> dict[str, float]:
        """Return the weights by signal."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_weights(cls, weights: Mapping[str, float | None]) -> Self:
        """Return the objective that an event carries. Names of a later version are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: weight for name, weight in weights.items() if name in known and weight is not None})

    @classmethod
    def of_log(cls, weights: Mapping[str, float]) -> Self | None:
        """Return the objective that an event says was in force; None if it is invalid.

        Examples
        --------
        >>> Objective.of_log(Objective.preset("cost").weights()) == Objective.preset("cost")
        True
        >>> Objective.of_log({"quality": -1.0}) is None
        True
        """
        try:
            return cls.of_weights(weights)
        except ConfigurationError:
            return None

    def price(self, places: Mapping[str, Number]) -> Number | float:
        """Return the utility that the amounts cost.

        Parameters
        ----------
        places
            Position of each amount, see :func:`place`. Leave out an amount that is not known; it then costs nothing.
        """
        price: Number | float = 0.0
        for signal in AMOUNTS:
            if signal.name in places:
                price = price + getattr(self, signal.name) * places[signal.name]
        return price

    def utility(self, quality: Number, success: Number | float, price: Number | float) -> Number:
        """Return the utility. This formula is used to choose, evaluate and compare arms.

        Examples
        --------
        >>> wanted = Objective(cost=0.1, latency=0.0)
        >>> round(wanted.utility(0.9, 1.0, wanted.price({"cost": 0.5})), 3)
        0.85
        """
        return self.quality * quality * success - price

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return one of :data:`PRESETS`.

        Raises
        ------
        ConfigurationError
            When there is no such preset.
        """
        weights = PRESETS.get(name)
        if weights is None:
            raise ConfigurationError(f"no objective preset {unknown_name(name, sorted(PRESETS))}")
        return cls(**weights)


QUALITY_ONLY = Objective(**{"quality": 1.0, **dict.fromkeys((signal.name for signal in AMOUNTS), 0.0)})
"""The objective for which amounts do not count."""


def place(amount: Number, scale: tuple[float, float]) -> Number:
    """Return the position of an amount in its pool: 0 for the smallest of the arms' means, 1 for the largest.

    Parameters
    ----------
    amount
        Its natural logarithm.
    scale
        See :func:`scale_of`.
    """
    least, span = scale
    return (amount - least) / span


def scale_of(means: NDArray[np.float64]) -> tuple[float, float]:
    """Return the scale of an amount in a pool, for :func:`place`: the smallest of the arms' means, and their span.

    Parameters
    ----------
    means
        The means of the arms whose amount is known, on the log scale. If there are none, the span is infinite, so that
        the amount does not count.

    Examples
    --------
    >>> least, span = scale_of(np.log([0.001, 0.1]))
    >>> round(place(math.log(0.01), (least, span)), 3)
    0.5
    """
    if not len(means):
        return 0.0, math.inf
    return float(means.min()), max(float(means.max() - means.min()), _MIN_SPAN)
