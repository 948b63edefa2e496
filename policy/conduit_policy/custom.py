"""Algorithms of your own: how plugin and learner find them by name.

A class with one method is enough (:class:`conduit_policy.BanditAlgorithm`), and it runs wherever a decision is taken,
taken again in an audit, or evaluated off line.

Only its *name* travels in the log. Whoever can write to a topic can therefore name an algorithm, but never bring
code along: what a process knows is what it was installed or started with.
"""

import os
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeVar

from conduit_policy.bandit_algorithm import BanditAlgorithm, described
from conduit_policy.rules import RULES, Rule
from conduit_schemas import ConfigurationError

__all__ = ["ENTRY_POINTS", "MODULES", "load_algorithms", "register", "registered"]

ENTRY_POINTS = "conduit.algorithms"
"""The entry point group under which a package may offer its algorithms, each a
:class:`conduit_policy.BanditAlgorithm`."""

MODULES = "CONDUIT_ALGORITHMS"
"""The environment variable that names modules to import, separated by commas; they call :func:`register`."""

registered: dict[str, type[BanditAlgorithm]] = {}
"""Algorithms that do not come with Conduit, by name."""

_Class = TypeVar("_Class", bound=type[BanditAlgorithm])


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
    described(algorithm)
    registered[name] = algorithm
    RULES[name] = Rule(algorithm, is_checked=True)
    return algorithm


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
