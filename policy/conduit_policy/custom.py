"""Algorithms of your own: a base class, and how plugin and learner find them by name.

An algorithm is what turns beliefs into probabilities of choice; the beliefs themselves (a linear-Gaussian posterior per
arm and signal) are the same for all, and so are the safeguards around the choice. So a class with one
method is enough, and it runs wherever a decision is taken, taken again in an audit, or evaluated off line.

Only its *name* travels in the log. Whoever can write to a topic can therefore name an algorithm, but never bring
code along: what a process knows is what it was installed or started with.
"""

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import ClassVar, TypeVar

import numpy as np

from conduit_policy.rules import RULES, Utilities, Vector
from conduit_schemas import ConfigurationError

__all__ = ["ENTRY_POINTS", "MODULES", "BanditAlgorithm", "load_algorithms", "parameters", "register", "registered"]

ENTRY_POINTS = "conduit.algorithms"
"""The entry point group under which a package may offer its algorithms, each a :class:`BanditAlgorithm`."""

MODULES = "CONDUIT_ALGORITHMS"
"""The environment variable that names modules to import, separated by commas; they call :func:`register`."""


class BanditAlgorithm(ABC):
    """The base of an algorithm of your own, in river's manner: parameters are the constructor's arguments.

    Each parameter is a number with a default, is stored under its own name, and can be set as
    :attr:`conduit_schemas.LearningSettings.params`. An instance is made for each decision and must keep nothing between
    two of them: everything that was learned is in what it is given, so that any decision can be taken again.

    Examples
    --------
    >>> class Softmax(BanditAlgorithm):
    ...     '''Chooses in proportion to the exponential of the mean.'''
    ...     name = "doc_softmax"
    ...     def __init__(self, temperature: float = 0.05) -> None:
    ...         self.temperature = temperature
    ...     def probabilities(self, utilities: Utilities) -> Vector:
    ...         score = np.exp((utilities.mean - utilities.mean.max()) / self.temperature)
    ...         return score / score.sum()
    >>> known = register(Softmax)
    >>> from conduit_policy import algorithm
    >>> from conduit_schemas import LearningSettings
    >>> dict(algorithm(LearningSettings(algorithm="doc_softmax")).params)
    {'temperature': 0.05}
    """

    name: ClassVar[str]
    """By which settings call for it. An algorithm whose mathematics changes gets a new one: audits take old decisions
    again."""
    contextual: ClassVar[bool] = True
    """Whether beliefs depend on the request, or are one mean per arm."""

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


_Class = TypeVar("_Class", bound=type[BanditAlgorithm])

registered: dict[str, type[BanditAlgorithm]] = {}
"""Algorithms that do not come with Conduit, by name."""


def register(algorithm: _Class) -> _Class:
    """Make an algorithm known in this process; usable as a decorator.

    Raises
    ------
    ConfigurationError
        When its name is taken, or one of its parameters is not a number with a default.
    """
    name = getattr(algorithm, "name", "")
    if not name or not isinstance(name, str):
        raise ConfigurationError(f"{algorithm.__qualname__} has no name; give the class one: name = '...'")
    known = registered.get(name)
    if (known is None and name in RULES) or (known is not None and known.__qualname__ != algorithm.__qualname__):
        raise ConfigurationError(f"there is an algorithm {name!r} already; give {algorithm.__qualname__} another name")
    parameters(algorithm)
    registered[name] = algorithm
    RULES[name] = _rule(algorithm)
    return algorithm


def parameters(algorithm: type[BanditAlgorithm]) -> dict[str, float]:
    """Return the parameters of an algorithm with their defaults."""
    found = {}
    for name, parameter in inspect.signature(algorithm).parameters.items():
        if not isinstance(parameter.default, int | float):
            raise ConfigurationError(
                f"parameter {name!r} of {algorithm.__qualname__} must have a number as its default"
            )
        found[name] = float(parameter.default)
    return found


@cache
def load_algorithms() -> None:
    """Import, once per process, what installed packages and the environment offer.

    Raises
    ------
    ConfigurationError
        When one of them cannot be imported or registered.
    """
    for module in filter(None, map(str.strip, os.environ.get(MODULES, "").split(","))):
        try:
            import_module(module)
        except ImportError as error:
            raise ConfigurationError(f"{MODULES} names {module!r}, which cannot be imported: {error}") from error
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            register(entry.load())
        except (ImportError, AttributeError, TypeError) as error:
            raise ConfigurationError(f"the algorithm {entry.value!r} of an installed package: {error}") from error


def _rule(algorithm: type[BanditAlgorithm]) -> "_Probabilities":
    return _Probabilities(algorithm)


class _Probabilities:
    """An algorithm as a rule. What it returns is checked: a decision must not hang on another's arithmetic."""

    def __init__(self, algorithm: type[BanditAlgorithm]) -> None:
        self._algorithm = algorithm
        self._names = frozenset(parameters(algorithm))

    def __call__(self, utilities: Utilities, params: Mapping[str, float]) -> Vector:
        chosen = self._algorithm(**{name: value for name, value in params.items() if name in self._names})
        vector = np.asarray(chosen.probabilities(utilities), np.float64)
        total = float(vector.sum()) if vector.shape == utilities.mean.shape else 0.0
        if not (np.isfinite(total) and total > 0.0 and (vector >= 0.0).all()):
            raise ConfigurationError(
                f"algorithm {self._algorithm.name!r} returned {vector.tolist()} for {len(utilities.mean)} arms; "
                "probabilities must be finite, not below 0 and not all 0, one per arm"
            )
        scaled: Vector = vector / total
        return scaled
