"""No modules of a room import each other in a circle. import-linter checks the rooms themselves."""

import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks"])
def test_no_module_imports_one_that_imports_it(package: str) -> None:
    graph = grimp.build_graph(package, cache_dir=None)
    rooms = [module for module in graph.modules if graph.find_children(module)]
    assert package in rooms
    circles = {room: found for room in rooms if (found := graph.nominate_cycle_breakers(room))}
    assert circles == {}
