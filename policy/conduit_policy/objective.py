"""What is wanted: the weights that turn predicted signals into one utility."""

import math
from dataclasses import dataclass
from typing import Self

from conduit_schemas import ConfigurationError

__all__ = ["Objective"]


@dataclass(frozen=True, slots=True)
class Objective:
    """Weights of quality, cost and latency.

    The utility of an arm is ``quality * P(success) * q - cost * c - latency * l``. ``q`` is the predicted
    quality in 0..1; ``c`` and ``l`` say where the arm's predicted cost and latency stand, on a log scale,
    between the pool's cheapest (fastest) arm, 0, and its dearest (slowest), 1. So ``cost=0.05`` means: going
    from the dearest model to the cheapest is worth a loss of 0.05 in quality.

    Examples
    --------
    >>> Objective.preset("balanced").cost
    0.05
    """

    quality: float = 1.0
    cost: float = 0.05
    latency: float = 0.01

    def __post_init__(self) -> None:
        for name, weight in self.weights().items():
            if not (math.isfinite(weight) and weight >= 0.0):
                raise ConfigurationError(f"objective weight {name}={weight} must be a finite number, 0 or more")
        if not any(self.weights().values()):
            raise ConfigurationError("at least one objective weight must be above 0")

    def weights(self) -> dict[str, float]:
        """Return the weights by signal."""
        return {"quality": self.quality, "cost": self.cost, "latency": self.latency}

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a preset: ``quality``, ``balanced``, ``cost`` or ``speed``.

        Raises
        ------
        ConfigurationError
            When there is no such preset.
        """
        weights = _PRESETS.get(name)
        if weights is None:
            raise ConfigurationError(f"no objective preset {name!r}; there are {', '.join(sorted(_PRESETS))}")
        return cls(*weights)


_PRESETS = {
    "quality": (1.0, 0.005, 0.0),
    "balanced": (1.0, 0.05, 0.01),
    "cost": (1.0, 0.2, 0.01),
    "speed": (1.0, 0.03, 0.15),
}
