"""Arms come and go, are renamed, have priors and new prices, without any effect on the other arms."""

import math
import random

import numpy as np
import pytest
from learner_traffic import (
    POLICY,
    checkpoint_of,
    context,
    feedback,
    learned,
    outcome,
    resumed,
    selection,
    stored,
    traffic,
)
from pydantic import ValidationError

from conduit_learner.core.checkpoint import dump, restorations
from conduit_policy import Beliefs, Constraints, Objective, choose
from conduit_schemas import ArmPrice, ArmSnapshot, Event, LearningChange, LearningSettings, Snapshot

PRICES = {"large": 8.0, "small": 0.5, "new": 64.0}


def change(**fields: object) -> LearningChange:
    return LearningChange(policy=POLICY, time=0.0, settings=LearningSettings.model_validate(fields))


def result(events: list[Event]) -> Snapshot:
    return learned(stored(events)).snapshot(POLICY)


def weights(arm: ArmSnapshot) -> dict[str, float]:
    return {signal: belief.weight for signal, belief in arm.signals.items()}


def test_a_renamed_arm_keeps_what_was_learned() -> None:
    events = traffic(150)
    before = result(events).arms
    after = result([*events, change(renamed={"large": "larger"})]).arms
    assert set(after) == {"larger", "medium", "small"}
    assert after["larger"] == before["large"]
    assert after["medium"] == before["medium"]


def test_what_comes_late_and_under_the_old_name_counts_for_the_new_one() -> None:
    events: list[Event] = [selection("d1", chosen=0), change(renamed={"large": "larger"}), outcome("d1")]
    events += [selection("d2", chosen=0), outcome("d2"), feedback("d2", 1.0)]
    arms = result(events).arms
    assert set(arms) == {"larger", "medium", "small"}
    assert (arms["larger"].selections, arms["larger"].outcomes, arms["larger"].feedbacks) == (2, 2, 1)


def test_an_arm_may_be_renamed_to_one_that_is_there() -> None:
    events = [*traffic(150)]
    before = result(events).arms
    both = result([*events, change(renamed={"large": "small"})]).arms["small"]
    for signal, weight in weights(both).items():
        assert weight == pytest.approx(weights(before["large"])[signal] + weights(before["small"])[signal])
    assert both.outcomes == before["large"].outcomes + before["small"].outcomes


def test_names_that_lead_nowhere_are_refused() -> None:
    with pytest.raises(ValidationError, match="itself renamed"):
        LearningSettings(renamed={"a": "b", "b": "c"})


def test_a_prior_is_believed_until_observations_outweigh_it_and_never_fades() -> None:
    known = change(priors={"new": {"quality": 0.9, "cost_usd": 0.02, "latency_s": 2.0, "observations": 40.0}})
    arm = result([known]).arms["new"]
    averages = {signal: belief.average for signal, belief in arm.signals.items()}
    assert averages["quality"] == pytest.approx(0.9)
    assert averages["cost"] == pytest.approx(math.log(0.02))
    assert averages["latency"] == pytest.approx(math.log(2.0))
    assert weights(arm) == {"quality": 40.0, "success": 0.0, "cost": 40.0, "latency": 40.0}
    later = result([known, *traffic(300)]).arms
    assert weights(later["new"]) == weights(arm)
    assert later["large"].signals["quality"].weight > 0.0
    own = [*traffic(3), change(priors={"large": {"quality": 1.0, "observations": 40.0}})]
    own += [event for n in range(40) for event in (selection(f"x{n}", chosen=0), feedback(f"x{n}", 0.0))]
    assert result(own).arms["large"].signals["quality"].average == pytest.approx(0.5, abs=0.05)


def test_a_removed_arm_takes_nothing_along() -> None:
    events = traffic(150)
    without: list[Event] = [
        selection("z", arms=("medium", "small"), models=(), chosen=0),
        outcome("z"),
    ]
    before, after = result(events).arms, result([*events, *without]).arms
    assert weights(after["small"]) == weights(before["small"])
    assert weights(after["large"]) == weights(before["large"])


