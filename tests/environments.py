"""Runs tests in separate environments under ``.cache``, with packages other than those in requirements.lock.

``python tests/environments.py wheel [FILE]``
    What pip installs today: the wheel with its ``learner`` extra, and the newest versions that resolve, above all of
    LiteLLM. The demo runs there, and so do the tests that show whether Conduit works with this LiteLLM.
``python tests/environments.py lowest``
    The fast tests with the lowest versions that pyproject.toml allows (requirements-lowest.txt).
``python tests/environments.py litellm [VERSION [TEST ...]]``
    The plugin's tests with another LiteLLM and otherwise the lock; by default with the lowest that pyproject.toml
    allows and with the newest 1.108. LiteLLM pins its requirements closely. If the package index lacks a pinned
    version, the newest available one is installed instead, and named.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache"
LOCK = (ROOT / "requirements.lock").read_text().splitlines()
SLOW = "kafka or browser or process or campaign"
WHEEL_TOOLS = {"pytest", "pytest-asyncio", "hypothesis", "docker", "testcontainers"}
WHEEL_TESTS = [
    "tests/docs/test_pages.py::test_a_pages_programs_run",
    "tests/router_plugin/litellm_compat/test_parity.py",
    "tests/router_plugin/routing/test_selection.py",
]
UNMET = """
import json, sys
from importlib.metadata import PackageNotFoundError, requires, version
from packaging.requirements import Requirement
found = []
for text in requires("litellm"):
    requirement = Requirement(text)
    if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in ("", "proxy")):
        continue
    try:
        there = version(requirement.name)
    except PackageNotFoundError:
        there = ""
    if there not in requirement.specifier:
        found.append([requirement.name, str(requirement.specifier), there])
print(json.dumps(found))
"""


def wheel(built: Path | None) -> None:
    """Install a wheel, built here if none is given, with the newest packages; run the demo and some tests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if built is None:
            pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
            (built,) = folder.glob("*.whl")
        python = fresh("wheel")
        tools = [line for line in LOCK if line.partition("==")[0] in WHEEL_TOOLS]
        pip(python, "install", f"{built}[learner]", *tools)
        pip(python, "check")
        run(python, "-c", "from importlib.metadata import version; print('LiteLLM', version('litellm'))")
        conduit = python.with_name("conduit")
        run(conduit, "version", folder=folder)
        run(conduit, "demo", "--requests", "200", folder=folder)
    run(python, "-m", "pytest", "-p", "no:cacheprovider", *WHEEL_TESTS)


def lowest() -> None:
    """Run the fast tests with the lowest allowed versions."""
    python = fresh("lowest")
    pip(python, "install", "--constraint", ROOT / "requirements-lowest.txt", "--editable", f"{ROOT}[test]")
    run(python, "-m", "pytest", "-p", "no:cacheprovider", "--doctest-modules", "-n", "2", "-m", f"not ({SLOW})")


def litellm(version: str, tests: list[str]) -> None:
    """Run tests with a version of LiteLLM, such as 1.109.3 or 1.108.*, and print how packages differ from its pins."""
    python = fresh(f"litellm-{version.rstrip('.*')}")
    lock = python.parent / "requirements.lock"
    lock.write_text("\n".join(line for line in LOCK if not line.startswith("litellm==")))
    pip(python, "install", "--requirement", lock)
    pip(python, "install", "--no-deps", "--editable", ROOT, f"litellm=={version}")
    for name, wanted, _ in unmet(python):
        exact = pip_command(python, "install", f"{name}{wanted}")
        if subprocess.run(exact, check=False, stderr=subprocess.DEVNULL).returncode:
            pip(python, "install", name)
    for name, wanted, there in unmet(python):
        print(f"LiteLLM {version} asks for {name}{wanted}; the tests run with {there or 'none'}", flush=True)
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(tests or ["tests/router_plugin"]))


def unmet(python: Path) -> list[list[str]]:
    """Return name, pinned and installed version of the packages that differ from LiteLLM's pins."""
    return json.loads(subprocess.run([python, "-c", UNMET], check=True, capture_output=True, text=True).stdout)


def lowest_litellm() -> str:
    """Return the lowest version of LiteLLM that pyproject.toml allows."""
    found = re.search(r'"litellm>=([\d.]+)', (ROOT / "pyproject.toml").read_text())
    assert found is not None
    return found[1]


def fresh(name: str) -> Path:
    """Create a virtual environment, and return its interpreter."""
    run(sys.executable, "-m", "venv", "--clear", CACHE / name)
    return CACHE / name / "bin" / "python"


def pip_command(python: str | Path, *arguments: str | Path) -> list[str | Path]:
    return [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]


def pip(python: str | Path, *arguments: str | Path) -> None:
    run(*pip_command(python, *arguments))


def run(*command: str | Path, folder: Path = ROOT) -> None:
    """Run a command without these sources on Python's path. If it fails, exit with its code."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    sys.stdout.flush()
    if code := subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
        raise SystemExit(code)


def main(arguments: list[str]) -> None:
    """Run the command that the first argument names."""
    match arguments:
        case ["wheel", *files]:
            wheel(Path(files[0]).resolve() if files else None)
        case ["lowest"]:
            lowest()
        case ["litellm", *given]:
            version, *tests = given or [""]
            for each in [version] if version else [lowest_litellm(), "1.108.*"]:
                litellm(each, tests)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
