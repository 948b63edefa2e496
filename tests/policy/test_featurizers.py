"""Featurizers are found by name: Conduit's own, those that packages offer, and those in any module."""

from pathlib import Path

import numpy as np
import pytest

from conduit_policy import FEATURIZER_ENTRY_POINTS, Request, TextFeaturizer, featurizer_of, known_featurizers
from conduit_schemas import ConfigurationError

MODULE = """
import numpy as np

class Length:
    name = "length-v1"
    dimension = 2

    def __call__(self, request):
        return np.array([1024, 7], np.int16)

ready = Length()
make = lambda: Length()

class Nameless(Length):
    name = ""

class Large(Length):
    dimension = 5000

class Broken(Length):
    def __init__(self):
        raise RuntimeError("no model file")
"""


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lengths.py").write_text(MODULE)
    info = tmp_path / "lengths-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lengths\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{FEATURIZER_ENTRY_POINTS}]\nlength = lengths:Length\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("given", ["length", "lengths:Length", "lengths:ready", "lengths:make"])
def test_a_name_or_a_place_gives_the_featurizer(offered: None, given: str) -> None:
    featurizer = featurizer_of(given)
    assert (featurizer.name, featurizer.dimension) == ("length-v1", 2)
    assert featurizer(Request()).tolist() == [1024, 7]


def test_an_object_is_taken_as_it_is_and_nothing_is_the_usual_one(offered: None) -> None:
    mine = TextFeaturizer()
    assert featurizer_of(mine) is mine
    assert featurizer_of(None).name == featurizer_of("text64-v2").name == "text64-v2"
    assert known_featurizers() == ["length", "text64-v2"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "lenght",
            r"no featurizer 'lenght'; there are length, text64-v2 \(did you mean 'length'\?\)\. Correct the name",
        ),
        ("lengths:Size", "'lengths:Size' cannot be loaded: AttributeError"),
        ("nowhere:Size", "'nowhere:Size' cannot be loaded: ModuleNotFoundError"),
        ("lengths:Nameless", "'lengths:Nameless' must have a name"),
        ("lengths:Large", "dimension=5000 must be between 1 and 1024"),
        ("lengths:Broken", "'lengths:Broken' cannot be created: RuntimeError: no model file"),
        (np.zeros, "must have a name and a dimension"),
    ],
)
def test_what_is_no_featurizer_is_refused(offered: None, given: object, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        featurizer_of(given)  # type: ignore[arg-type]  # on purpose
