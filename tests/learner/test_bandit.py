"""Every algorithm through river's bandit interface, on a problem whose best arm depends on the context."""

import random

import pytest
from river import bandit

from conduit_learner.bandit import SnapshotBandit
from conduit_policy.algorithms import ALGORITHMS
from conduit_schemas import ConfigurationError

ARMS: list[int | str] = ["left", "right", 3]
CHANCE = 0.55


def average_reward(policy: bandit.base.ContextualPolicy, pulls: int = 3_000, seed: int = 5) -> float:
    """Mean reward of the second half, 0.2 to 0.9. The sign of one feature tells which arm is best."""
    rng = random.Random(seed)
    earned = []
    for number in range(pulls):
        context = {"x": rng.uniform(-1.0, 1.0), "noise": rng.uniform(-1.0, 1.0)}
        arm = policy.pull(ARMS, context)
        mean = {"left": CHANCE - 0.35 * context["x"], "right": CHANCE + 0.35 * context["x"], 3: CHANCE - 0.1}[arm]
        policy.update(arm, context, mean + rng.gauss(0.0, 0.05))
        if number >= pulls // 2:
            earned.append(mean)
    return sum(earned) / len(earned)


@pytest.mark.parametrize("name", sorted(name for name, known in ALGORITHMS.items() if known.contextual))
def test_contextual_algorithms_find_the_arm_of_each_context(name: str) -> None:
    reward = average_reward(SnapshotBandit(name, seed=1))
    if name == "uniform":
        assert reward == pytest.approx(CHANCE - 0.1 / 3, abs=0.02)
    else:
        assert reward > 0.69  # the best possible is 0.725


@pytest.mark.parametrize("name", ["thompson", "ucb1"])
def test_algorithms_without_context_find_the_best_arm_on_average(name: str) -> None:
    assert CHANCE - 0.04 < average_reward(SnapshotBandit(name, seed=1)) < CHANCE + 0.02


def share_after_bad_luck(seed: int) -> float:
    """Return the best arm's final share of the traffic, after 3 of its first 5 ratings were bad."""
    rng = random.Random(seed)
    truth = {"best": 0.85, "good": 0.75, "fair": 0.65, "poor": 0.5}
    policy = SnapshotBandit(snapshot_every=25, seed=seed)

    def rate(arm: bandit.base.ArmID, good: bool) -> None:
        policy.update(arm, {"x": rng.uniform(-1.0, 1.0)}, float(good))

    for arm in ("good", "fair", "poor"):
        for _ in range(40):
            rate(arm, rng.random() < truth[arm])
    for good in (True, True, False, False, False):
        rate("best", good)
    pulled = []
    for _ in range(900):
        arm = policy.pull(list(truth), {"x": rng.uniform(-1.0, 1.0)})
        rate(arm, rng.random() < truth[str(arm)])
        pulled.append(arm)
    return pulled[-300:].count("best") / 300


@pytest.mark.campaign
def test_the_best_arm_regains_the_traffic_that_bad_luck_has_cost_it() -> None:
    shares = [share_after_bad_luck(seed) for seed in range(12)]
    assert sum(share > 0.5 for share in shares) >= 9, shares
    assert sum(shares) / len(shares) > 0.7, shares


def test_the_same_seed_makes_the_same_pulls() -> None:
    assert average_reward(SnapshotBandit(seed=3), 200) == average_reward(SnapshotBandit(seed=3), 200)
    assert average_reward(SnapshotBandit(seed=3), 200) != average_reward(SnapshotBandit(seed=4), 200)


def test_without_a_context_only_the_intercept_is_used() -> None:
    policy = SnapshotBandit("epsilon_greedy", params={"epsilon": 0.0, "floor": 0.0, "cold_ratings": 0.0}, seed=1)
    for _ in range(20):
        policy.update("left", None, 0.9)
        policy.update("right", None, 0.1)
    assert policy.pull(["right", "left"], None) == "left"


def test_clones_start_afresh_and_burn_in_is_rivers() -> None:
    policy = SnapshotBandit("linucb", params={"alpha": 0.5}, burn_in=2, seed=1)
    pulled = []
    for _ in range(6):
        arm = policy.pull(ARMS, {"x": 1.0})
        pulled.append(arm)
        policy.update(arm, {"x": 1.0}, 0.5)
    assert pulled == ["left", "left", "right", "right", 3, 3]
    again = policy.clone()
    assert again.params == {"alpha": 0.5}
    assert again.pull(ARMS, {"x": 1.0}) == "left"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="magic"):
        SnapshotBandit("magic").pull(ARMS, {"x": 1.0})
