import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.dataset import load
from benchmarks.quality.metrics import Point, cost_for, frontier, frontier_area, interval, jackknife, score
from benchmarks.quality.stream import Stream

CHEAP, MIDDLE, DEAR, WASTE = Point(1.0, 0.5), Point(2.0, 0.8), Point(5.0, 0.9), Point(4.0, 0.7)


def test_hull_keeps_what_no_mix_beats() -> None:
    assert frontier([DEAR, WASTE, CHEAP, MIDDLE]) == [CHEAP, MIDDLE, DEAR]
    on_the_line = Point(3.5, 0.85)
    assert frontier([CHEAP, MIDDLE, on_the_line, DEAR]) == [CHEAP, MIDDLE, DEAR]
    assert frontier([CHEAP, Point(1.0, 0.4), Point(9.0, 0.5)]) == [CHEAP]


def test_cost_for_mixes_the_two_neighbours() -> None:
    points = [WASTE, DEAR, CHEAP, MIDDLE]
    assert cost_for(points, 0.85) == pytest.approx(3.5)
    assert cost_for(points, 0.65) == pytest.approx(1.5)
    assert cost_for(points, 0.9) == 5.0
    assert cost_for(points, 0.2) == 1.0
    assert cost_for(points, 0.91) is None


def test_area_of_a_single_model_is_its_quality_and_better_policies_have_more() -> None:
    flat = frontier_area([CHEAP], CHEAP, 5.0)
    assert flat == pytest.approx(0.5)
    mix = frontier_area([CHEAP, MIDDLE, DEAR], CHEAP, 5.0)
    # By hand: over ln cost, quality is 0.5 + 0.3 (c - 1) from 1 to 2 and 0.8 + (c - 2) / 30 from 2 to 5.
    exact = ((0.2 * math.log(2.0) + 0.3) + ((0.8 - 2.0 / 30.0) * math.log(2.5) + 0.1)) / math.log(5.0)
    assert mix == pytest.approx(exact, abs=1e-3)
    assert frontier_area([CHEAP, DEAR], CHEAP, 5.0) < mix < frontier_area([CHEAP, Point(1.5, 0.9)], CHEAP, 5.0)


def test_interval_is_students() -> None:
    mean, width = interval([0.1, 0.2, 0.4, 0.5, 0.3])
    assert mean == pytest.approx(0.3)
    assert width == pytest.approx(2.7764 * math.sqrt(0.025 / 5))
    assert interval([0.7]) == (0.7, None)
    _, wide = interval([float(number % 2) for number in range(31)])
    deviation = math.sqrt(31 * (15 / 31) * (16 / 31) / 30 / 31)
    assert wide == pytest.approx(2.0423 * deviation, rel=1e-4)


def test_jackknife_of_a_mean_is_its_interval() -> None:
    values = [0.1, 0.2, 0.4, 0.5, 0.3]
    mean, width = interval(values)
    found, spread = jackknife(lambda used: sum(values[seed] for seed in used) / len(used), 5)
    assert (found, spread) == (pytest.approx(mean), pytest.approx(width))
    assert jackknife(lambda used: None, 5) == (None, None)
    assert jackknife(lambda used: None if 0 not in used else 1.0, 5) == (1.0, None)
    assert jackknife(lambda used: 1.0, 1) == (1.0, None)


def test_score_is_what_a_plain_loop_finds(easy: Path) -> None:
    stream = Stream(load(easy), seed=2, tradeoff=0.2, max_prompts=300)
    arms = np.random.default_rng(0).integers(3, size=300)
    utility = [float(stream.utility[position, arm]) for position, arm in enumerate(arms)]
    best = max(range(3), key=lambda arm: float(stream.utility[:, arm].sum()))
    found = score(stream, arms)
    assert found.whole.utility == pytest.approx(sum(utility) / 300)
    assert found.last_third.utility == pytest.approx(sum(utility[200:]) / 100)
    regret = [float(stream.utility[position, best]) - got for position, got in enumerate(utility)]
    assert found.whole.regret == pytest.approx(sum(regret) / 300)
    assert found.curve == pytest.approx([sum(regret[start : start + 30]) / 30 for start in range(0, 300, 30)])
    oracle = sum(max(row) for row in stream.utility[200:].tolist()) / 100
    assert found.last_third.oracle_regret == pytest.approx(oracle - found.last_third.utility)
    chosen = [stream.outcomes.cost_usd[position, arm] for position, arm in enumerate(arms)]
    assert found.whole.cost_usd == pytest.approx(float(np.mean(chosen)))
    half = score(stream, arms, counted_from=150)
    assert half.whole.utility == pytest.approx(sum(utility[150:]) / 150)
    assert half.last_third == found.last_third
