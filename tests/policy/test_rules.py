import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit_policy import RULES, Utilities, probabilities
from conduit_schemas import ConfigurationError, ExplorationRule

WARM = 1e6


def arms(
    mean: list[float],
    deviation: list[float] | float = 0.1,
    outcomes: list[float] | float = WARM,
    ratings: list[float] | float | None = None,
    success: list[float] | float = 1.0,
) -> Utilities:
    count = len(mean)
    return Utilities(
        np.array(mean),
        np.broadcast_to(np.array(deviation, float), count).copy(),
        np.broadcast_to(np.array(outcomes, float), count).copy(),
        np.broadcast_to(np.array(WARM if ratings is None else ratings, float), count).copy(),
        np.broadcast_to(np.array(success, float), count).copy(),
    )


def rule(name: str, **params: float) -> ExplorationRule:
    return ExplorationRule(name=name, params={"floor": 0.0, **params})


@pytest.mark.parametrize("optimistic", [0.0, 1.0])
@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_thompson_gives_the_frequencies_of_sampling(optimistic: float, scale: float) -> None:
    utilities = arms([0.7, 0.72, 0.6, 0.5], [0.05, 0.01, 0.2, 0.4])
    random = np.random.default_rng(0)
    draws = utilities.mean + scale * utilities.deviation * random.standard_normal((400_000, 4))
    if optimistic:
        draws = np.maximum(draws, utilities.mean)
    frequencies = np.bincount(draws.argmax(axis=1), minlength=4) / len(draws)
    vector, _ = probabilities(rule("thompson", scale=scale, optimistic=optimistic), utilities)
    np.testing.assert_allclose(vector, frequencies, atol=0.01)


def test_thompson_doubts_few_ratings() -> None:
    """Twice the variance with 20 ratings, five times with 5, almost no effect with thousands, none without ratings."""
    doubting, plain = rule("thompson", scale=0.5, few_ratings=20.0, cold_ratings=0.0), rule("thompson")
    for ratings, widened in ((20.0, 2.0), (5.0, 5.0), (1.0, 21.0), (1e9, 1.0), (0.0, 1.0)):
        vector, _ = probabilities(doubting, arms([0.7, 0.6], 0.1, ratings=[1e9, ratings]))
        expected, _ = probabilities(plain, arms([0.7, 0.6], [0.05, 0.05 * math.sqrt(widened)]))
        np.testing.assert_allclose(vector, expected, atol=1e-6, err_msg=f"{ratings} ratings")


def test_thompson_shares_the_traffic_between_equal_arms() -> None:
    for optimistic in (0.0, 1.0):
        vector, _ = probabilities(rule("thompson", optimistic=optimistic), arms([0.5] * 5))
        np.testing.assert_allclose(vector, 0.2, atol=1e-12)


def test_ucb_takes_the_largest_bound() -> None:
    utilities = arms([0.5, 0.45], [0.01, 0.1])
    assert probabilities(rule("ucb", alpha=1.0), utilities)[0].tolist() == [0.0, 1.0]
    assert probabilities(rule("ucb", alpha=0.1), utilities)[0].tolist() == [1.0, 0.0]


def test_ucb1_index() -> None:
    # Bonus sqrt(2 ln 1001 / n): 0.372 for n=100 and 0.124 for n=900, so the gap decides at 0.248.
    for gap, best in ((0.24, 0), (0.26, 1)):
        vector, _ = probabilities(rule("ucb1"), arms([0.5, 0.5 + gap], 0.0, [100.0, 900.0]))
        assert vector[best] == 1.0
    vector, _ = probabilities(rule("ucb1"), arms([0.0, 1.0], 0.0, [0.0, 900.0]))
    assert vector.tolist() == [1.0, 0.0]


def test_epsilon_greedy_greedy_and_uniform() -> None:
    utilities = arms([0.1, 0.9, 0.9, 0.2])
    np.testing.assert_allclose(
        probabilities(rule("epsilon_greedy", epsilon=0.2), utilities)[0], [0.05, 0.45, 0.45, 0.05]
    )
    np.testing.assert_allclose(probabilities(rule("greedy"), utilities)[0], [0.0, 0.5, 0.5, 0.0])
    np.testing.assert_allclose(probabilities(rule("uniform"), utilities)[0], 0.25)


def test_inverse_gap_weighting() -> None:
    vector, _ = probabilities(rule("inverse_gap", gamma=2.0), arms([0.5, 0.3, 0.4], outcomes=[40.0, 30.0, 30.0]))
    # gamma = 2 * sqrt(100) = 20; 1 / (3 + 20 * gap)
    np.testing.assert_allclose(vector[1:], [1 / 7, 1 / 5])
    np.testing.assert_allclose(vector[0], 1 - 1 / 7 - 1 / 5)


def test_the_floor_is_spread_over_all_arms() -> None:
    vector, _ = probabilities(ExplorationRule(name="greedy", params={"floor": 0.04}), arms([1.0, 0.0]))
    np.testing.assert_allclose(vector, [0.98, 0.02])


