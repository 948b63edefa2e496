"""Prices and costs according to LiteLLM: of a deployment, of counted tokens, of a whole response."""

from collections.abc import Mapping
from typing import Any

import litellm

from conduit_schemas import ArmPrice

__all__ = ["cost_of_response", "cost_of_tokens", "price_of"]

_PER_MILLION = 1e6
_INPUT, _OUTPUT = "input_cost_per_token", "output_cost_per_token"


def price_of(deployment: Mapping[str, Any]) -> ArmPrice | None:
    """Return a deployment's price in US dollars per million tokens: its own, else LiteLLM's map's, else None."""
    params, info = deployment.get("litellm_params") or {}, deployment.get("model_info") or {}
    model = str(params.get("model") or "")
    names = (info.get("id"), info.get("base_model"), model, model.partition("/")[2])
    for prices in (params, info, *(litellm.model_cost.get(name) for name in names if name)):
        if isinstance(prices, Mapping):
            price = [prices.get(name) for name in (_INPUT, _OUTPUT)]
            known = [_PER_MILLION * part for part in price if isinstance(part, int | float) and 0.0 <= part <= 1e3]
            if len(known) == len(price):
                return ArmPrice(input=known[0], output=known[1])
    return None


def cost_of_tokens(
    params: Mapping[str, Any], *, input_tokens: int, output_tokens: int, cache_read: int, cache_write: int
) -> float | None:
    """Return what a deployment charges for tokens, in US dollars; None if LiteLLM knows no price.

    Parameters
    ----------
    params
        The deployment's ``litellm_params``. Prices in them take precedence over LiteLLM's map.
    input_tokens, output_tokens, cache_read, cache_write
        Numbers of tokens read and written. The last two are those read from and written to the provider's cache.
    """
    try:
        costs = litellm.cost_per_token(
            model=params.get("base_model") or str(params["model"]).replace(":", "/", 1),
            prompt_tokens=input_tokens,
            completion_tokens=output_tokens,
            cache_read_input_tokens=cache_read,
            cache_creation_input_tokens=cache_write,
            custom_cost_per_token=_own_prices(params),
        )
    except Exception:  # LiteLLM raises plain ones where it knows no price
        return None
    return sum(costs) or None


def cost_of_response(response: Any, params: Mapping[str, Any]) -> float | None:
    """Return the cost of a response in US dollars, computed from its usage; None if LiteLLM knows no price."""
    try:
        return float(
            litellm.completion_cost(
                completion_response=response,
                model=params.get("base_model") or params["model"],
                custom_cost_per_token=_own_prices(params),
            )
        )
    except Exception:  # LiteLLM raises plain ones where it knows no price
        return None


def _own_prices(params: Mapping[str, Any]) -> Any:
    prices = {name: params.get(name) for name in (_INPUT, _OUTPUT)}
    return None if None in prices.values() else prices
