from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality.baselines import AdaptiveRouterPolicy, CheapestPerTokenPolicy, best_fixed
from benchmarks.quality.dataset import Dataset, load
from benchmarks.quality.policies import CONDUIT, ONLINE, POLICIES, available, chosen_arms
from benchmarks.quality.stream import Delays, Stream
from conduit_schemas import ConfigurationError

ALIKE = {"random", "litellm_simple_shuffle", "conduit_uniform"}
SINGLE = {"cheapest", "most_expensive", "litellm_cost_based"}
# The benchmark leaves out packages that are not installed, and says so.
LEARNERS = [name for name in available([*CONDUIT, *ONLINE])[0] if name not in ALIKE | SINGLE]


@pytest.fixture(scope="module")
def data(easy: Path) -> Dataset:
    return load(easy)


@pytest.fixture(scope="module")
def stream(data: Dataset) -> Stream:
    return Stream(data, seed=0, tradeoff=0.05)


def earned(stream: Stream, arms: np.ndarray, part: slice) -> float:
    return float(stream.utility[np.arange(len(stream)), arms][part].mean())


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_learns(name: str, stream: Stream) -> None:
    arms = chosen_arms(name, stream)
    assert set(arms.tolist()) <= {0, 1, 2}
    assert earned(stream, arms, stream.last_third) > stream.utility[stream.last_third].mean() + 0.05


@pytest.mark.parametrize("name", [name for name in LEARNERS if name.startswith("conduit_") or name == "conduit"])
def test_conduit_uses_context_where_its_algorithm_has_any(name: str, stream: Stream) -> None:
    fixed = float(stream.utility[stream.last_third, best_fixed(stream)].mean())
    got = earned(stream, chosen_arms(name, stream), stream.last_third)
    if name in {"conduit_thompson", "conduit_ucb1"}:
        assert got < fixed + 0.1
    else:
        assert got > fixed + 0.2


@pytest.mark.parametrize("name", available(list(POLICIES))[0])
@pytest.mark.campaign
def test_a_seed_decides_everything(name: str, data: Dataset) -> None:
    def play(seed: int) -> list[int]:
        short = Stream(data, seed=seed, tradeoff=0.05, max_prompts=260)
        found: list[int] = chosen_arms(name, short).tolist()
        return found

    assert play(4) == play(4)
    if name in LEARNERS or name in ALIKE:
        assert play(4) != play(5)


def test_conduit_learns_quality_from_feedback_alone(data: Dataset) -> None:
    deaf = Stream(data, seed=0, tradeoff=0.2, delays=Delays(feedback_share=0.0))
    arms = chosen_arms("conduit", deaf)
    shares = np.bincount(arms[deaf.last_third], minlength=3) / 300
    # Without feedback, no policy can know that the third model is useless, and price alone must not decide.
    assert shares.min() > 0.15


def test_fixed_rules_pick_what_they_are_named_for(data: Dataset, stream: Stream) -> None:
    coder, poet, bungler = (data.outcomes.models.index(name) for name in ("coder", "poet", "bungler"))
    assert set(chosen_arms("cheapest", stream).tolist()) == {coder}
    assert set(chosen_arms("litellm_cost_based", stream).tolist()) == {coder}
    assert set(chosen_arms("most_expensive", stream).tolist()) == {bungler}
    assert set(chosen_arms("best_fixed", stream).tolist()) <= {coder, poet}
    assert (chosen_arms("oracle", stream) == stream.utility.argmax(axis=1)).all()
    shares = np.bincount(chosen_arms("random", stream), minlength=3) / len(stream)
    assert shares == pytest.approx([1 / 3] * 3, abs=0.06)


def test_cost_based_goes_by_the_price_per_token(tmp_path: Path, write: Any, tables: Any) -> None:
    prompts, outcomes = tables
    # The cheap model writes so much that a request costs more than with the dear one.
    outcomes["output_tokens"] = [number for row in range(60) for number in (9_000 + row, 30 + row % 7)]
    outcomes["input_tokens"] = [100 + number % 13 for number in range(120)]
    price = np.tile([1e-6, 1e-5], 60)
    bills = (np.array(outcomes["input_tokens"]) + np.array(outcomes["output_tokens"])) * price
    folder = write(tmp_path, prompts, {**outcomes, "cost_usd": bills.tolist()})
    requests = Stream(load(folder), seed=0, tradeoff=0.0).requests()
    assert requests.mean_cost[0] > requests.mean_cost[1]
    assert CheapestPerTokenPolicy(requests).choose(range(2)).tolist() == [0, 0]


@pytest.mark.campaign
def test_full_information_beats_every_fixed_arm_where_context_tells(stream: Stream) -> None:
    second_half = slice(len(stream) // 2, len(stream))
    fixed = float(stream.utility[second_half].mean(axis=0).max())
    for name in ("full_information", "full_information_words"):
        assert earned(stream, chosen_arms(name, stream), second_half) > fixed + 0.3


def test_adaptive_router_weighs_cost_by_the_tradeoff(data: Dataset) -> None:
    def dearest_share(tradeoff: float) -> float:
        requests = Stream(data, seed=0, tradeoff=tradeoff).requests()
        arms = AdaptiveRouterPolicy(requests, 1).choose(range(900))
        return float((arms == requests.models.index("bungler")).mean())

    assert dearest_share(0.0) == pytest.approx(1 / 3, abs=0.06)
    assert dearest_share(1.0) < 0.02


def test_an_unknown_policy_is_refused_and_a_missing_package_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="unknown policy 'best_ever'; known policies are conduit"):
        available(["best_ever"])
    monkeypatch.setattr("benchmarks.quality.policies.find_spec", lambda module: None)
    assert available(["random", "vw_bag", "paretobandit"]) == (
        ["random"],
        {"vw_bag": "vowpalwabbit", "paretobandit": "paretobandit"},
    )
