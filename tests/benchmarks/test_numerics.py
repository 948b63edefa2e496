"""A small numerics campaign: posteriors stay sound, rounding has no effect, and snapshots have a known size."""

import pytest

from benchmarks.numerics import endure, rounding, sizes
from conduit_schemas import MAX_SNAPSHOT_BYTES


def test_extreme_rows_leave_every_posterior_finite_and_positive_definite() -> None:
    found = endure(20_000, looks=2)
    assert found["updates"] == 20_000
    assert found["least_eigenvalue"] > 0.0


def test_rounding_to_32_bits_moves_no_probability_by_a_thousandth() -> None:
    for name, moved in rounding(20, seeds=1).items():
        assert moved["largest"] <= 1e-3, name


@pytest.mark.campaign
def test_snapshots_grow_with_arms_and_features_and_no_further() -> None:
    found = sizes()
    assert found["10 arms, 64 features"] < 40_000
    assert max(found.values()) < MAX_SNAPSHOT_BYTES
