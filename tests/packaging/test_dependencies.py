"""pyproject.toml declares exactly what the project imports, for every extra."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
PACKAGES = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
OURS = {"benchmarks", "local_servers", "tests", *(Path(package).name for package in PACKAGES)}

RUNTIME = ["learner", "proxy", "metrics", "tracing", "pydantic-ai"]
# Which extras each room may rely on. The plugin imports an extra's packages where it uses them.
EXTRAS = {
    "schemas/conduit_schemas": [],
    "event_log/conduit_log": [],
    "policy/conduit_policy": [],
    "router_plugin/conduit_litellm": ["proxy", "metrics", "tracing", "pydantic-ai"],
    "learner/conduit_learner": ["learner"],
    "demo/conduit_demo": ["learner"],
    "examples": ["learner"],
    "benchmarks": ["test"],
    "local_servers": ["test"],
    "tests": ["test"],
}


def declared(extras: list[str]) -> set[str]:
    """The distributions that the project requires by name, with these extras."""
    names: set[str] = set()
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            names |= declared(sorted(requirement.extras))
        else:
            names.add(canonicalize_name(requirement.name))
    return names


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """Every imported third-party package, with the place of the import."""
    files = list(folder.rglob("*.py"))
    beside = {path.stem for path in files} | OURS | sys.stdlib_module_names
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import():
                    modules = [alias.name for alias in node.names]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case _:
                    continue
            for name in {module.partition(".")[0] for module in modules} - beside:
                yield name, f"{path.relative_to(ROOT)}:{node.lineno}"


distributions_of_packages = cache(packages_distributions)


@pytest.mark.parametrize("room", EXTRAS)
def test_every_import_is_declared(room: str) -> None:
    distributions = distributions_of_packages()
    allowed = declared(EXTRAS[room])
    undeclared = [
        f"{place} imports {name}"
        for name, place in imports(ROOT / room)
        if not allowed & {canonicalize_name(found) for found in distributions.get(name, [name])}
    ]
    assert undeclared == []


def test_every_package_is_looked_at() -> None:
    assert set(PACKAGES) < set(EXTRAS)


def test_compromised_releases_of_litellm_are_excluded_and_named_in_the_guide() -> None:
    (litellm,) = [line for line in map(Requirement, PROJECT["dependencies"]) if line.name == "litellm"]
    excluded = {clause.version for clause in litellm.specifier if clause.operator == "!="}
    assert excluded == {"1.82.7", "1.82.8", "1.107.0"}
    for guide in ("security.md", "installation.md"):
        assert excluded <= set(re.findall(r"\d+\.\d+\.\d+", (ROOT / "docs" / guide).read_text()))


def test_the_lowest_versions_are_those_that_are_allowed() -> None:
    """Only for what Conduit itself needs; the lowest versions of test and benchmark tools do not matter."""
    wanted: dict[str, str] = {}
    extras = PROJECT["optional-dependencies"]
    ours = [*PROJECT["dependencies"], *(line for extra in RUNTIME for line in extras[extra])]
    for requirement in map(Requirement, ours):
        bounds = [clause.version for clause in requirement.specifier if clause.operator == ">="]
        if bounds or not requirement.extras:
            (wanted[canonicalize_name(requirement.name)],) = bounds
    pinned = dict(
        line.split("==") for line in (ROOT / "requirements-lowest.txt").read_text().splitlines() if "==" in line
    )
    assert pinned == wanted
