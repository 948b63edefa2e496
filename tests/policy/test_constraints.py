"""Limits on a choice: what may be chosen, what it costs, and how to recompute it from the log."""

import math

import numpy as np
import pytest

from conduit_policy import (
    LIMITED,
    SIGNALS,
    UNCONSTRAINED,
    Beliefs,
    Constraints,
    Objective,
    Utilities,
    choose,
    merged,
    objective_of,
    pace,
)
from conduit_policy.constraints import Predictions, constrained
from conduit_schemas import (
    ArmSnapshot,
    Budget,
    ConfigurationError,
    ExplorationRule,
    Flag,
    LearningSettings,
    RoutingGoal,
    SignalPosterior,
    Snapshot,
    Spend,
    Weights,
)

GREEDY = ExplorationRule(name="greedy", params={"floor": 0.0})
FLOORED = ExplorationRule(name="greedy", params={"floor": 0.03})


def arms(
    quality: list[float],
    cost: list[float],
    *,
    latency: list[float] | None = None,
    success: list[float] | None = None,
    deviation: float = 0.001,
    ratings: list[float] | None = None,
    sigma: float = 0.0,
) -> tuple[Utilities, Predictions]:
    mean = np.array(quality)
    count = len(quality)
    known = np.full(count, 500.0)
    believed = Utilities(
        mean,
        np.full(count, deviation),
        known,
        known if ratings is None else np.array(ratings),
        np.ones(count) if success is None else np.array(success),
    )
    ln_cost = np.log(cost)
    predicted = Predictions(
        limited={
            "cost": ln_cost + SIGNALS["cost"].limit_deviations * sigma,
            "latency": np.log(latency or [1.0] * count),
        },
        cost=ln_cost,
        cost_place=(ln_cost - ln_cost.min()) / max(float(np.ptp(ln_cost)), 1e-9),
        quality=believed,
    )
    return believed, predicted


def test_the_cap_leaves_out_what_may_cost_more_with_a_probability_of_five_percent() -> None:
    # 0.004 with sigma 0.5 costs less than 0.004 * exp(1.645 * 0.5) = 0.0091 in 95 % of the cases.
    believed, predicted = arms([0.9, 0.8, 0.7], [0.02, 0.004, 0.001], sigma=0.5)
    vector, flags = constrained(GREEDY, believed, predicted, Constraints(max_cost_usd=0.0092))
    assert vector.tolist() == [0.0, 1.0, 0.0] and flags == ("cost_cap",)
    vector, _ = constrained(GREEDY, believed, predicted, Constraints(max_cost_usd=0.0090))
    assert vector.tolist() == [0.0, 0.0, 1.0]


def test_a_cap_that_changes_nothing_is_not_flagged_and_one_nobody_meets_takes_the_cheapest() -> None:
    believed, predicted = arms([0.9, 0.8], [0.02, 0.004])
    assert constrained(GREEDY, believed, predicted, Constraints(max_cost_usd=1.0))[1] == ()
    vector, flags = constrained(GREEDY, believed, predicted, Constraints(max_cost_usd=1e-6))
    assert vector.tolist() == [0.0, 1.0] and flags == ("cost_cap_unmet",)


def test_limits_stand_above_exploration() -> None:
    believed, predicted = arms([0.9, 0.8, 0.7], [0.02, 0.004, 0.001])
    vector, _ = constrained(FLOORED, believed, predicted, Constraints(max_cost_usd=0.01, min_exploration=0.5))
    assert vector.tolist() == pytest.approx([0.0, 0.75, 0.25])


def test_min_exploration_is_the_share_spread_evenly_and_the_rules_own_counts_towards_it() -> None:
    believed, predicted = arms([0.9, 0.8], [0.02, 0.004])
    vector, flags = constrained(FLOORED, believed, predicted, Constraints(min_exploration=0.2))
    assert vector.tolist() == pytest.approx([0.9, 0.1]) and flags == ("min_exploration",)
    vector, flags = constrained(FLOORED, believed, predicted, Constraints(min_exploration=0.02))
    assert vector.tolist() == pytest.approx([0.985, 0.015]) and flags == ()
    usual = ExplorationRule(name="greedy")  # which has no exploration floor
    vector, _ = constrained(usual, believed, predicted, Constraints(min_exploration=0.2))
    assert vector.tolist() == pytest.approx([0.9, 0.1])


