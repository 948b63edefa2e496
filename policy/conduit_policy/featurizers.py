"""Featurizers by name, so that a file, an environment variable or a command line can say which one is meant.

Like an algorithm, a featurizer travels in the log as a name only: what a process can load is what it was installed or
started with.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from conduit_policy.features import Featurizer, TextFeaturizer
from conduit_schemas import MAX_DIMENSION, ConfigurationError

__all__ = ["FEATURIZER_ENTRY_POINTS", "featurizer_of", "known_featurizers"]

FEATURIZER_ENTRY_POINTS = "conduit.featurizers"
"""The entry point group under which a package may offer its featurizers: each a class, or a function, that is called
without arguments, or a featurizer itself."""

_OWN: Mapping[str, Callable[[], Featurizer]] = {TextFeaturizer.name: TextFeaturizer}


def known_featurizers() -> list[str]:
    """Return the names that :func:`featurizer_of` knows, besides places in modules.

    Examples
    --------
    >>> "text64-v2" in known_featurizers()
    True
    """
    return sorted({*_OWN, *(entry.name for entry in entry_points(group=FEATURIZER_ENTRY_POINTS))})


def featurizer_of(given: str | Featurizer | None) -> Featurizer:
    """Return the featurizer that is meant.

    Parameters
    ----------
    given
        A featurizer; or the name of one, as its package offers it; or where one stands, as
        ``package.module:attribute``. None is the usual one, ``text64-v2``.

    Raises
    ------
    ConfigurationError
        When there is none of this name, it cannot be loaded, or it is no featurizer.

    Examples
    --------
    >>> featurizer_of("text64-v2").dimension
    64
    >>> featurizer_of("conduit_policy.features:TextFeaturizer").name
    'text64-v2'
    """
    if given is None:
        return TextFeaturizer()
    if not isinstance(given, str):
        return _checked(given, repr(given)[:200])
    if given in _OWN:
        return _OWN[given]()
    found = _loaded(given)
    try:
        made = found() if isinstance(found, type) or not hasattr(found, "dimension") else found
    except Exception as error:  # somebody else's code, of which the reader has to be told
        raise ConfigurationError(f"featurizer {given!r} cannot be made: {type(error).__name__}: {error}") from error
    return _checked(made, repr(given))


def _loaded(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    try:
        if colon:
            return getattr(import_module(module), attribute)
        return entry_points(group=FEATURIZER_ENTRY_POINTS)[name].load()
    except KeyError:
        raise ConfigurationError(
            f"there is no featurizer {name!r}; there are {', '.join(known_featurizers())}. Correct the name, install "
            f"the package that offers it as an entry point of {FEATURIZER_ENTRY_POINTS}, or say where it stands, as "
            "package.module:attribute"
        ) from None
    except Exception as error:  # whatever keeps somebody else's module from being imported
        raise ConfigurationError(f"featurizer {name!r} cannot be loaded: {type(error).__name__}: {error}") from error


def _checked(made: Any, said: str) -> Featurizer:
    name, dimension = getattr(made, "name", None), getattr(made, "dimension", None)
    if not (callable(made) and isinstance(name, str) and name and isinstance(dimension, int)):
        raise ConfigurationError(
            f"featurizer {said} must have a name, a dimension, and turn a Request into a context when it is called; "
            "see conduit_policy.Featurizer"
        )
    if not 1 <= dimension <= MAX_DIMENSION:
        raise ConfigurationError(f"featurizer {said}: dimension={dimension} must be between 1 and {MAX_DIMENSION}")
    featurizer: Featurizer = made
    return featurizer
