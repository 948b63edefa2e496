"""On a bare machine, what the tests need is installed, or one line says what is missing."""

import subprocess
from typing import Any

import pytest

from tests import system_packages


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A machine with nothing but a fake apt-get. Returns the commands that it was given."""
    given: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        given.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="", stderr="")

    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("CONDUIT_TEST_CHROMEDRIVER", raising=False)
    return given


def test_root_gets_it_installed(bare: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    system_packages.main(["browser", "broker"])
    assert [command[:2] for command in bare] == [["apt-get", "update"], ["apt-get", "install"]]
    assert {"chromium", "chromium-driver", "default-jre-headless", "maven"} < set(bare[1])


def test_others_are_told_in_one_line(
    bare: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    system_packages.main(["browser", "broker"])
    assert bare == []
    (line,) = capsys.readouterr().err.splitlines()
    assert "Chromium" in line and "Java" in line and "apt-get install chromium" in line


def test_where_all_is_there_nothing_happens(bare: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    system_packages.main(["venv"])
    assert bare == [] and capsys.readouterr() == ("", "")
