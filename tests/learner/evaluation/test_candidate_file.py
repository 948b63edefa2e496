from pathlib import Path

import pytest
from audit_traffic import POLICY, SETTINGS, Installation

from conduit_learner.evaluation.candidate_file import logged_settings, parse_candidate, read_candidate
from conduit_log import StoredMessage
from conduit_policy import Objective
from conduit_schemas import ConfigurationError, LearningChange, LearningSettings

LOGGED = LearningSettings(algorithm="linucb", params={"alpha": 0.7}, window_size=300, featurizer="eight", dimension=8)


def test_what_is_left_out_stays_as_logged() -> None:
    candidate = parse_candidate("[settings]\nlambda_reg = 3", LOGGED)
    assert candidate.settings == LOGGED.model_copy(update={"lambda_reg": 3.0})
    assert candidate.objective is None
    assert parse_candidate('[objective]\npreset = "speed"', LOGGED).settings is None


def test_one_algorithms_parameters_are_not_anothers() -> None:
    assert parse_candidate('[settings]\nalgorithm = "greedy"', LOGGED).settings == LOGGED.model_copy(
        update={"algorithm": "greedy", "params": {}}
    )
    same = parse_candidate('[settings]\nalgorithm = "linucb"', LOGGED).settings
    assert same == LOGGED


def test_features_are_numbers_and_ranges_and_the_intercept() -> None:
    candidate = parse_candidate('[features]\nkeep = ["2-4", 6, "7"]', LOGGED)
    assert candidate.features == (0, 2, 3, 4, 6, 7)
    assert candidate.settings is None and candidate.objective is None
    assert parse_candidate("[features]\nkeep = []", LOGGED).features == (0,)
    longer = '[settings]\nfeaturizer = "ten"\ndimension = 10\n[features]\nkeep = [9]'
    assert parse_candidate(longer, LOGGED).features == (0, 9)


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ('preset = "cost"', Objective.preset("cost")),
        ("quality = 1\ncost = 0.5", Objective(quality=1.0, cost=0.5)),
        ("latency = 2.5", Objective(latency=2.5)),
    ],
)
def test_objectives(text: str, objective: Objective) -> None:
    assert parse_candidate(f"[objective]\n{text}", LOGGED).objective == objective


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file is empty"),
        ("settings = 1", r"settings must be a table, as in \[settings\]"),
        ("[setting]", "the file has the unknown entry 'setting'; known entries are settings, objective, features"),
        (
            "[settings]\nalgoritm = 'greedy'",
            r"\[settings\]: there is no 'algoritm'; there are algorithm, params",
        ),
        ("[settings]\nalgorithm = 'best'", "no algorithm 'best'"),
        ("[settings]\nalgorithm = 'greedy'\nparams = {alpha = 1.0}", "'greedy' has no parameter 'alpha'"),
        ("[settings]\nwindow_size = 1", r"\[settings\]: window_size=1: Input should be greater"),
        ("[settings]\nparams = {alpha = 'a'}", r"\[settings\]: params.alpha='a'"),
        ("[objective]\nprice = 1", "there is no 'objective.price'; there are quality, cost, latency"),
        ("objective = 'cheap'", "no objective preset 'cheap'"),
        ("objective = 'quality=x'", "weight quality 'x' is not a number"),
        ("settings = 3", "settings must be a table"),
        ("[objective]\npreset = 'best'", "no objective preset 'best'"),
        ("[objective]\npreset = 'cost'\nquality = 1", "a preset or weights, not both"),
        ("[objective]\ncost = -1", "objective.cost=-1: Input should be greater than or equal to 0"),
        ("[objective]\ncost = 'low'", "objective.cost='low': Input should be a valid number"),
        ("[objective]\ncost = true", "weight cost must be a number, not True"),
        ("[features]\nkeep = 3", r"\[features\] keep must be a list"),
        ("[features]", r"\[features\] keep must be a list"),
        ("[features]\ndrop = [1]", r"\[features\] has the unknown entry 'drop'; known entries are keep"),
        ("[features]\nkeep = [8]", "keep has 8, but eight has components 0 to 7"),
        ("[features]\nkeep = ['5-3']", "keep has '5-3'"),
        ("[features]\nkeep = [-1]", "keep has -1: use a number"),
        ("[features]\nkeep = [true]", "keep has True: use a number"),
        ("[objective", "not TOML"),
    ],
)
def test_mistakes_are_named_with_the_file(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"policy.toml: .*{reason}"):
        read_candidate(file, LOGGED)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere.toml: No such file"):
        read_candidate(tmp_path / "nowhere.toml", LOGGED)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ConfigurationError, match=r"latin.toml: "):
        read_candidate(tmp_path / "latin.toml", LOGGED)


def test_the_logs_last_settings_count() -> None:
    made = Installation().run(3)
    assert logged_settings(made.log, POLICY) == SETTINGS
    assert logged_settings(made.log, "default/other") == LearningSettings()
    made.put(LearningChange(policy=POLICY, time=0.0, settings=LOGGED))
    junk = StoredMessage(0, 99, 0, POLICY.encode(), b'{"kind": "settings"}')
    assert logged_settings([*made.log, junk], POLICY) == LOGGED
