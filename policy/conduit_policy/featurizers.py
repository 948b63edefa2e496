"""Find featurizers by name, so that a file, an environment variable or a command line can name one.

As with algorithms, only a featurizer's name travels in the log. A process can load only those that it was installed or
started with.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from conduit_policy.features import Featurizer, TextFeaturizer
from conduit_schemas import MAX_DIMENSION, ConfigurationError, unknown_name

__all__ = ["FEATURIZER_ENTRY_POINTS", "featurizer_of", "known_featurizers"]

FEATURIZER_ENTRY_POINTS = "conduit.featurizers"
"""The entry point group under which a package may offer its featurizers. Each is a featurizer, or a class or function
that returns one when called without arguments."""

_OWN: Mapping[str, Callable[[], Featurizer]] = {TextFeaturizer.name: TextFeaturizer}


def known_featurizers() -> list[str]:
    """Return the names that :func:`featurizer_of` knows, besides ``package.module:attribute``.

    Examples
    --------
    >>> "text64-v2" in known_featurizers()
    True
    """
    return sorted({*_OWN, *(entry.name for entry in entry_points(group=FEATURIZER_ENTRY_POINTS))})


def featurizer_of(given: str | Featurizer | None) -> Featurizer:
    """Return a featurizer, given itself or its name.

    Parameters
    ----------
    given
        A featurizer, the name under which a package offers one, or its location as ``package.module:attribute``. None
        is the default, ``text64-v2``.

    Raises
    ------
    ConfigurationError
        When there is no featurizer of this name, it cannot be loaded, or it is not a featurizer.

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
    except Exception as error:  # other people's code may raise anything; the error has to say where
        raise ConfigurationError(f"featurizer {given!r} cannot be created: {type(error).__name__}: {error}") from error
    return _checked(made, repr(given))


def _loaded(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    try:
        if colon:
            return getattr(import_module(module), attribute)
        return entry_points(group=FEATURIZER_ENTRY_POINTS)[name].load()
    except KeyError:
        raise ConfigurationError(
            f"there is no featurizer {unknown_name(name, known_featurizers())}. Correct the name, install the "
            f"package that offers it as an entry point of {FEATURIZER_ENTRY_POINTS}, or give its location as "
            "package.module:attribute"
        ) from None
    except Exception as error:  # importing other people's modules may raise anything
        raise ConfigurationError(f"featurizer {name!r} cannot be loaded: {type(error).__name__}: {error}") from error


def _checked(made: Any, shown: str) -> Featurizer:
    name, dimension = getattr(made, "name", None), getattr(made, "dimension", None)
    if not (callable(made) and isinstance(name, str) and name and isinstance(dimension, int)):
        raise ConfigurationError(
            f"featurizer {shown} must have a name and a dimension, and return a context when called with a Request; "
            "see conduit_policy.Featurizer"
        )
    if not 1 <= dimension <= MAX_DIMENSION:
        raise ConfigurationError(f"featurizer {shown}: dimension={dimension} must be between 1 and {MAX_DIMENSION}")
    featurizer: Featurizer = made
    return featurizer
