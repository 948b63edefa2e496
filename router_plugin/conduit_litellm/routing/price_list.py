"""Detects changes of the deployments' prices.

LiteLLM computes the cost of a call from its price map, so a new price there changes the cost of the next call. The
learner is told of it, because noticing it from the costs alone would take many calls.
"""

from collections.abc import Callable, Iterable

from conduit_litellm.routing.request import Deployment
from conduit_schemas import ArmPrice, LearningSettings

__all__ = ["PriceList"]

_EVERY_S = 30.0


class PriceList:
    """The prices that the learner was last told, for the deployments of each policy.

    Parameters
    ----------
    settings
        The learning settings of the policies. Prices are part of them.
    price_of
        Returns a deployment's price, or None if it is unknown.

    Examples
    --------
    >>> deployment = {"litellm_params": {"model": "m"}, "model_info": {"id": "d1"}}
    >>> prices = PriceList(LearningSettings(), lambda deployment: ArmPrice(input=1.0, output=2.0))
    >>> prices.changed("default/chat", [deployment], 0.0).prices
    {'d1': ArmPrice(input=1.0, output=2.0)}
    >>> prices.changed("default/chat", [deployment], 100.0)
    """

    def __init__(self, settings: LearningSettings, price_of: Callable[[Deployment], ArmPrice | None]) -> None:
        self._settings = settings
        self._price_of = price_of
        self._announced: dict[str, dict[str, ArmPrice]] = {}
        self._due: dict[str, float] = {}

    def changed(self, policy: str, deployments: Iterable[Deployment], now: float) -> LearningSettings | None:
        """Return the settings with the current prices, or None if no change was found.

        Parameters
        ----------
        policy, deployments
            A policy and the deployments it chooses among.
        now
            Seconds on any clock. Prices are looked up at most every 30 seconds.
        """
        if now < self._due.get(policy, now):
            return None
        self._due[policy] = now + _EVERY_S
        announced = self._announced.setdefault(policy, {})
        prices = {
            deployment["model_info"]["id"]: price for deployment in deployments if (price := self._price_of(deployment))
        }
        if all(announced.get(arm) == price for arm, price in prices.items()):
            return None
        announced.update(prices)
        return self._settings.model_copy(update={"prices": dict(sorted(announced.items()))})