class TestPrices:
    BEFORE = change(prices={"large": {"input": 10.0, "output": 30.0}, "small": {"input": 1.0, "output": 3.0}})
    AFTER = change(prices={"large": {"input": 1.0, "output": 3.0}, "small": {"input": 1.0, "output": 3.0}})

    def test_the_cost_believed_changes_with_the_price_without_an_observation(self) -> None:
        events = traffic(150)
        before, after = result([self.BEFORE, *events]).arms, result([self.BEFORE, *events, self.AFTER]).arms
        old, new = before["large"].signals["cost"], after["large"].signals["cost"]
        assert new.average == pytest.approx(old.average - math.log(10.0))
        assert new.weight == old.weight
        assert new.sigma == pytest.approx(old.sigma, rel=0.2)
        assert after["small"].signals["cost"].average == before["small"].signals["cost"].average
        assert after["large"].signals["quality"] == before["large"].signals["quality"]

    def test_what_context_explains_of_the_cost_stays(self) -> None:
        events = traffic(200)
        before, after = (result([self.BEFORE, *events, *more]).arms["large"] for more in ([], [self.AFTER]))
        slopes = [np.frombuffer(arm.signals["cost"].mean, "<f4")[1:] for arm in (before, after)]
        np.testing.assert_allclose(slopes[0], slopes[1], atol=0.02)

    def test_a_new_arm_is_expected_to_cost_what_its_price_says(self) -> None:
        rng = random.Random(3)
        prices = {name: {"input": price, "output": 3 * price} for name, price in PRICES.items()}
        events: list[Event] = [change(prices=prices)]
        for number in range(200):
            name = ("large", "small")[number % 2]
            at = selection(f"d{number}", arms=("large", "small"), models=(), chosen=number % 2)
            events += [at, outcome(f"d{number}", cost_usd=PRICES[name] * rng.lognormvariate(-6.0, 0.2))]
        first = selection("new", arms=(*PRICES, "unpriced"), models=(), chosen=0)
        costs = {name: arm.signals["cost"] for name, arm in result([*events, first]).arms.items()}
        assert costs["new"].weight == costs["unpriced"].weight == 0.0
        assert costs["new"].baseline == pytest.approx(math.log(PRICES["new"]) - 6.0, abs=0.05)
        pool = (math.log(PRICES["large"]) + math.log(PRICES["small"])) / 2 - 6.0
        assert costs["unpriced"].baseline == pytest.approx(pool, abs=0.05)
        rated = [first] + [
            event
            for number in range(30)
            for event in (
                selection(f"n{number}", arms=tuple(PRICES), models=(), chosen=2),
                outcome(f"n{number}", cost_usd=0.25),
            )
        ]
        seen = result([*events, *rated]).arms["new"].signals["cost"]
        assert seen.average == pytest.approx(math.log(0.25), abs=1e-4)
        assert seen.baseline == pytest.approx(math.log(0.25), abs=0.5)

    def test_a_cap_keeps_a_new_arm_out_whose_price_is_above_it(self) -> None:
        events: list[Event] = [
            change(prices={name: {"input": price, "output": price} for name, price in PRICES.items()})
        ]
        for number in range(60):
            name = ("large", "small")[number % 2]
            at = selection(f"d{number}", arms=("large", "small"), models=(), chosen=number % 2)
            events += [at, outcome(f"d{number}", cost_usd=PRICES[name] / 1e3), feedback(f"d{number}", 0.8)]
        events.append(selection("new", arms=tuple(PRICES), models=(), chosen=0))

        def share(events: list[Event]) -> float:
            chosen = choose(
                Beliefs(result(events)),
                np.frombuffer(context(random.Random(1)), "<i2"),
                tuple(PRICES),
                objective=Objective(),
                decision_id="d",
                constraints=Constraints(max_cost_usd=PRICES["large"] / 1e3 * 2.0),
            )
            return float(chosen.probabilities[2])

        assert share(events[1:]) > 0.05  # the best guess is the pool's cost
        assert share(events) == 0.0

    def test_an_unknown_or_free_price_tells_nothing(self) -> None:
        events = traffic(100)
        for first in (change(), change(prices={"large": {"input": 0.0, "output": 0.0}})):
            belief = result([first, *events, self.AFTER]).arms["large"].signals["cost"]
            assert belief.average == result([first, *events]).arms["large"].signals["cost"].average
        assert ArmPrice(input=0.0, output=0.0).input == 0.0


def test_all_of_it_resumes_exactly() -> None:
    priors = {"new": {"quality": 0.9}}
    events = [
        TestPrices.BEFORE,
        *traffic(150),
        change(renamed={"large": "larger"}, priors=priors),
        *traffic(60, first=500),
    ]
    log = stored(events)
    stop = len(log) - 40
    learner = learned(log[:stop])
    [restoration] = restorations(0, "conduit.events", checkpoint_of(learner))
    again = resumed(restoration, log)
    for message in log[stop:]:
        again.apply(message)
    assert dump(again) == dump(learned(log))


def test_a_process_that_knows_no_prices_takes_none_away() -> None:
    events = [TestPrices.BEFORE, *traffic(100)]
    cheaper = change(prices={"large": {"input": 1.0, "output": 3.0}})
    straight = result([*events, cheaper]).arms["large"].signals["cost"]
    around = result([*events, change(), cheaper]).arms["large"].signals["cost"]
    assert straight == around
