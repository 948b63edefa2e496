"""Models by the names that LiteLLM has for them: whose they are, whether there is a key for them, what they say."""

from collections.abc import Mapping, Sequence
from typing import Any

import litellm

from conduit_litellm.feedback.judge import Reply
from conduit_litellm.litellm_compat.responses import cost_of

__all__ = ["ask_model", "keys_of", "provider_of"]


def provider_of(model: str) -> tuple[str, str]:
    """Return LiteLLM's name of a model's provider, and the model's name there.

    Examples
    --------
    >>> provider_of("openai/gpt-4.1")
    ('openai', 'gpt-4.1')
    """
    name, provider, _, _ = litellm.get_llm_provider(model)
    return provider, name


def keys_of(model: str) -> tuple[bool, list[str]]:
    """Return whether the environment has a key for a model, and the names of the variables that are missing."""
    found = litellm.validate_environment(model)
    return bool(found["keys_in_environment"]), list(found["missing_keys"])


async def ask_model(model: str, messages: Sequence[Mapping[str, str]], params: Mapping[str, Any]) -> Reply:
    """Call a model directly, without any router; see :class:`conduit_litellm.feedback.judge.AskModel`."""
    response: Any = await litellm.acompletion(model=model, messages=list(messages), **params)
    return Reply(response.choices[0].message.content or "", cost_of(response))
