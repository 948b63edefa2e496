"""What an algorithm is: a class with a name, parameters that are numbers, and one method.

The method turns beliefs into probabilities of choice. The beliefs themselves (a linear-Gaussian posterior per arm and
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
    """What is believed about the utility of K arms."""

    mean: Vector
    """Shape (K,)."""
    deviation: Vector
    """Shape (K,): standard deviation of the mean's posterior."""
    outcomes: Vector
    """Shape (K,): (faded) observations behind each arm."""
    ratings: Vector
    """Shape (K,): (faded) quality feedbacks among them."""
    success: Vector
    """Shape (K,): predicted probability of success, 0..1."""

    def of(self, chosen: NDArray[np.bool_]) -> Self:
        """Return some of the arms."""
        return type(self)(*(column[chosen] for column in self))


class BanditAlgorithm(ABC):
    """The base of every algorithm, in river's manner: parameters are the constructor's arguments.

    Each parameter is a number with a default, is stored under its own name, and can be set as
    :attr:`conduit_schemas.LearningSettings.params`. One instance serves many decisions, in several threads, and must
    keep nothing between two of them: everything that was learned is in what it is given, so that any decision can be
    taken again.

    Those that come with Conduit are in :data:`conduit_policy.ALGORITHMS`; :func:`conduit_policy.register` makes
    another one known.

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
    """By which settings call for it. An algorithm whose mathematics changes gets a new one: audits take old decisions
    again."""
    contextual: ClassVar[bool] = True
    """Whether beliefs depend on the request, or are one mean per arm."""
    safeguards: ClassVar[Mapping[str, float]] = {}
    """The safeguards that are to be other than usual for this algorithm; see :data:`conduit_policy.SAFEGUARDS`."""
    implicit: ClassVar[frozenset[str]] = frozenset()
    """Parameters that snapshots name only where they are set. A parameter that an algorithm gets later belongs here,
    with a default that changes nothing: the snapshots of before keep their hashes."""

    about: ClassVar[str] = ""
    """The first line of the docstring: one sentence for people. Filled in, as the two that follow, by
    :func:`described`."""
    params: ClassVar[Mapping[str, float]] = {}
    """What snapshots name, with the defaults: parameters, and safeguards of its own."""
    takes: ClassVar[frozenset[str]] = frozenset()
    """Names of all parameters."""

    @abstractmethod
    def probabilities(self, utilities: Utilities) -> Vector:
        """Return the probability of choosing each arm.

        Parameters
        ----------
        utilities
            What is believed of the K arms there are to choose from, at least two, in an order that must not matter.

        Returns
        -------
        Shape (K,): finite, none below 0, not all 0. They need not sum to 1.
        """


def described(algorithm: type[BanditAlgorithm]) -> None:
    """Fill in what an algorithm's class says of itself: its sentence and its parameters.

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
