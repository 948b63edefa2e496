"""The base class of algorithms: a name, numeric parameters, and one method.

The method turns beliefs into choice probabilities. The beliefs themselves (a linear-Gaussian posterior per arm and
signal) are the same for all algorithms, and so are the safeguards around the choice (:mod:`conduit_policy.rules`).
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from conduit_schemas import ConfigurationError

__all__ = ["BanditAlgorithm", "Utilities", "Vector", "described"]

Vector = NDArray[np.float64]


class Utilities(NamedTuple):
    """The beliefs about the utility of K arms."""

    mean: Vector
    """Shape (K,)."""
    deviation: Vector
    """Shape (K,): standard deviation of the posterior of the mean."""
    outcomes: Vector
    """Shape (K,): (faded) number of observations of each arm."""
    ratings: Vector
    """Shape (K,): (faded) number of ratings of each arm."""
    success: Vector
    """Shape (K,): predicted probability of success, 0..1."""

    def of(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the utilities of some of the arms, given by a mask of shape (K,)."""
        return type(self)(*(column[chosen] for column in self))


class BanditAlgorithm(ABC):
    """The base class of every algorithm. As in river, the parameters are the constructor's arguments.

    Each parameter is a number with a default, is stored under its own name, and can be set in
    :attr:`conduit_schemas.LearningSettings.params`. One instance serves many decisions in several threads. It must keep
    no state between them: everything learned is in its arguments, so that any decision can be recomputed.

    :data:`conduit_policy.ALGORITHMS` holds the algorithms that come with Conduit. Add your own with
    :func:`conduit_policy.register`.

    Examples
    --------
    >>> from conduit_policy import algorithm, register
    >>> class Softmax(BanditAlgorithm):
    ...     '''Chooses in proportion to the exponential of the mean.'''
    ...     name = "doc_softmax"
    ...
    ...     def __init__(self, temperature: float = 0.05) -> None:
    ...         self.temperature = temperature
    ...
    ...     def probabilities(self, utilities: Utilities) -> Vector:
    ...         score = np.exp((utilities.mean - utilities.mean.max()) / self.temperature)
    ...         return score / score.sum()
    >>> known = register(Softmax)
    >>> from conduit_schemas import LearningSettings
    >>> dict(algorithm(LearningSettings(algorithm="doc_softmax")).params)
    {'temperature': 0.05}
    """

    name: ClassVar[str]
    """The name that settings use. Give the algorithm a new name when its mathematics changes, because audits recompute
    old decisions by name."""
    contextual: ClassVar[bool] = True
    """Whether the beliefs depend on the request. If not, they are one mean per arm."""
    safeguards: ClassVar[Mapping[str, float]] = {}
    """The safeguards with other defaults for this algorithm; see :data:`conduit_policy.SAFEGUARDS`."""
    implicit: ClassVar[frozenset[str]] = frozenset()
    """Parameters that snapshots contain only if the settings set them. List a parameter here if it is added later, and
    give it a default that changes nothing, so that existing snapshots keep their hashes."""

    about: ClassVar[str] = ""
    """The first line of the docstring: one sentence for people. :func:`described` fills in this and the next two
    attributes."""
    params: ClassVar[Mapping[str, float]] = {}
    """The parameters, and changed safeguards, that snapshots contain, with their defaults."""
    takes: ClassVar[frozenset[str]] = frozenset()
    """Names of all parameters."""

    @abstractmethod
    def probabilities(self, utilities: Utilities) -> Vector:
        """Return the probability of choosing each arm.

        Parameters
        ----------
        utilities
            The beliefs about the K arms to choose from, at least two. The result must not depend on their order.

        Returns
        -------
        Shape (K,): finite, not negative, not all 0. They need not sum to 1.
        """


def described(algorithm: type[BanditAlgorithm]) -> None:
    """Set the attributes of an algorithm's class that describe it: ``about``, ``params`` and ``takes``.

    Raises
    ------
    ConfigurationError
        When a parameter is not a number with a default.
    """
    defaults = {}
    for name, parameter in inspect.signature(algorithm).parameters.items():
        if not isinstance(parameter.default, int | float):
            raise ConfigurationError(
                f"parameter {name!r} of {algorithm.__qualname__} must have a number as its default"
            )
        defaults[name] = float(parameter.default)
    algorithm.about = (algorithm.__doc__ or "").strip().partition("\n")[0]
    algorithm.takes = frozenset(defaults)
    algorithm.params = {
        **{name: default for name, default in defaults.items() if name not in algorithm.implicit},
        **algorithm.safeguards,
    }
