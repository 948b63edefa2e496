import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from learner_traffic import feedback, outcome

from conduit_learner.core.events import decode_event
from conduit_learner.core.targets import TARGET_BITS, to_grid
from conduit_learner.core.targets import targets as targets_of
from conduit_learner.models.elementary import ln
from conduit_schemas import Feedback, Outcome, encode


@given(st.floats(min_value=0.0, exclude_min=True, allow_infinity=False))
def test_ln_is_the_natural_logarithm(value: float) -> None:
    assert ln(value) == pytest.approx(math.log(value), rel=4e-16, abs=2e-16)


def test_ln_has_known_bits() -> None:
    # If a platform computed other bits, its snapshots would differ from all others.
    assert [ln(value).hex() for value in (0.0001, 0.5, 0.7, 2.0, 10.0)] == [
        "-0x1.26bb1bbb55515p+3",
        "-0x1.62e42fefa39efp-1",
        "-0x1.6d3c324e13f4fp-2",
        "0x1.62e42fefa39efp-1",
        "0x1.26bb1bbb55515p+1",
    ]


@given(st.floats(-100.0, 100.0))
def test_targets_lie_on_the_grid_within_bounds(value: float) -> None:
    rounded = to_grid(value)
    assert (Fraction(rounded) * 2**TARGET_BITS).denominator == 1
    assert rounded == pytest.approx(max(-32.0, min(32.0, value)), abs=0.5 / 2**TARGET_BITS)


def targets(sent: Outcome | Feedback) -> dict[str, float]:
    return targets_of(decode_event(encode(sent)))


def test_what_each_event_teaches() -> None:
    paid = {"cost_usd": math.exp(-7.0), "latency_s": 1.0}
    assert targets(outcome("d", **paid)) == {"success": 1.0, "cost": -7.0, "latency": 0.0}
    assert targets(outcome("d", latency_s=0.0)) == {"success": 1.0}
    free = targets(outcome("d", cost_usd=0.0))["cost"]
    assert free == targets(outcome("d", cost_usd=1e-9))["cost"] == pytest.approx(math.log(1e-6), abs=1e-4)
    assert targets(outcome("d")) == {"success": 1.0}
    assert targets(outcome("d", status="error", **paid)) == {"success": 0.0}
    assert targets(feedback("d", 0.25)) == {"quality": 0.25}


@pytest.mark.parametrize("status", ["cancelled", "client_disconnect", "cache_hit"])
def test_what_says_nothing_about_the_deployment_teaches_nothing(status: str) -> None:
    assert targets(outcome("d", status=status, cost_usd=1.0, latency_s=1.0)) == {}
