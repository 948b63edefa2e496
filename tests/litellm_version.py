"""Runs the plugin's tests with another version of LiteLLM: ``make test-litellm VERSION=1.108.14``.

The tests run in a virtual environment of their own under ``.cache``: everything as in requirements.lock, but for
LiteLLM and what that version needs besides. LiteLLM pins its requirements closely. Where a package index does not have
what it pins, the newest that there is takes its place, and is named.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MISSING = """
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


def main(version: str, arguments: list[str]) -> int:
    """Make the environment, say what differs from what LiteLLM pins, run the tests; return pytest's exit code."""
    folder = ROOT / ".cache" / f"litellm-{version}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        lines = (ROOT / "requirements.lock").read_text().splitlines()
        lock = folder / "requirements.lock"
        lock.write_text("\n".join(line for line in lines if not line.startswith("litellm==")))
        pip(python, "-r", str(lock))
        pip(python, "--no-deps", "--editable", str(ROOT), f"litellm=={version}")
        for name, wanted, _ in unmet(python):
            pip(python, f"{name}{wanted}") or pip(python, name)
        (folder / "ready").touch()
    for name, wanted, there in unmet(python):
        print(f"LiteLLM {version} asks for {name}{wanted}; the tests run with {there or 'none'}", flush=True)
    tests = arguments or ["tests/router_plugin"]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return subprocess.run([python, "-m", "pytest", "-q", *tests], cwd=ROOT, env=environment, check=False).returncode


def pip(python: Path, *what: str) -> bool:
    """Install something, and say whether that worked."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def unmet(python: Path) -> list[list[str]]:
    """Return name, wanted and present version of what LiteLLM pins otherwise."""
    return json.loads(subprocess.run([python, "-c", MISSING], check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
