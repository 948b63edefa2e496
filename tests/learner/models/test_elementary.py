import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit_learner.models.elementary import exp


@given(st.floats(-700.0, 0.0))
def test_exp_is_that_of_the_c_library_but_for_the_last_bits(value: float) -> None:
    assert exp(value) == pytest.approx(math.exp(value), rel=1e-14)


def test_what_is_too_small_is_nothing() -> None:
    assert exp(0.0) == 1.0
    assert exp(-701.0) == exp(-math.inf) == 0.0
