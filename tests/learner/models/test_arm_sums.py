"""Sums of blocks equal, to the bit, those of models that learn one row at a time, for all arms and signals."""

import math
import random

import numpy as np
import pytest

from conduit_learner.models.arm_sums import ArmSums, Observation
from conduit_learner.models.regression import BLOCK, AdditiveRegression, fold
from conduit_policy import SIGNALS

ONE = (1024).to_bytes(2, "little")
Arms = dict[str, dict[str, AdditiveRegression]]


def fresh(arms: int, dimension: int) -> Arms:
    return {
        f"arm{number}": {
            name: AdditiveRegression.of_dimension(dimension if signal.is_contextual else 1, fixed_point=True)
            for name, signal in SIGNALS.items()
        }
        for number in range(arms)
    }


def block(rng: random.Random, arms: list[str], dimension: int, count: int = BLOCK) -> list[Observation]:
    """Ratings, outcomes with and without a cost, and failures, some of them with unusable contexts."""
    ticks: list[Observation] = []
    for _ in range(count):
        context = ONE + rng.randbytes(2 * dimension - 2) if rng.random() < 0.9 else None
        quality, success, cost, latency, ttft = [math.nan] * len(SIGNALS)
        if rng.random() < 0.4:
            quality = rng.randrange(-65536, 65536) / 65536
        else:
            success = float(rng.random() < 0.9)
        if success == 1.0:
            latency = rng.randrange(-(2**20), 2**20) / 65536
            cost = math.nan if rng.random() < 0.2 else rng.randrange(-(2**20), 2**20) / 65536
            ttft = math.nan if rng.random() < 0.5 else rng.randrange(-(2**20), 2**20) / 65536
        ticks.append((rng.choice(arms), context, [quality, success, cost, latency, ttft]))
    return ticks


def teach(arms: Arms, ticks: list[Observation]) -> None:
    for name, context, values in ticks:
        for model, value in zip(arms[name].values(), values, strict=True):
            if not math.isnan(value) and (model.dimension == 1 or context is not None):
                model.learn_row(ONE if model.dimension == 1 or context is None else context, value)
    fold(model for models in arms.values() for model in models.values())


def state(arms: Arms) -> list[bytes]:
    return [model.to_array().tobytes() for models in arms.values() for model in models.values()]


@pytest.mark.parametrize("dimension", [1, 2, 64])
@pytest.mark.parametrize("occurring", [1, 3, 7])
def test_a_block_gives_the_bits_of_rows_taught_one_by_one(dimension: int, occurring: int) -> None:
    rng = random.Random(dimension + occurring)
    ours, theirs = fresh(7, dimension), fresh(7, dimension)
    arm_sums = ArmSums(ours)
    for _ in range(5):
        ticks = block(rng, rng.sample(sorted(ours), occurring), dimension)
        arm_sums.learn(ticks)
        teach(theirs, ticks)
        assert state(ours) == state(theirs)
        arm_sums.fade(0.97)
        for model in (model for models in theirs.values() for model in models.values()):
            model.fade(0.97)
    assert state(ours) == state(theirs)
    sums = [[model.sums for model in models.values()] for models in theirs.values()]
    assert arm_sums.sums.tolist() == np.array(sums).tolist()


def test_looking_ahead_leaves_no_trace() -> None:
    rng = random.Random(1)
    arms = fresh(3, 8)
    arm_sums = ArmSums(arms)
    arm_sums.learn(block(rng, sorted(arms), 8))
    arm_sums.fade(0.9)
    before, ticks = state(arms), block(rng, sorted(arms), 8, 20)
    with arm_sums.including(ticks):
        assert state(arms) != before
    assert state(arms) == before
    with arm_sums.including([]):
        assert state(arms) == before


def test_it_knows_its_own_models_only() -> None:
    arms = fresh(2, 4)
    arm_sums = ArmSums(arms)
    assert arm_sums.holds(arms)
    assert not arm_sums.holds({"arm0": arms["arm0"]})
    assert not arm_sums.holds({"arm1": arms["arm1"], "arm0": arms["arm0"]})
    assert not arm_sums.holds(fresh(2, 4))
    assert ArmSums({}).holds({})
    moved = ArmSums(arms)
    moved.learn(block(random.Random(2), sorted(arms), 4))
    assert arms["arm0"]["success"].sums[0] > 0.0