def test_the_latency_target_leaves_out_slow_arms_within_the_cap() -> None:
    believed, predicted = arms([0.9, 0.8, 0.7], [0.02, 0.004, 0.001], latency=[1.0, 9.0, 4.0])
    limits = Constraints(max_cost_usd=0.01, max_latency_s=5.0)
    vector, flags = constrained(GREEDY, believed, predicted, limits)
    assert vector.tolist() == [0.0, 0.0, 1.0] and flags == ("cost_cap", "latency_target")
    vector, flags = constrained(GREEDY, believed, predicted, Constraints(max_cost_usd=0.01, max_latency_s=2.0))
    assert vector.tolist() == [0.0, 0.0, 1.0] and flags == ("cost_cap", "latency_target_unmet")


def test_the_price_of_money_tips_the_scale_at_the_difference_in_quality() -> None:
    believed, predicted = arms([0.9, 0.7], [0.02, 0.001])
    assert constrained(GREEDY, believed, predicted, Constraints(budget_price=0.19))[0].tolist() == [1.0, 0.0]
    vector, flags = constrained(GREEDY, believed, predicted, Constraints(budget_price=0.21))
    assert vector.tolist() == [0.0, 1.0] and flags == ("budget",)


def test_a_spent_budget_leaves_the_cheapest_arm_that_works() -> None:
    spent = Constraints(budget_spent=1.0)
    believed, predicted = arms([0.9, 0.7, 0.1], [0.02, 0.004, 0.001], success=[1.0, 1.0, 0.2])
    vector, flags = constrained(FLOORED, believed, predicted, spent)
    assert vector.tolist() == [0.0, 1.0, 0.0] and flags == ("budget_spent",)
    believed, predicted = arms([0.1, 0.1], [0.02, 0.001], success=[0.1, 0.1])
    assert constrained(GREEDY, believed, predicted, spent)[0].tolist() == [0.0, 1.0]


def test_the_floor_takes_the_cheapest_arm_it_is_sure_of() -> None:
    # 0.95 * 0.9 = 0.855: the second arm reaches it, the third does not.
    believed, predicted = arms([0.9, 0.87, 0.8], [0.02, 0.004, 0.001])
    floor = Constraints(floor_relative=0.95)
    vector, flags = constrained(GREEDY, believed, predicted, floor)
    assert vector.tolist() == [0.0, 1.0, 0.0] and flags == ("quality_floor",)
    assert constrained(GREEDY, believed, predicted, Constraints(floor_relative=0.85))[0].tolist() == [0.0, 0.0, 1.0]


def test_the_floor_is_sure_at_its_confidence_and_not_below() -> None:
    # The difference has mean -0.02 and standard deviation hypot(s, s): surely below while that is under 0.02 / 1.645.
    largest = 0.02 / 1.6448536269514722 / math.sqrt(2.0)
    floor = Constraints(floor_relative=1.0, floor_confidence=0.95)
    for deviation, vector in ((largest * 0.999, [0.0, 1.0]), (largest * 1.001, [0.1, 0.9])):
        believed, predicted = arms([0.88, 0.9], [0.001, 0.02], deviation=deviation)
        assert constrained(GREEDY, believed, predicted, floor)[0].tolist() == pytest.approx(vector)
    relaxed = Constraints(floor_relative=0.88 / 0.9 - 0.02 / 0.9, floor_confidence=0.95)
    spread = 0.02 / 1.6448536269514722 / math.hypot(1.0, 0.86 / 0.9)
    for deviation, share in ((spread * 0.999, 1.0), (spread * 1.001, 0.1)):
        believed, predicted = arms([0.88, 0.9], [0.001, 0.02], deviation=deviation)
        assert constrained(GREEDY, believed, predicted, relaxed)[0][0] == pytest.approx(share)


def test_the_floor_explores_only_what_is_open_and_would_be_cheaper() -> None:
    believed, predicted = arms([0.9, 0.5, 0.5], [0.004, 0.001, 0.02])
    open_ = believed._replace(deviation=np.array([0.001, 0.5, 0.5]))
    vector, _ = constrained(GREEDY, open_, predicted._replace(quality=open_), Constraints(floor_relative=0.95))
    assert vector.tolist() == pytest.approx([0.9, 0.1, 0.0])


def test_without_ratings_a_floor_cannot_be_judged_and_the_objective_decides() -> None:
    believed, predicted = arms([0.9, 0.8], [0.02, 0.001], ratings=[9.0, 0.0])
    vector, flags = constrained(GREEDY, believed, predicted, Constraints(floor_relative=0.5))
    assert vector[1] < 1.0 and "quality_floor_unknown" in flags


def test_a_broken_arm_is_no_measure_of_quality() -> None:
    believed, predicted = arms([0.9, 0.3], [0.02, 0.001], success=[0.3, 1.0])
    assert constrained(GREEDY, believed, predicted, Constraints(floor_relative=0.95))[0].tolist() == [0.0, 1.0]


