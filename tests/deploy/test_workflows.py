"""The release checks what it publishes, and needs no secret, because it uses trusted publishing."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS: dict[str, dict[Any, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")
}


def commands(workflow: str) -> str:
    return "\n".join(step.get("run", "") for job in WORKFLOWS[workflow]["jobs"].values() for step in job["steps"])


def test_both_workflows_run_the_whole_check() -> None:
    assert set(WORKFLOWS) == {"ci", "release"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    for name in WORKFLOWS:
        assert ".ci/run" in commands(name).split()
    assert "make test-wheel" in commands("release")


def test_every_python_that_the_package_names_is_checked() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(classifiers))
    assert WORKFLOWS["ci"]["jobs"]["check"]["strategy"]["matrix"]["python"] == named


def test_nothing_is_published_that_was_not_checked() -> None:
    jobs = WORKFLOWS["release"]["jobs"]
    assert all(job["needs"] == "build" for name, job in jobs.items() if name != "build")
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            assert all("@" in step["uses"] for step in job["steps"] if "uses" in step)
