"""The checks, run on every algorithm, and algorithms that must fail them."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from conduit_learner.testing import algorithm_checks as checks
from conduit_learner.testing.algorithm_checks import CHECKS, check_algorithm
from conduit_policy import ALGORITHMS, BanditAlgorithm, Utilities, register
from conduit_policy.algorithms import algorithm
from conduit_policy.custom import ALGORITHM_ENTRY_POINTS, MODULES, load_algorithms, registered
from conduit_policy.rules import RULES, Vector
from conduit_schemas import ConfigurationError, LearningSettings

EXAMPLE = Path(__file__).parents[3] / "examples" / "custom_algorithm.py"


@pytest.fixture(autouse=True)
def _forgotten() -> object:
    before, rules = dict(registered), dict(RULES)
    load_algorithms.cache_clear()
    yield
    for mine, saved in ((registered, before), (RULES, rules)):
        mine.clear()
        mine.update(saved)
    load_algorithms.cache_clear()


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_algorithm_keeps_it(check: object, name: str) -> None:
    check(name)  # type: ignore[operator]  # parametrised


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count("ok: ") == len(CHECKS)
    assert float(printed.split("mean quality ")[1].split(";")[0]) > 0.85


class Mean(BanditAlgorithm):
    """Gives all probability to the best mean."""

    name = "test_mean"

    def __init__(self, least: float = 0.0) -> None:
        self.least = least

    def probabilities(self, utilities: Utilities) -> Vector:
        best: Vector = (utilities.mean == utilities.mean.max()) + self.least
        return best


class First(Mean):
    name = "test_first"

    def probabilities(self, utilities: Utilities) -> Vector:
        return np.eye(len(utilities.mean))[0]


class Broken(Mean):
    name = "test_broken"

    def probabilities(self, utilities: Utilities) -> Vector:
        return utilities.mean * np.nan


class Worst(Mean):
    name = "test_worst"

    def probabilities(self, utilities: Utilities) -> Vector:
        return np.asarray(utilities.mean == utilities.mean.min(), np.float64)


class Forgetful(Mean):
    name = "test_random"

    def probabilities(self, utilities: Utilities) -> Vector:
        return np.random.default_rng().random(len(utilities.mean))


class Counting(Mean):
    name = "test_counting"

    def probabilities(self, utilities: Utilities) -> Vector:
        self.least += 1.0
        return super().probabilities(utilities)


class TestChecks:
    def test_a_sound_one_passes(self) -> None:
        register(Mean)
        check_algorithm("test_mean")

    @pytest.mark.parametrize(
        ("wrong", "check"),
        [
            (First, checks.ignores_order),
            (Worst, checks.is_better_than_random),
            (Forgetful, checks.is_deterministic),
            (Counting, checks.keeps_nothing),
        ],
    )
    def test_an_unsound_one_does_not(self, wrong: type[BanditAlgorithm], check: object) -> None:
        register(wrong)
        with pytest.raises(AssertionError, match=wrong.name):
            check(wrong.name)  # type: ignore[operator]  # parametrised

    def test_what_is_no_probability_is_refused(self) -> None:
        register(Broken)
        with pytest.raises(ConfigurationError, match="finite, not negative"):
            checks.gives_probabilities("test_broken")


class TestRegistration:
    def test_names_are_not_taken_twice(self) -> None:
        register(Mean)
        register(Mean)
        with pytest.raises(ConfigurationError, match="already"):
            register(type("Other", (Mean,), {"name": "test_mean"}))
        with pytest.raises(ConfigurationError, match="already"):
            register(type("Other", (Mean,), {"name": "thompson"}))

    def test_a_class_without_a_name_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="has no name"):
            register(type("Nameless", (Mean,), {"name": ""}))

    def test_parameters_are_numbers(self) -> None:
        def init(self: object, what: str = "x") -> None: ...

        with pytest.raises(ConfigurationError, match="'what'"):
            register(type("Wordy", (Mean,), {"name": "test_wordy", "__init__": init}))

    def test_settings_take_its_parameters_and_no_others(self) -> None:
        register(Mean)
        assert algorithm(LearningSettings(algorithm="test_mean", params={"least": 0.1, "floor": 0.0})).params == {
            "least": 0.0
        }
        with pytest.raises(ConfigurationError, match="'most'"):
            algorithm(LearningSettings(algorithm="test_mean", params={"most": 1.0}))

    def test_the_environment_names_modules(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(EXAMPLE.parent))
        monkeypatch.setenv(MODULES, "custom_algorithm")
        sys.modules.pop("custom_algorithm", None)
        assert algorithm(LearningSettings(algorithm="boltzmann")).params == {"temperature": 0.05}
        load_algorithms.cache_clear()
        monkeypatch.setenv(MODULES, "no_such_module")
        with pytest.raises(ConfigurationError, match="no_such_module"):
            algorithm(LearningSettings(algorithm="nowhere"))

    def test_packages_offer_entry_points(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "offered_algorithm.py").write_text(EXAMPLE.read_text().replace('"boltzmann"', '"offered"'))
        info = tmp_path / "offered-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{ALGORITHM_ENTRY_POINTS}]\noffered = offered_algorithm:Boltzmann\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        assert algorithm(LearningSettings(algorithm="offered")).about.startswith("Chooses each arm in proportion")