def test_the_floor_is_small_unless_it_is_asked_for() -> None:
    vector, _ = probabilities(ExplorationRule(name="greedy"), arms([1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(vector, [0.9985, 0.0005, 0.0005, 0.0005])


def test_cold_arms_get_a_fixed_share_whatever_is_believed_of_them() -> None:
    for luck in (0.0, 1.0):
        utilities = arms([0.5, 0.4, luck], ratings=[100.0, 100.0, 3.0])
        vector, flags = probabilities(rule("greedy"), utilities)
        assert flags == ("cold_share",)
        np.testing.assert_allclose(vector, [0.9, 0.0, 0.1])


def test_many_cold_arms_share_a_total() -> None:
    vector, _ = probabilities(rule("greedy"), arms([0.5] + [0.9] * 6, ratings=[400.0] + [4.9] * 6))
    np.testing.assert_allclose(vector, [0.7] + [0.05] * 6)
    vector, _ = probabilities(
        rule("greedy", cold_ratings=5.0, cold_share=0.2, cold_total=0.5),
        arms([0.5, 0.9, 0.9], ratings=[50.0, 4.0, 0.0]),
    )
    np.testing.assert_allclose(vector, [0.6, 0.2, 0.2])


def test_cold_means_much_less_rated_than_the_best_known_arm() -> None:
    best, other = [0.5, 0.9], [0.0, 1.0]  # greedy chooses the second unless it is cold
    for known, few, expected in (
        (9.0, 0.0, other),  # no arm is known yet
        (10.0, 0.9, [0.9, 0.1]),
        (30.0, 2.9, [0.9, 0.1]),
        (30.0, 3.0, other),
        (1e5, 4.9, [0.9, 0.1]),
        (1e5, 5.0, other),
    ):
        vector, _ = probabilities(rule("greedy"), arms(best, ratings=[known, few]))
        np.testing.assert_allclose(vector, expected, err_msg=f"{few} ratings against {known}")


def test_an_arm_that_fails_is_never_cold() -> None:
    utilities = arms([0.5, 0.0, 0.9], ratings=[100.0, 0.0, 0.0], success=[1.0, 0.1, 0.9])
    np.testing.assert_allclose(probabilities(rule("greedy"), utilities)[0], [0.9, 0.0, 0.1])


def test_when_all_known_arms_fail_the_cold_ones_get_everything() -> None:
    utilities = arms([0.1, 0.0, 0.9, 0.8], ratings=[100.0, 0.0, 0.0, 1.0], success=[0.4, 0.1, 0.9, 0.5])
    vector, flags = probabilities(rule("greedy"), utilities)
    assert flags == ("cold_only",)
    np.testing.assert_allclose(vector, [0.0, 0.0, 0.5, 0.5])
    utilities = arms([0.1, 0.0, 0.9], ratings=[100.0, 0.0, 0.0], success=0.1)
    np.testing.assert_allclose(probabilities(rule("greedy"), utilities)[0], [0.0, 0.0, 1.0])


def test_without_any_feedback_the_rule_decides() -> None:
    vector, flags = probabilities(rule("greedy"), arms([0.5, 0.4, 0.9], ratings=0.0))
    assert flags == ()
    np.testing.assert_allclose(vector, [0.0, 0.0, 1.0])


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ConfigurationError, match="psychic"):
        probabilities(ExplorationRule(name="psychic"), arms([0.1, 0.2]))


def test_one_arm_is_certain() -> None:
    for name in RULES:
        assert probabilities(rule(name), arms([0.3]))[0].tolist() == [1.0]


numbers = st.floats(-2.0, 2.0)
counts = st.sampled_from([0.0, 1.0, 50.0]) | st.floats(0.0, 1e6)
arm = st.tuples(numbers, st.floats(0.0, 1.0), counts, counts, st.floats(0.0, 1.0))
populations = st.lists(arm, min_size=2, max_size=12)


@pytest.mark.parametrize("name", sorted(RULES))
@given(population=populations, optimistic=st.sampled_from([0.0, 1.0]))
def test_every_rule_gives_a_distribution_whatever_the_beliefs(
    name: str, population: list[tuple[float, ...]], optimistic: float
) -> None:
    utilities = Utilities(*(np.array(column) for column in zip(*population, strict=True)))
    given_rule = ExplorationRule(name=name, params={"optimistic": optimistic})
    vector, _ = probabilities(given_rule, utilities)
    assert np.isfinite(vector).all()
    assert (vector > 0.0).all()  # the floor applies to every arm
    assert math.isclose(vector.sum(), 1.0, abs_tol=1e-9)


@pytest.mark.parametrize("name", sorted(RULES))
@given(population=populations, seed=st.integers(0, 99))
def test_the_order_of_the_arms_does_not_matter(name: str, population: list[tuple[float, ...]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(population))
    utilities = Utilities(*(np.array(column) for column in zip(*population, strict=True)))
    straight, _ = probabilities(ExplorationRule(name=name), utilities)
    shuffled, _ = probabilities(ExplorationRule(name=name), Utilities(*(column[order] for column in utilities)))
    np.testing.assert_allclose(shuffled, straight[order], atol=1e-9)
