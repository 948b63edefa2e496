"""When the prices of deployments have changed.

LiteLLM computes the cost of a call from its price map, so a new price there is a new cost at the next call. Telling the
learner spares it the calls it would take to notice.
"""

from collections.abc import Callable, Iterable

from conduit_litellm.routing.request import Deployment
from conduit_schemas import ArmPrice, LearningSettings

__all__ = ["PriceList"]

_EVERY_S = 30.0


class PriceList:
    """The prices that were last told of each policy's deployments.

    Parameters
    ----------
    settings
        How the policies are learned; prices are told with them.
    price_of
        Returns what a deployment charges, or None where that is not known.

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
        self._told: dict[str, dict[str, ArmPrice]] = {}
        self._due: dict[str, float] = {}

    def changed(self, policy: str, found: Iterable[Deployment], now: float) -> LearningSettings | None:
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
        prices = {
            deployment["model_info"]["id"]: price for deployment in found if (price := self._price_of(deployment))
        }
        if all(told.get(arm) == price for arm, price in prices.items()):
            return None
        told.update(prices)
        return self._settings.model_copy(update={"prices": dict(sorted(told.items()))})