def test_staying_is_worth_its_price_and_no_more() -> None:
    believed, predicted = arms([0.9, 0.85], [0.01, 0.01])
    for cost, chosen in ((0.04, 0), (0.06, 1)):
        vector, flags = constrained(GREEDY, believed, predicted, Constraints(switching_cost=cost, previous=1))
        assert int(vector.argmax()) == chosen and flags == ("switching_cost",)
    assert constrained(GREEDY, believed, predicted, Constraints(switching_cost=0.5))[1] == ()
    assert believed.mean.tolist() == [0.9, 0.85]  # beliefs are shared, so nothing may change them


def test_a_session_sticks_to_its_arm_while_that_may_be_chosen_and_works() -> None:
    stay = Constraints(stickiness=1.0, previous=1)
    believed, predicted = arms([0.9, 0.5], [0.001, 0.02])
    vector, flags = constrained(FLOORED, believed, predicted, stay)
    assert vector.tolist() == [0.0, 1.0] and flags == ("session_sticky",)
    capped = Constraints(stickiness=1.0, previous=1, max_cost_usd=0.01)
    assert constrained(FLOORED, believed, predicted, capped)[0].tolist() == [1.0, 0.0]
    broken, predicted = arms([0.9, 0.5], [0.001, 0.02], success=[1.0, 0.2])
    assert constrained(GREEDY, broken, predicted, stay)[0].tolist() == [1.0, 0.0]


def test_every_change_has_a_flag_and_every_flag_is_known() -> None:
    """Many limits on many pools: their effects are reported by members of Flag, and each member occurs."""
    random, seen = np.random.default_rng(7), set[Flag]()
    for _ in range(2_000):
        believed, predicted = arms(
            list(random.uniform(0.2, 1.0, 3)),
            list(10.0 ** random.uniform(-4.0, -1.0, 3)),
            success=list(random.choice([0.1, 1.0], 3)),
            ratings=list(random.choice([0.0, 500.0], 3)),
        )
        predicted = predicted._replace(limited={signal.name: random.normal(size=3) for signal in LIMITED})
        limits = Constraints(
            **{signal.limit: math.exp(random.normal()) for signal in LIMITED},
            floor_relative=random.choice([None, 0.9]),
            budget_price=random.choice([0.0, 0.5]),
            budget_spent=random.choice([0.0, 1.0]),
            min_exploration=random.choice([0.0, 0.3]),
            switching_cost=random.choice([0.0, 0.1]),
            stickiness=random.choice([0.0, 1.0]),
            previous=random.choice([None, 0, 1, 2]),
        )
        _, flags = constrained(FLOORED, believed, predicted, limits)
        assert all(isinstance(flag, Flag) for flag in flags) and len(set(flags)) == len(flags)
        seen.update(flags)
    assert seen == set(Flag) - {Flag.WARM_START}


@pytest.mark.parametrize(
    "limits",
    [
        UNCONSTRAINED,
        Constraints(0.01, 2.0, 0.95, 0.99, 0.25, 1.0, 0.05, 0.02, 1.0, 3),
        Constraints(previous=0, switching_cost=0.1),
        Constraints(floor_relative=0.9),
    ],
)
def test_the_log_carries_all_of_it(limits: Constraints) -> None:
    logged = limits.logged()
    assert Constraints.of_log({**logged, "of_a_later_version": 1.0}) == limits
    assert len(logged) <= 32


def test_unconstrained_is_logged_as_nothing() -> None:
    assert UNCONSTRAINED.logged() == {}


def _snapshot(rated: bool) -> Snapshot:
    nothing = np.zeros(64, "<f4").tobytes()
    precise = np.full(64, 1e6, "<f4").tobytes()

    def known(value: float, weight: float, sigma: float = 0.1) -> SignalPosterior:
        return SignalPosterior(
            mean=nothing, precision=precise, baseline=value, sigma=sigma, average=value, weight=weight
        )

    def arm(quality: float, cost: float) -> ArmSnapshot:
        return ArmSnapshot(
            signals={
                "quality": known(quality if rated else 0.5, 300.0 if rated else 0.0),
                "success": known(1.0, 500.0),
                "cost": known(math.log(cost), 500.0, 0.3),
                "latency": known(0.0, 500.0),
            }
        )

    return Snapshot(
        policy="p",
        partition=0,
        offset=1,
        stream_time_ms=0,
        settings=LearningSettings(),
        rule=ExplorationRule(name="thompson", params={"floor": 0.01}),
        arms={"dear": arm(0.9, 0.02), "cheap": arm(0.89, 0.001), "poor": arm(0.3, 0.0005)},
    )


