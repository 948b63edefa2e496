"""The separate environments run tests that exist, and use the marks of the tiers."""

import tomllib
from pathlib import Path

from tests import environments

ROOT = Path(__file__).parents[2]


def test_the_wheels_tests_exist() -> None:
    assert all((ROOT / test.partition("::")[0]).is_file() for test in environments.WHEEL_TESTS)


def test_every_mark_is_slow_everywhere() -> None:
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    slow = " or ".join(marker.partition(":")[0] for marker in markers)
    assert slow == environments.SLOW
    assert f"SLOW := {slow}\n" in (ROOT / "Makefile").read_text()


def test_the_lowest_litellm_is_a_version() -> None:
    assert environments.lowest_litellm().replace(".", "").isdigit()
