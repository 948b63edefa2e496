"""What LiteLLM charges for each deployment, and when that has changed.

LiteLLM computes the cost of a call from its price map, so a new price there is a new cost at the next call. Telling the
learner spares it the calls it would take to notice.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import litellm

from conduit_schemas import ArmPrice, LearningSettings

__all__ = ["PriceList", "price_of"]

_EVERY_S = 30.0
_PER_MILLION = 1e6
_INPUT, _OUTPUT = "input_cost_per_token", "output_cost_per_token"


class PriceList:
    """The prices that were last told of each policy's deployments.

    Examples
    --------
    >>> deployment = {"litellm_params": {"model": "m", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
    ...               "model_info": {"id": "d1"}}
    >>> prices = PriceList(LearningSettings())
    >>> prices.changed("default/chat", [deployment], 0.0).prices
    {'d1': ArmPrice(input=1.0, output=2.0)}
    >>> prices.changed("default/chat", [deployment], 100.0)
    """

    def __init__(self, settings: LearningSettings) -> None:
        self._settings = settings
        self._told: dict[str, dict[str, ArmPrice]] = {}
        self._due: dict[str, float] = {}

    def changed(self, policy: str, found: Iterable[Mapping[str, Any]], now: float) -> LearningSettings | None:
        """Return the settings with the prices as they are, or None where they were told already.

        Parameters
        ----------
        policy, found
            A policy and the deployments there are to choose from.
        now
            Seconds on any clock; prices are looked up every half a minute.
        """
        if now < self._due.get(policy, now):
            return None
        self._due[policy] = now + _EVERY_S
        told = self._told.setdefault(policy, {})
        prices = {deployment["model_info"]["id"]: price for deployment in found if (price := price_of(deployment))}
        if all(told.get(arm) == price for arm, price in prices.items()):
            return None
        told.update(prices)
        return self._settings.model_copy(update={"prices": dict(sorted(told.items()))})


def price_of(deployment: Mapping[str, Any]) -> ArmPrice | None:
    """Return what LiteLLM's price map, or the deployment itself, says; None when neither does."""
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
