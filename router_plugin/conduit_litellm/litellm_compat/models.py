"""Looks up and calls models by LiteLLM's names: their provider, whether there is a key, their reply."""

from collections.abc import Mapping, Sequence
from typing import Any

import litellm

from conduit_litellm.feedback.judge import Reply
from conduit_litellm.litellm_compat.responses import cost_of

__all__ = ["ask_model", "keys_of", "provider_of"]


def provider_of(model: str) -> tuple[str, str]:
    """Return LiteLLM's name for a model's provider, and the provider's name for the model.

    Examples
    --------
    >>> provider_of("openai/gpt-4.1")
    ('openai', 'gpt-4.1')
    """
    name, provider, _, _ = litellm.get_llm_provider(model)
    return provider, name


def keys_of(model: str) -> tuple[bool, list[str]]:
    """Return whether the environment has the keys for a model, and the names of missing variables."""
    found = litellm.validate_environment(model)
    return bool(found["keys_in_environment"]), list(found["missing_keys"])


async def ask_model(model: str, messages: Sequence[Mapping[str, str]], params: Mapping[str, Any]) -> Reply:
    """Call a model directly, without a router; see :class:`conduit_litellm.feedback.judge.AskModel`."""
    response: Any = await litellm.acompletion(model=model, messages=list(messages), **params)
    return Reply(response.choices[0].message.content or "", cost_of(response))
