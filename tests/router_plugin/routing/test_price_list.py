"""Prices are logged once, and again when they change."""

from conduit_litellm.routing.price_list import PriceList
from conduit_litellm.routing.request import Deployment
from conduit_schemas import ArmPrice, LearningSettings


def deployment(arm: str) -> Deployment:
    return {"litellm_params": {"model": "m"}, "model_info": {"id": arm}}


def test_a_price_is_told_once_and_again_when_it_changes() -> None:
    known = {"priced-a": ArmPrice(input=1.0, output=4.0)}
    prices = PriceList(LearningSettings(), lambda one: known.get(one["model_info"]["id"]))
    found = [deployment("priced-a"), deployment("priced-b")]
    first = prices.changed("default/chat", found, 0.0)
    assert first is not None
    assert set(first.prices or {}) == {"priced-a"}
    assert prices.changed("default/chat", found, 100.0) is None
    known["priced-a"] = ArmPrice(input=0.5, output=2.0)
    assert prices.changed("default/chat", found, 101.0) is None  # not looked up yet
    second = prices.changed("default/chat", found, 200.0)
    assert second is not None
    assert second.prices == known


def test_deployments_that_are_away_keep_their_price() -> None:
    prices = PriceList(LearningSettings(), lambda _: ArmPrice(input=1.0, output=4.0))
    prices.changed("default/chat", [deployment("priced-a")], 0.0)
    more = prices.changed("default/chat", [deployment("priced-b")], 100.0)
    assert more is not None
    assert set(more.prices or {}) == {"priced-a", "priced-b"}
