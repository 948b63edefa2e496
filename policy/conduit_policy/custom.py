"""Your own algorithms: how plugin and learner find them by name.

A class with one method is enough (:class:`conduit_policy.BanditAlgorithm`). It is used wherever a decision is made,
recomputed in an audit, or evaluated offline.

Only the algorithm's *name* travels in the log. Write access to a topic is thus enough to name an algorithm, but not to
add code: a process knows only the algorithms it was installed or started with.
"""

import os
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeVar

from conduit_policy.bandit_algorithm import BanditAlgorithm, described
from conduit_policy.rules import RULES, Rule
from conduit_schemas import ConfigurationError

__all__ = ["ALGORITHM_ENTRY_POINTS", "MODULES", "load_algorithms", "register", "registered"]

ALGORITHM_ENTRY_POINTS = "conduit.algorithms"
"""The entry point group under which a package may offer its algorithms, each a
:class:`conduit_policy.BanditAlgorithm`."""

MODULES = "CONDUIT_ALGORITHMS"
"""The environment variable with the modules to import, separated by commas. The modules call :func:`register`."""

registered: dict[str, type[BanditAlgorithm]] = {}
"""Algorithms that did not come with Conduit, by name."""

_Class = TypeVar("_Class", bound=type[BanditAlgorithm])


def register(algorithm: _Class) -> _Class:
    """Register an algorithm in this process. Can be used as a decorator.

    Raises
    ------
    ConfigurationError
        When another algorithm has this name, or the default of a parameter is not a number.
    """
    name = getattr(algorithm, "name", "")
    if not name or not isinstance(name, str):
        raise ConfigurationError(f"{algorithm.__qualname__} has no name; give the class one: name = '...'")
    known = registered.get(name)
    if (known is None and name in RULES) or (known is not None and known.__qualname__ != algorithm.__qualname__):
        raise ConfigurationError(f"there is already an algorithm {name!r}; give {algorithm.__qualname__} another name")
    described(algorithm)
    registered[name] = algorithm
    RULES[name] = Rule(algorithm, is_checked=True)
    return algorithm


@cache
def load_algorithms() -> None:
    """Import the algorithms of installed packages and of the environment, once per process.

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
    for entry in entry_points(group=ALGORITHM_ENTRY_POINTS):
        try:
            register(entry.load())
        except (ImportError, AttributeError, TypeError) as error:
            raise ConfigurationError(
                f"cannot load the algorithm {entry.value!r} of an installed package: {error}"
            ) from error
