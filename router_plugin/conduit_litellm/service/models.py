"""Turns the argument ``models=`` into LiteLLM's deployments."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from conduit_litellm.litellm_compat.models import keys_of
from conduit_schemas import ConfigurationError
from conduit_schemas.fields import MAX_ARMS

__all__ = ["DEFAULTS", "VARIABLE", "Model", "deployments", "wanted_models"]

_logger = logging.getLogger("conduit")

Model = str | Mapping[str, Any]
"""A model's name, LiteLLM parameters that include ``model``, or an entry of a Router's model list."""

VARIABLE = "CONDUIT_MODELS"

DEFAULTS = (
    "openai/gpt-5.4-mini",
    "openai/gpt-5.5",
    "anthropic/claude-haiku-4-5",
    "anthropic/claude-sonnet-5",
    "gemini/gemini-3.5-flash",
    "gemini/gemini-2.5-pro",
    "mistral/mistral-small-latest",
    "mistral/mistral-large-latest",
    "groq/openai/gpt-oss-20b",
    "groq/openai/gpt-oss-120b",
    "deepseek/deepseek-v4-flash",
    "deepseek/deepseek-v4-pro",
)
"""Small and large models of common providers."""


def wanted_models(models: Iterable[Model] | None) -> list[Model]:
    """Return the models to choose among: the given ones, else the environment's, else the defaults that have a key.

    Raises
    ------
    ConfigurationError
        If there are none.
    """
    if isinstance(models, (str, Mapping)):
        raise ConfigurationError(f"models={models!r} must be a list")
    if models is not None:
        found = list(models)
        if not found:
            raise ConfigurationError("models=[] leaves nothing to choose from: name at least one model, or omit models")
        return found
    named: list[Model] = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    if named:
        return named
    usable: list[Model] = [name for name in DEFAULTS if keys_of(name)[0]]
    if not usable:
        keys = sorted({key for name in DEFAULTS for key in keys_of(name)[1]})
        raise ConfigurationError(
            "no models: name them in models=[...] or, separated by commas, in the environment variable "
            f"{VARIABLE}; or set the key of a provider ({', '.join(keys)}) to get its usual models"
        )
    _logger.info("no models were named; using the default models that have a key: %s", ", ".join(map(str, usable)))
    return usable


def deployments(models: Iterable[Model], group: str, *, argument: str = "models") -> list[dict[str, Any]]:
    """Return a Router's model list.

    Statistics are kept under a deployment's id, so the id should stay the same from one start to the next. It is the
    model's name unless ``id`` (or ``model_info["id"]``) gives another one.

    Raises
    ------
    ConfigurationError
        If an entry is not a model, or two entries have the same id.

    Examples
    --------
    >>> entry, = deployments([{"model": "openai/gpt-4.1", "api_key": "k", "id": "mine"}], "service")
    >>> entry["model_name"], entry["model_info"]["id"], entry["litellm_params"]["model"]
    ('service', 'mine', 'openai/gpt-4.1')
    """
    entries = [_deployment(model, group, f"{argument}[{number}]") for number, model in enumerate(models)]
    if len(entries) > MAX_ARMS:
        raise ConfigurationError(f"{argument} has {len(entries)} entries; at most {MAX_ARMS} are allowed")
    ids = Counter(entry["model_info"]["id"] for entry in entries)
    twice = [name for name, times in ids.items() if times > 1]
    if twice:
        raise ConfigurationError(f"{argument}: {twice[0]!r} is there twice: give each entry an 'id' of its own")
    return entries


def _deployment(model: Model, group: str, where: str) -> dict[str, Any]:
    if isinstance(model, str):
        params, info = {"model": model}, {}
    elif isinstance(model, Mapping):
        known = model.get("litellm_params")
        params = dict(known) if isinstance(known, Mapping) else {k: v for k, v in model.items() if k != "id"}
        info = dict(model.get("model_info") or {}) if known is not None else {}
        if "id" in model:
            info["id"] = model["id"]
    else:
        raise ConfigurationError(f"{where}={model!r} must be a model's name or a mapping")
    name = params.get("model")
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{where} names no 'model': add one, such as openai/gpt-4.1")
    identity = info.setdefault("id", name)
    if not (isinstance(identity, str) and 0 < len(identity) <= 256):
        raise ConfigurationError(f"{where}: id={identity!r} must be a text of 1 to 256 characters")
    return {"model_name": group, "litellm_params": params, "model_info": info}
