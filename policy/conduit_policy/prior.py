"""The prior, which the learner's regressions and the plugin's untried arms share."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from conduit_policy.signals import SIGNALS
from conduit_schemas import LearningSettings

__all__ = ["MULTIPLES", "OWN_STIFFNESS", "SHARED_STIFFNESS", "Prior"]

SHARED_STIFFNESS = 30.0
"""Prior precision of the weights that all arms share, as a multiple of that of an arm's intercept."""

OWN_STIFFNESS = 100.0
"""Prior precision of what an arm adds to the shared weights, as a multiple of that of its intercept.

Two arms differ mostly in their general level. How a request changes it is mostly the same for all arms. How much this
effect differs between arms is the smallest part, and is spread over many weights. With the same precision everywhere,
the first thousand outcomes would fit noise.
"""

MULTIPLES = (0.1, 1.0, 10.0, 100.0)
"""The multiples of both that are averaged by how well they fit the data: from a context that explains nearly everything
to one that explains nothing."""


class Prior(NamedTuple):
    """Prior precision of each weight, in observations; each array has shape (dimension,).

    Examples
    --------
    >>> prior = Prior.of(LearningSettings(lambda_reg=0.5, dimension=3))
    >>> prior.own.tolist(), prior.shared.tolist()
    ([0.5, 50.0, 50.0], [15.0, 15.0, 15.0])
    """

    own: NDArray[np.float64]
    """Precision of an arm's intercept, and of what the arm adds to the shared weights."""
    shared: NDArray[np.float64]
    """Precision of the weights that all arms share. They have no intercept."""
    multiples: tuple[float, ...] = (1.0,)
    """Factors on both, except on intercepts. How much the context matters is itself unknown, so the results for all
    factors are averaged, each weighted by how well it fits the data."""
    pool: Mapping[str, float] = MappingProxyType({})
    """By signal: additional precision of an arm's intercept, which pulls the arm towards the pool's mean."""

    @classmethod
    def of(cls, settings: LearningSettings) -> Self:
        """Return the prior for some settings."""
        own = np.full(settings.dimension, settings.lambda_reg * OWN_STIFFNESS)
        own[0] = settings.lambda_reg
        pool = {signal.name: settings.lambda_reg * signal.pool_observations for signal in SIGNALS.values()}
        return cls(own, np.full(settings.dimension, settings.lambda_reg * SHARED_STIFFNESS), MULTIPLES, pool)

    def untried(self, signal: str) -> NDArray[np.float64]:
        """Return the precision of each weight of an arm that was never tried, shape (dimension,)."""
        precision = self.own.copy()
        precision[0] += self.pool.get(signal, 0.0)
        return precision

    def multiplied(self, of: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``own`` or ``shared`` times each multiple, shape (multiples, dimension)."""
        table = np.outer(self.multiples, of)
        table[:, 0] = of[0]
        return table
