"""Scenarios affect the models they name, when they say, and all policies play them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.quality.baselines import CheapestPerTokenPolicy
from benchmarks.quality.conduit import ConduitPolicy
from benchmarks.quality.dataset import load
from benchmarks.quality.policies import available, chosen_arms
from benchmarks.quality.stream import Delays
from benchmarks.scenarios.__main__ import main
from benchmarks.scenarios.worlds import SCENARIOS, World


def world(folder: Path, name: str, decisions: int = 1800) -> World:
    made = World(load(folder), seed=1, tradeoff=SCENARIOS[name].tradeoff, decisions=decisions, delays=Delays())
    SCENARIOS[name].happen(made)
    return made


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_best_arm_changes_where_a_part_begins(easy: Path, name: str) -> None:
    made = world(easy, name)
    assert len(made) == 1800
    assert made.utility.shape == made.offered.shape == (1800, 3)
    best = [made.best(slice(a, b)) for a, b in zip(made.parts, (*made.parts[1:], 1800), strict=True)]
    if name in {"quality_drop", "quality_recovery", "outage", "price_rise", "removed_arm"}:
        assert best[0] != best[1]
    if name in {"quality_recovery", "outage"}:
        assert best[0] == best[2]


def test_a_failing_model_fails_and_costs_nothing(easy: Path) -> None:
    made = world(easy, "outage")
    failing = int(made.failed[900].argmax())
    seen = made.observe(np.array([100, 900, 1700]), np.full(3, failing))
    assert seen.failed is not None
    assert seen.failed.tolist() == [False, True, False]
    assert seen.cost_usd[1] == seen.quality[1] == 0.0 < seen.cost_usd[0]


def test_what_is_not_offered_does_not_serve(easy: Path) -> None:
    made = world(easy, "removed_arm")
    gone = int((~made.offered[-1]).argmax())
    served = made.served(range(890, 910), np.full(20, gone))
    assert (served[:10] == gone).all()
    assert (served[10:] != gone).all()


def test_a_new_price_is_believed_before_anybody_pays_it(easy: Path) -> None:
    made = world(easy, "price_cut")
    requests = made.requests()
    cheaper = int((made.price[-1] < 1.0).argmax())
    name = requests.models[cheaper]

    def costs(policy: ConduitPolicy) -> tuple[float, float]:
        """Choose up to the middle, look, choose once more with the new price, look again; nothing is learned."""
        policy.choose(range(900))
        policy.learn(*[made.observe(np.arange(800), np.arange(800) % 3)] * 2)
        before = policy.beliefs.snapshot.arms[name].signals["cost"].average
        nothing = made.observe(np.arange(0), np.arange(0))
        policy.choose(range(900, 950))
        policy.learn(nothing, nothing)
        return before, policy.beliefs.snapshot.arms[name].signals["cost"].average

    before, after = costs(ConduitPolicy(requests))
    assert after == pytest.approx(before - np.log(20.0))
    before, after = costs(ConduitPolicy(requests, prices=False))
    assert after == before


def test_who_reads_prices_reads_the_new_ones(easy: Path) -> None:
    listed = world(easy, "nothing").requests()
    cheapest = int(CheapestPerTokenPolicy(listed).choose(range(1))[0])
    charged = np.ones((1800, 3))
    charged[900:, cheapest] = 1000.0
    requests = replace(listed, charged=charged)
    before, after = CheapestPerTokenPolicy(requests).choose(range(899, 901)).tolist()
    assert before == cheapest != after
    for name in ("litellm_adaptive_router", "paretobandit"):
        if available([name])[0]:
            made = world(easy, "nothing")
            made.tradeoff, made.price = 2.0, charged
            made.bent()
            arms = chosen_arms(name, made)
            assert (arms[:900] == cheapest).mean() > 0.2
            assert (arms[1000:] == cheapest).mean() < 0.05


@pytest.mark.process
def test_the_command_tells_what_was_lost_and_when_it_was_over(easy: Path) -> None:
    arguments = ["--data", str(easy), "--seeds", "1", "--decisions", "1500", "--json", "--scenario", "outage"]
    arguments += ["--policy", "conduit", "--policy", "river_linucb", "--policy", "random"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(result.stdout.rstrip().rpartition("\n")[2])
    parts = report["datasets"]["easy"]["outage"]
    assert [part["from"] for part in parts["conduit"]] == [0, 500, 1000]
    assert parts["conduit"][1]["lost"] < parts["random"][1]["lost"]
    assert parts["conduit"][1]["adapted_after"] is not None
    assert "lost" in result.stdout
    for policy, entries in parts.items():
        # Of 1,500 decisions a third comes before the change.
        assert report["summary"]["outage"][policy] == pytest.approx(entries[1]["lost"] + entries[2]["lost"])
