"""Prices are read where LiteLLM reads them."""

from typing import Any

import litellm
import pytest

from conduit_litellm.litellm_compat.prices import price_of
from conduit_schemas import ArmPrice


def deployment(arm: str, model: str, **info: Any) -> dict[str, Any]:  # LiteLLM stores prices by id, so these are unique
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
