"""Settings of a LiteLLM proxy's strategy: the ``conduit:`` section of its config.yaml, and the environment."""

import inspect
import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas import ConfigurationError

__all__ = ["ALLOWED_KEYS", "read_settings"]

_PREFIX = "CONDUIT_"
_OF_THE_LOG = frozenset({"log", "bootstrap_servers", "log_path", "topic_prefix", "kafka_options"})
"""Keys whose variables :class:`conduit_log.LogSettings` reads by itself, some under names of their own."""

_PARAMETERS = inspect.signature(ConduitRoutingStrategy).parameters
ALLOWED_KEYS = tuple(_PARAMETERS)
"""What may stand in the section: the arguments of :class:`~conduit_litellm.ConduitRoutingStrategy`."""


def read_settings(section: object, where: str, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return a strategy's arguments: from the section, then the environment, then left to their defaults.

    Parameters
    ----------
    section
        The ``conduit:`` section; None when there is none.
    where
        The file it stands in, for messages.
    environment
        ``CONDUIT_<KEY>`` for every key. Lists are separated by commas, mappings are JSON.

    Raises
    ------
    ConfigurationError
        When a key does not exist or its value cannot be used; the message names the key and the place.

    Examples
    --------
    >>> read_settings({"objective": "cost"}, "config.yaml", {"CONDUIT_WINDOW_SIZE": "500"})
    {'window_size': 500, 'objective': 'cost'}
    """
    if section is None:
        section = {}
    if not isinstance(section, Mapping):
        raise ConfigurationError(f"{where}: conduit: must hold keys and values, not {section!r}")
    for key in section:
        if key not in ALLOWED_KEYS:
            raise ConfigurationError(f"{where}: conduit: has no key {key!r}; allowed are {', '.join(ALLOWED_KEYS)}")
    given = {key: value for key, value in section.items() if value is not None}
    places = dict.fromkeys(given, where)
    for key in ALLOWED_KEYS:
        text = environment.get(_variable(key))
        if text and key not in given and key not in _OF_THE_LOG:
            given[key], places[key] = _parsed(key, text), "the environment"
    try:
        model = _model()(**given)
    except ValidationError as error:
        # Where a value may be of several kinds, the last one, a mapping, says most about what is wrong.
        wrong = error.errors(include_url=False)[-1]
        key = str(wrong["loc"][0])
        name = f"conduit: {key}" if places[key] == where else _variable(key)
        problem = wrong["msg"] if len(wrong["loc"]) == 1 else f"{wrong['msg']} (at {wrong['loc'][-1]})"
        raise ConfigurationError(f"{places[key]}: {name}={_shown(key, given[key])}: {problem}") from error
    return {key: getattr(model, key) for key in ALLOWED_KEYS if key in given}


@cache
def _model() -> Any:
    """Return the constructor's annotations as a pydantic model, so that the two cannot disagree."""
    hints = get_type_hints(ConduitRoutingStrategy.__init__) | {
        "model_groups": list[str] | None,
        "featurizer": str | None,
    }
    fields: dict[str, Any] = {key: (hints[key], _PARAMETERS[key].default) for key in ALLOWED_KEYS}
    return create_model("ConduitSection", __config__=ConfigDict(extra="forbid"), **fields)


def _variable(key: str) -> str:
    return f"{_PREFIX}{key.upper()}"


def _parsed(key: str, text: str) -> object:
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"the environment: {_variable(key)}={text!r} is no JSON: {error}") from error
    if key == "model_groups":
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _shown(key: str, value: object) -> str:
    return "..." if key == "kafka_options" else repr(value)  # which may hold a password
