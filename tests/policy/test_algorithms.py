import numpy as np
import pytest

from conduit_policy import RULES, Utilities, probabilities
from conduit_policy.algorithms import ALGORITHMS, algorithm, exploration_rule
from conduit_schemas import ConfigurationError, LearningSettings


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_has_a_rule_that_runs_on_its_defaults(name: str) -> None:
    rule = exploration_rule(LearningSettings(algorithm=name))
    assert rule.name in RULES
    vector, _ = probabilities(
        rule, Utilities(np.array([0.2, 0.8]), np.array([0.1, 0.1]), *[np.array([99.0, 99.0])] * 2, np.ones(2))
    )
    assert vector.sum() == pytest.approx(1.0)
    assert ALGORITHMS[name].about.endswith(".")


def test_given_parameters_win_over_defaults() -> None:
    rule = exploration_rule(LearningSettings(algorithm="contextual_thompson", params={"scale": 2.0, "floor": 0.1}))
    assert rule.params == {"few_ratings": 20.0, "floor": 0.1, "optimistic": 1.0, "scale": 2.0}


def test_the_order_of_parameters_does_not_matter() -> None:
    one = exploration_rule(LearningSettings(algorithm="linucb", params={"alpha": 2.0, "floor": 0.1}))
    other = exploration_rule(LearningSettings(algorithm="linucb", params={"floor": 0.1, "alpha": 2.0}))
    assert one.model_dump_json() == other.model_dump_json()


def test_an_unknown_algorithm_is_told_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match=r"no algorithm 'magic'; there are contextual_thompson, .*uniform"):
        algorithm(LearningSettings(algorithm="magic"))


def test_an_unknown_parameter_is_told_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match=r"'linucb' has no parameter 'beta'; it takes alpha, floor"):
        algorithm(LearningSettings(algorithm="linucb", params={"beta": 1.0}))


def test_contextual_or_not() -> None:
    assert {name for name, known in ALGORITHMS.items() if not known.contextual} == {"thompson", "ucb1"}
