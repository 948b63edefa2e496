"""A strategy's settings: what is documented, accepted and refused."""

from pathlib import Path

import pytest

from conduit_litellm import ConduitRoutingStrategy, ConfigurationError, Judge
from conduit_litellm.settings import SETTINGS, StrategySettings, settings_of
from conduit_litellm.settings_page import settings_page
from conduit_policy import Objective, TextFeaturizer
from conduit_schemas import ArmPrior, RoutingGoal, Weights

ROOT = Path(__file__).parents[2]


def test_the_page_of_settings_is_current_and_says_a_sentence_about_each():
    page = settings_page()
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page, "run: make generate"
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert list(rows) == list(SETTINGS)
    assert all(line.endswith(". |") for line in rows.values())


@pytest.mark.parametrize(("name", "nested"), [("priors", ArmPrior), ("constraints", RoutingGoal)])
def test_a_setting_of_named_values_names_them_all(name, nested):
    (row,) = [line for line in settings_page().splitlines() if line.startswith(f"| `{name}`")]
    assert [field for field in nested.model_fields if f"`{field}`" not in row and field != "objective"] == []


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ({"quality": 1, "cost": 0.2}, Objective(cost=0.2)),
        ("quality=1,cost=0.2", Objective(cost=0.2)),
        (Weights(cost=0.2), Objective(cost=0.2)),
        (Objective(cost=0.2), Objective(cost=0.2)),
        ("cost", "cost"),
        ({"preset": "cost"}, "cost"),
    ],
)
def test_an_objective_is_kept_as_a_preset_or_an_objective(given, weights):
    assert StrategySettings(objective=given).objective == weights


def test_objects_stay_what_they_are_and_files_describe_them():
    featurizer, judge = TextFeaturizer(), Judge(model="m")
    settings = StrategySettings(featurizer=featurizer, judge=judge, validators={"long": len}, model_groups={"a"})
    assert settings.featurizer is featurizer and settings.judge is judge
    assert settings.validators == {"long": len} and settings.model_groups == ["a"]
    assert StrategySettings(judge={"model": "m", "share": 0.5}).judge == Judge(model="m", share=0.5)


def test_names_and_positions_go_on_working(new_strategy):
    learning = new_strategy(bandit_algorithm="contextual_thompson", lambda_reg=1.0, window_size=1000).settings
    assert (learning.algorithm, learning.lambda_reg, learning.window_size) == ("contextual_thompson", 1.0, 1000)
    learning = settings_of(str, "linucb", 2.0, 50).learning(TextFeaturizer())
    assert (learning.algorithm, learning.lambda_reg, learning.window_size) == ("linucb", 2.0, 50)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"objektive": "cost"}, r"there is no setting 'objektive'; there are .*\(did you mean 'objective'\?\)"),
        ({"objective": "qality=1"}, r"objective='qality=1': .*'qality'.*did you mean 'quality'"),
        ({"window_size": 5}, "ConduitRoutingStrategy: window_size=5: .*greater than or equal to 10"),
        ({"kafka_options": "hunter2"}, r"kafka_options=\.\.\.: "),
        ({"featurizer": 7}, "featurizer=7: .*Featurizer"),
        ({"judge": {"model": "m", "share": 7}}, r"judge: share=7\.0 must be above 0"),
        ({"constraints": {"budget": "25/week"}}, "goal.budget.per='week'"),
        ({"constraints": {"budget": {"per": "day"}}}, "goal.budget.usd: Field required"),
    ],
)
def test_a_refusal_says_where_what_and_what_there_is(given, said):
    with pytest.raises(ConfigurationError, match=said):
        ConduitRoutingStrategy(**given)