@pytest.mark.parametrize("limits", [Constraints(floor_relative=0.95), Constraints(max_cost_usd=0.005)])
def test_choices_are_drawn_from_the_constrained_vector(limits: Constraints) -> None:
    beliefs, context = Beliefs(_snapshot(rated=True)), np.zeros(64, np.int16)
    names = ("dear", "cheap", "poor")
    counts = np.zeros(3)
    for number in range(2000):
        choice = choose(beliefs, context, names, objective=Objective(), decision_id=f"d{number}", constraints=limits)
        counts[choice.index] += 1
    assert counts / 2000 == pytest.approx(choice.probabilities, abs=0.02)
    assert (
        choice.index
        == choose(beliefs, context, names, objective=Objective(), decision_id="d1999", constraints=limits).index
    )
    assert choice.probabilities[1] > 0.9


def test_without_ratings_neither_an_objective_nor_a_floor_goes_for_the_cheapest() -> None:
    beliefs, context = Beliefs(_snapshot(rated=False)), np.zeros(64, np.int16)
    for limits in (UNCONSTRAINED, Constraints(floor_relative=0.95)):
        choice = choose(
            beliefs,
            context,
            ("dear", "cheap", "poor"),
            objective=Objective.preset("cost"),
            decision_id="d",
            constraints=limits,
        )
        assert choice.probabilities == pytest.approx(np.full(3, 1 / 3), abs=1e-6)


DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("spent", "hour", "price", "is_spent"),
    [
        (0.0, 0, 0.0, False),
        (5.0, 0, 0.5, False),
        (45.0, 12, 0.0, False),
        (50.0, 12, 0.5, False),
        (55.0, 12, 1.0, True),
        (89.0, 24 - 1e-9, 0.0, False),
        (100.0, 24 - 1e-9, 1.0, True),
    ],
)
def test_a_days_budget_is_paced_by_the_clock(spent: float, hour: float, price: float, is_spent: bool) -> None:
    now = 3 * DAY_MS + int(hour * 3_600_000)
    found = pace(Budget(usd=100.0), Spend(day_start_ms=3 * DAY_MS, day_usd=spent), now)
    assert found.price == pytest.approx(price, abs=1e-6) and found.is_spent is is_spent


def test_yesterdays_money_is_forgotten() -> None:
    assert pace(Budget(usd=1.0), Spend(day_start_ms=3 * DAY_MS, day_usd=9.0), 4 * DAY_MS).price == 0.0


def test_a_thousand_requests_have_their_budget_whatever_the_clock_says() -> None:
    budget = Budget(usd=10.0, per="1000_requests")
    assert pace(budget, Spend(thousand_requests=500, thousand_usd=4.5), 0).price == 0.0
    assert pace(budget, Spend(thousand_requests=500, thousand_usd=5.0), 0).price == pytest.approx(0.5)
    assert pace(budget, Spend(thousand_requests=1000, thousand_usd=50.0), 0).price == 0.0


@pytest.mark.parametrize("per", ["day", "1000_requests"])
def test_paced_spending_stays_within_the_budget_and_uses_most_of_it(per: str) -> None:
    """Two arms, the dear one better by 0.2. It is chosen as often as the budget allows, throughout the window."""
    budget = Budget(usd=3.0, per=per)
    believed, predicted = arms([0.9, 0.7], [0.01, 0.001])
    spend, spent, halves = Spend(), 0.0, [0.0, 0.0]
    for number in range(1000):
        now = int(DAY_MS * number / 1000)
        found = pace(budget, spend, now)
        limits = Constraints(budget_price=found.price, budget_spent=float(found.is_spent))
        vector, _ = constrained(GREEDY, believed, predicted, limits)
        cost = (0.01, 0.001)[int(vector.argmax())]
        spent += cost
        halves[number >= 500] += cost
        spend = Spend(day_usd=spent, thousand_requests=number + 1, thousand_usd=spent)
    assert 0.85 * budget.usd < spent <= budget.usd
    assert halves[0] == pytest.approx(halves[1], rel=0.1)


def test_goals_are_merged_from_the_general_to_the_particular() -> None:
    policy = RoutingGoal(objective="cost", max_cost_usd=0.1, budget=Budget(usd=5.0))
    team = RoutingGoal(objective=Weights(quality=1.0, cost=0.5, latency=0.0))
    goal = merged([policy, team, RoutingGoal(max_cost_usd=0.2)])
    assert (goal.max_cost_usd, goal.budget) == (0.2, policy.budget)
    assert objective_of(goal, Objective()) == Objective(1.0, 0.5, 0.0)
    assert objective_of(merged([]), Objective.preset("speed")) == Objective.preset("speed")
    with pytest.raises(ConfigurationError, match="best"):
        objective_of(RoutingGoal(objective="best"), Objective())
