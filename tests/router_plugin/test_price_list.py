"""Prices are read where LiteLLM reads them, and told once until they change."""

from typing import Any

import litellm
import pytest

from conduit_litellm.litellm_compat.prices import PriceList, price_of
from conduit_schemas import ArmPrice, LearningSettings


def deployment(arm: str, model: str, **info: Any) -> dict[str, Any]:  # LiteLLM notes prices by id: these are unique
    return {"litellm_params": {"model": model}, "model_info": {"id": arm, **info}}


@pytest.fixture(autouse=True)
def _price_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(litellm.model_cost, "test-model", {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (deployment("priced-a", "test-model"), ArmPrice(input=1.0, output=4.0)),
        (deployment("priced-a", "vendor/test-model"), ArmPrice(input=1.0, output=4.0)),
        (deployment("priced-a", "azure/mine", base_model="test-model"), ArmPrice(input=1.0, output=4.0)),
        (
            deployment("priced-a", "x", input_cost_per_token=2e-6, output_cost_per_token=2e-6),
            ArmPrice(input=2.0, output=2.0),
        ),
        (deployment("priced-a", "nobody-knows-it"), None),
        ({"model_info": {"id": "priced-a"}}, None),
    ],
)
def test_the_price_is_the_one_litellm_charges(given: dict[str, Any], expected: ArmPrice | None) -> None:
    found = price_of(given)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert (found.input, found.output) == (pytest.approx(expected.input), pytest.approx(expected.output))


def test_a_price_is_told_once_and_again_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    prices, found = (
        PriceList(LearningSettings()),
        [deployment("priced-a", "test-model"), deployment("priced-b", "unknown")],
    )
    first = prices.changed("default/chat", found, 0.0)
    assert first is not None
    assert set(first.prices or {}) == {"priced-a"}
    assert prices.changed("default/chat", found, 100.0) is None
    monkeypatch.setitem(litellm.model_cost, "test-model", {"input_cost_per_token": 5e-7, "output_cost_per_token": 2e-6})
    assert prices.changed("default/chat", found, 101.0) is None  # not looked up yet
    second = prices.changed("default/chat", found, 200.0)
    assert second is not None
    assert second.prices is not None
    assert second.prices["priced-a"].output == pytest.approx(2.0)


def test_deployments_that_are_away_keep_their_price() -> None:
    prices = PriceList(LearningSettings())
    prices.changed("default/chat", [deployment("priced-a", "test-model")], 0.0)
    more = prices.changed("default/chat", [deployment("priced-b", "test-model")], 100.0)
    assert more is not None
    assert set(more.prices or {}) == {"priced-a", "priced-b"}
