import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conduit_policy import (
    PRESETS,
    QUALITY_ONLY,
    ROWS,
    Beliefs,
    Objective,
    choose,
    draw,
    place,
    predictions,
    scale_of,
    utilities,
)
from conduit_schemas import (
    ArmSnapshot,
    ConfigurationError,
    ExplorationRule,
    LearningSettings,
    SignalPosterior,
    Snapshot,
    Weights,
)

DIMENSION = 4
ONE = 1024


def floats(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


def posterior(
    level: float, *, mean: tuple[float, ...] = (0.0,) * DIMENSION, precision: float = 100.0, sigma: float = 0.3,
    weight: float = 100.0,
) -> SignalPosterior:  # fmt: skip
    return SignalPosterior(
        mean=floats(*mean), precision=floats(*[precision] * DIMENSION), baseline=level, sigma=sigma, average=level,
        weight=weight,
    )  # fmt: skip


def snapshot(arms: dict[str, dict[str, SignalPosterior]], **rule: Any) -> Snapshot:
    return Snapshot(
        policy="default/chat",
        partition=0,
        offset=1,
        stream_time_ms=0,
        settings=LearningSettings(dimension=DIMENSION, lambda_reg=2.0),
        rule=ExplorationRule(**{"name": "greedy", **rule}),
        arms={name: ArmSnapshot(signals=signals) for name, signals in arms.items()},
    )


CONTEXT = np.array([ONE, ONE // 2, -ONE, 0], np.int16)


def test_utility_follows_its_definition() -> None:
    beliefs = Beliefs(
        snapshot(
            {
                "dear": {
                    "quality": posterior(0.9, mean=(0.02, 0.1, 0.03, 9.0), precision=50.0, sigma=0.4),
                    "success": posterior(0.8, precision=25.0, sigma=0.2),
                    "cost": posterior(math.log(0.02)),
                    "latency": posterior(math.log(8.0)),
                },
                "cheap": {
                    "quality": posterior(0.6),
                    "success": posterior(1.0),
                    "cost": posterior(math.log(0.0002), mean=(0.0, 1.0, 0.0, 0.0)),
                    "latency": posterior(math.log(0.5)),
                },
            }
        )
    )
    objective = Objective(quality=2.0, cost=0.1, latency=0.05)
    believed = utilities(beliefs, CONTEXT, ("dear", "cheap"), objective)
    predicted = predictions(beliefs, CONTEXT, ("dear", "cheap"))
    quality = 0.9 + 0.02 * 1 + 0.1 * 0.5 - 0.03
    np.testing.assert_allclose(predicted[ROWS["quality"]], [quality, 0.6], rtol=1e-6)
    np.testing.assert_allclose(predicted[ROWS["cost"], 1], math.log(0.0002) + 0.5, rtol=1e-6)
    cost_span = math.log(0.02) - math.log(0.0002)
    np.testing.assert_allclose(
        believed.mean,
        [2 * quality * 0.8 - 0.1 - 0.05, 2 * 0.6 - 0.1 * 0.5 / cost_span],
        rtol=1e-6,
    )
    squares = 1 + 0.25 + 1
    quality_variance, success_variance = 0.16 * squares / 50, 0.04 * squares / 25
    expected = 2 * math.sqrt(0.8**2 * quality_variance + quality**2 * success_variance)
    np.testing.assert_allclose(believed.deviation[0], expected, rtol=1e-6)


def test_a_small_difference_in_price_stays_small() -> None:
    level = {"quality": posterior(0.5), "success": posterior(1.0), "latency": posterior(0.0)}
    beliefs = Beliefs(
        snapshot({"a": {**level, "cost": posterior(0.0)}, "b": {**level, "cost": posterior(math.log(1.1))}})
    )
    believed = utilities(beliefs, CONTEXT, ("a", "b"), Objective(cost=1.0))
    np.testing.assert_allclose(believed.mean[0] - believed.mean[1], math.log(1.1) / math.log(4.0), rtol=1e-5)


def test_price_counts_only_as_far_as_quality_is_known() -> None:
    def gap(feedbacks: float) -> float:
        arms = {
            name: {"quality": posterior(0.5, weight=feedbacks), "cost": posterior(cost)}
            for name, cost in (("cheap", -9.0), ("dear", -3.0))
        }
        believed = utilities(Beliefs(snapshot(arms)), CONTEXT, ("cheap", "dear"), Objective(cost=0.4))
        return float(believed.mean[0] - believed.mean[1])

    assert gap(0.0) == 0.0
    np.testing.assert_allclose(gap(5.0), 0.2, rtol=1e-6)
    np.testing.assert_allclose(gap(10.0), 0.4, rtol=1e-6)
    np.testing.assert_allclose(gap(1e6), 0.4, rtol=1e-6)


def test_an_unknown_arm_is_believed_average_and_uncertain() -> None:
    signals = {"quality": posterior(0.8, weight=30.0, sigma=0.2), "success": posterior(1.0)}
    others = {"quality": posterior(0.4, weight=10.0, sigma=0.4), "success": posterior(0.5)}
    beliefs = Beliefs(snapshot({"a": signals, "b": others}))
    believed = utilities(beliefs, CONTEXT, ("new", "a"), Objective())
    predicted = predictions(beliefs, CONTEXT, ("new", "a"))
    np.testing.assert_allclose(predicted[0, 0], 0.7)  # (30 * 0.8 + 10 * 0.4) / 40
    np.testing.assert_allclose(predicted[1, 0], 0.75)
    sigma = (30 * 0.2 + 10 * 0.4) / 40
    context = (0.25 + 1.0) / 200.0  # lambda 2 for the intercept, 100 times as much for the context
    alike = 1.0 / (2.0 * 8.0) + context  # and 7 times as much more for the intercept of quality
    expected = math.sqrt(0.75**2 * sigma**2 * alike + 0.7**2 * 0.3**2 * (1.0 / 2.0 + context))
    np.testing.assert_allclose(believed.deviation[0], expected, rtol=1e-6)
    assert believed.outcomes.tolist() == [0.0, 100.0]


def test_with_nothing_known_every_arm_is_alike() -> None:
    choice = choose(Beliefs(snapshot({})), CONTEXT, ("a", "b", "c"), objective=Objective(), decision_id="x")
    np.testing.assert_allclose(choice.probabilities, 1 / 3)


def test_success_is_bounded_and_failing_arms_are_avoided() -> None:
    beliefs = Beliefs(
        snapshot(
            {
                "broken": {"quality": posterior(0.95), "success": posterior(-0.01)},
                "sound": {"quality": posterior(0.5), "success": posterior(1.02)},
            }
        )
    )
    believed = utilities(beliefs, CONTEXT, ("broken", "sound"), Objective())
    np.testing.assert_allclose(believed.mean, [0.0, 0.5])


def test_the_same_decision_is_drawn_the_same_way() -> None:
    vector = np.array([0.2, 0.3, 0.5])
    assert [draw(vector, f"d{i}") for i in range(50)] == [draw(vector, f"d{i}") for i in range(50)]
    assert draw(vector, "pinned") == 2  # the draw is part of what an audit recomputes: it must never change


def test_draws_follow_the_probabilities() -> None:
    vector = np.array([0.1, 0.0, 0.6, 0.3, 0.0])
    counts = np.bincount([draw(vector, f"decision-{i}") for i in range(20_000)], minlength=5)
    np.testing.assert_allclose(counts / 20_000, vector, atol=0.012)
    assert counts[1] == counts[4] == 0


def test_a_choice_is_the_draw_from_its_own_vector() -> None:
    beliefs = Beliefs(snapshot({"a": {"quality": posterior(0.5)}, "b": {"quality": posterior(0.6)}}, name="uniform"))
    for number in range(20):
        choice = choose(beliefs, CONTEXT, ("a", "b"), objective=Objective(), decision_id=str(number))
        assert choice.index == draw(choice.probabilities, str(number))


def test_what_was_folded_is_remembered_within_bounds_and_per_objective() -> None:
    beliefs = Beliefs(snapshot({}))
    assert beliefs.weighted(["a", "b"], Objective()) is beliefs.weighted(("a", "b"), Objective())
    assert beliefs.weighted(["a", "b"], Objective(cost=0.5)) is not beliefs.weighted(("a", "b"), Objective())
    for number in range(600):
        beliefs.weighted((str(number),), Objective())
    assert len(beliefs._weighed) <= 256
    assert len(beliefs._stacked) <= 256


@pytest.mark.parametrize("bad", [{"cost": -1.0}, {"latency": math.nan}, {"quality": 0.0, "cost": 0.0, "latency": 0.0}])
def test_senseless_objectives_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="weight"):
        Objective(**bad)


def test_presets_are_as_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", page, re.MULTILINE)
    assert {name: Objective(*map(float, weights)) for name, *weights in rows} == {
        name: Objective.preset(name) for name in PRESETS
    }
    assert Objective.preset("balanced") == Objective() == Objective.of_weights(Weights().model_dump())
    assert QUALITY_ONLY.weights() == {"quality": 1.0, "cost": 0.0, "latency": 0.0, "ttft": 0.0}
    with pytest.raises(ConfigurationError, match="balanced"):
        Objective.preset("best")


def test_the_scale_of_a_pool_spans_at_least_a_factor_of_four() -> None:
    wide, narrow = np.log([0.001, 0.1]), np.log([0.001, 0.002])
    assert place(wide, scale_of(wide)).tolist() == [0.0, 1.0]
    assert place(narrow, scale_of(narrow)) == pytest.approx([0.0, 0.5])
    assert place(1.0, scale_of(np.array([]))) == 0.0
