"""Conduit's own featurizer passes the checks, and faulty ones fail them."""

import random
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conduit_learner.checks import FEATURIZER_CHECKS, check_featurizer, fingerprint
from conduit_learner.testing import featurizer_checks as checks
from conduit_policy import Context, Request, TextFeaturizer

EXAMPLE = Path(__file__).parents[3] / "examples" / "custom_featurizer.py"


@pytest.mark.parametrize("check", FEATURIZER_CHECKS, ids=lambda check: check.__name__)
def test_conduits_own_keeps_it(check: Any) -> None:
    check(TextFeaturizer())


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "subjects-v1 passes every check" in printed
    assert int(printed.split("chosen for ")[-1].split("%")[0]) > 90


class Plain:
    """A featurizer that keeps everything."""

    name = "plain-v1"
    dimension = 2

    def __call__(self, request: Request) -> Any:
        return np.array([1024, len(str(request.params)) % 100], np.int16)


class Renaming(Plain):
    calls = 0

    @property
    def name(self) -> str:  # type: ignore[override]  # on purpose
        return f"plain-v{self.calls}"

    def __call__(self, request: Request) -> Any:
        self.calls += 1
        return super().__call__(request)


class Floats(Plain):
    def __call__(self, request: Request) -> Any:
        return np.array([1.0, 0.5])


class Long(Plain):
    def __call__(self, request: Request) -> Any:
        return np.array([1024, 1, 2], np.int16)


class WithoutIntercept(Plain):
    def __call__(self, request: Request) -> Any:
        return np.zeros(2, np.int16)


class Lists(Plain):
    def __call__(self, request: Request) -> Any:
        return [1024, 0]


class Fragile(Plain):
    def __call__(self, request: Request) -> Any:
        return np.array([1024, sum(len(message["content"]) for message in request.messages or ()) % 99], np.int16)


class Fickle(Plain):
    def __call__(self, request: Request) -> Any:
        return np.array([1024, random.randrange(1000)], np.int16)


class Meddling(Plain):
    def __call__(self, request: Request) -> Any:
        if isinstance(request.params, dict):
            request.params["seen"] = True
        return super().__call__(request)


class Greedy(Plain):
    def __call__(self, request: Request) -> Any:
        if hasattr(request.input, "__next__"):
            list(request.input)
        return super().__call__(request)


class Reusing(Plain):
    def __init__(self) -> None:
        self.array = np.array([1024, 0], np.int16)

    def __call__(self, request: Request) -> Context:
        self.array[1] = len(str(request.input)) % 100
        return self.array


@pytest.mark.parametrize(
    ("wrong", "check", "said"),
    [
        (Renaming, checks.says_what_it_is, "its name or dimension changes"),
        (Floats, checks.gives_contexts, "returns float64, not int16"),
        (Long, checks.gives_contexts, r"the shape \(3,\), not \(2,\)"),
        (WithoutIntercept, checks.gives_contexts, "component 0 is 0; it is the intercept and must be 1024"),
        (Lists, checks.gives_contexts, "returns list, not an array"),
        (Fragile, checks.takes_anything, "no content: raises TypeError"),
        (Fickle, checks.is_deterministic, "at first"),
        (Meddling, checks.leaves_requests_alone, "became"),
        (Greedy, checks.leaves_requests_alone, "consumed the iterator that was the input"),
        (Reusing, checks.gives_its_own_array, "changes an array that it returned before"),
    ],
)
def test_an_unsound_one_does_not(wrong: type[Plain], check: Any, said: str) -> None:
    for sound in FEATURIZER_CHECKS:
        sound(Plain())
    with pytest.raises(AssertionError, match=said):
        check(wrong())


def test_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(checks.time, "process_time", lambda: float(2 * next(clock)))
    with pytest.raises(AssertionError, match=r"1,000,000 characters like 'word word ' take 2\.0 s"):
        checks.takes_bounded_time(Plain())


def test_another_output_needs_another_name() -> None:
    class Changed(Plain):
        def __call__(self, request: Request) -> Any:
            return super().__call__(request) + np.array([0, 1], np.int16)

    known = fingerprint(Plain())
    check_featurizer(Plain(), expected=known)
    with pytest.raises(AssertionError, match="Give it a new name"):
        check_featurizer(Changed(), expected=known)
