"""Reads a LiteLLM proxy's settings for Conduit: the ``conduit:`` section of its config.yaml, and the environment."""

import json
import os
from collections.abc import Mapping
from typing import Any

from conduit_litellm.settings import SETTINGS, settings_of
from conduit_schemas import ConfigurationError, unknown_name

__all__ = ["read_settings"]

_PREFIX = "CONDUIT_"
_OF_THE_LOG = frozenset({"log", "bootstrap_servers", "log_path", "topic_prefix", "kafka_options"})
"""Keys whose variables :class:`conduit_log.LogSettings` reads itself, some of them under other names."""


def read_settings(section: object, where: str, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return a strategy's arguments. The section takes precedence over the environment.

    Parameters
    ----------
    section
        The ``conduit:`` section; None if there is none. Its keys are the fields of
        :class:`~conduit_litellm.settings.StrategySettings`.
    where
        The file that contains the section, for messages.
    environment
        May contain ``CONDUIT_<KEY>`` for every key. Lists are separated by commas, mappings are JSON.

    Raises
    ------
    ConfigurationError
        If a key does not exist, or its value cannot be used. The message names the key and where it was given.

    Examples
    --------
    >>> read_settings({"objective": "cost"}, "config.yaml", {"CONDUIT_WINDOW_SIZE": "500"})
    {'window_size': 500, 'objective': 'cost'}
    """
    if section is None:
        section = {}
    if not isinstance(section, Mapping):
        raise ConfigurationError(f"{where}: conduit: must be a mapping of settings, not {section!r}")
    for key in section:
        if key not in SETTINGS:
            raise ConfigurationError(f"{where}: conduit: has no key {unknown_name(key, SETTINGS)}")
    given = {key: value for key, value in section.items() if value is not None}
    variables: dict[str, Any] = {}
    for key in SETTINGS:
        text = environment.get(_variable(key))
        if text and key not in given and key not in _OF_THE_LOG:
            variables[key] = _parsed(key, text)

    def called(key: str) -> str:
        return f"the environment: {_variable(key)}" if key in variables else f"{where}: conduit: {key}"

    settings = settings_of(called, **given, **variables)
    return {key: getattr(settings, key) for key in SETTINGS if key in given or key in variables}


def _variable(key: str) -> str:
    return f"{_PREFIX}{key.upper()}"


def _parsed(key: str, text: str) -> object:
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(
                f"the environment: {_variable(key)}={text!r} is not valid JSON: {error}"
            ) from error
    if key == "model_groups":
        return [part.strip() for part in text.split(",") if part.strip()]
    return text
