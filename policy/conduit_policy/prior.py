"""What is believed before anything was seen: shared by the learner's models and the plugin's untried arms."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from conduit_policy.signals import SIGNALS
from conduit_schemas import LearningSettings

__all__ = ["MULTIPLES", "OWN_STIFFNESS", "SHARED_STIFFNESS", "Prior"]

SHARED_STIFFNESS = 30.0
"""How much harder the prior holds the weights that all arms share than an arm's intercept."""

OWN_STIFFNESS = 100.0
"""How much harder the prior holds what an arm adds to the shared weights than its intercept.

Most of what separates two models is their general level; how a request changes it is mostly the same for all of
them; that it changes one model otherwise than the others is the finest effect, spread over many weights. With
equal precision everywhere the first thousand outcomes fit noise.
"""

MULTIPLES = (0.1, 1.0, 10.0, 100.0)
"""The multiples of both among which the data decide: from context that explains nearly everything to context that
tells nothing."""


class Prior(NamedTuple):
    """Prior precision of each weight, in observations; each array has shape (dimension,).

    Examples
    --------
    >>> prior = Prior.of(LearningSettings(lambda_reg=0.5, dimension=3))
    >>> prior.own.tolist(), prior.shared.tolist()
    ([0.5, 50.0, 50.0], [15.0, 15.0, 15.0])
    """

    own: NDArray[np.float64]
    """Of an arm's intercept, and of what it adds to the shared weights."""
    shared: NDArray[np.float64]
    """Of the weights that all arms share; these have no intercept."""
    multiples: tuple[float, ...] = (1.0,)
    """What both are multiplied by, intercepts excepted: how much context matters is itself unknown, and every
    multiple counts as much as the data speak for it."""
    pool: Mapping[str, float] = MappingProxyType({})
    """By signal: what is added to the precision of an arm's intercept, which is then held to the pool's mean."""

    @classmethod
    def of(cls, settings: LearningSettings) -> Self:
        """Return the prior that the settings call for."""
        own = np.full(settings.dimension, settings.lambda_reg * OWN_STIFFNESS)
        own[0] = settings.lambda_reg
        pool = {signal.name: settings.lambda_reg * signal.pool_observations for signal in SIGNALS.values()}
        return cls(own, np.full(settings.dimension, settings.lambda_reg * SHARED_STIFFNESS), MULTIPLES, pool)

    def untried(self, signal: str) -> NDArray[np.float64]:
        """Return the precision of each weight of an arm that nobody has tried, shape (dimension,)."""
        precision = self.own.copy()
        precision[0] += self.pool.get(signal, 0.0)
        return precision

    def multiplied(self, of: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each multiple of one of the two, shape (multiples, dimension)."""
        table = np.outer(self.multiples, of)
        table[:, 0] = of[0]
        return table
