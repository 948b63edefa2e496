import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import folder_log
import pytest
from click.testing import CliRunner

from conduit_demo import cli, run
from conduit_demo.world import SimulatedWorld
from conduit_learner.cli import main

POLICIES = {"conduit", "random", "best_fixed", "best_quality", "most_expensive", "simple_shuffle"}
LEARNED = 600
"""Requests that take longer than a busy machine needs to start the learner and to publish its first snapshot."""


def _demo(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return _conduit(folder, "demo", *arguments, **variables)


def _conduit(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "COLUMNS": "120", **variables}
    return subprocess.run(
        [sys.executable, "-m", "conduit_learner", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=600,
        check=False,
    )


def _check(figures: dict[str, Any], requests: int) -> None:
    assert figures["requests"] == requests
    assert set(figures["policies"]) == POLICIES
    for entry in figures["policies"].values():
        assert 0.0 <= entry["quality"] <= 1.0
        assert entry["cost_usd"] > 0.0
        assert entry["latency_s"] is None or entry["latency_s"] > 0.0
        assert 0.0 <= entry["errors"] <= 1.0
        assert sum(entry["share"].values()) == pytest.approx(1.0)
        assert entry["after_1000"] is None
    assert 0.0 < figures["selection_us"]["p50"] <= figures["selection_us"]["p99"]


@pytest.mark.process
def test_the_demo_learns_while_it_serves(tmp_path: Path) -> None:
    done = _demo(tmp_path, "--requests", str(LEARNED), "--concurrency", "8", "--json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    figures = json.loads(lines[0])
    _check(figures, LEARNED)
    assert figures["policies"]["conduit"]["errors"] == 0.0
    assert figures["snapshots"] >= 1
    assert figures["feedbacks"] >= 10
    assert figures["log"] == "file"
    assert "Conduit:" in done.stderr
    assert "share of the requests" in done.stderr
    assert (tmp_path / "demo-report.html").stat().st_size > 20_000
    # The fixed policies are read from the same world that the server played.
    table = SimulatedWorld(LEARNED, 1).table
    dear = figures["policies"]["most_expensive"]
    assert dear["model"] == "claude-3.5-sonnet"
    assert dear["cost_usd"] == pytest.approx(table.cost_usd[:, 0].mean())


@pytest.mark.process
def test_the_same_through_kafka_with_a_learner_of_its_own(tmp_path: Path, kafka_bootstrap: str) -> None:
    done = _demo(tmp_path, "--requests", "150", "--kafka", kafka_bootstrap, "--json", "--report", "out/kafka.html")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    _check(figures, 150)
    assert figures["log"] == "kafka"
    assert figures["policies"]["conduit"]["errors"] == 0.0
    assert figures["feedbacks"] >= 5
    assert (tmp_path / "out" / "kafka.html").exists()


@pytest.mark.process
def test_a_log_of_ones_own_reaches_every_command(tmp_path: Path) -> None:
    folder_log.offer(tmp_path)
    paths = f"{tmp_path}:{Path(folder_log.__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
    address = f"folder:{tmp_path / 'log'}"
    missing = _conduit(tmp_path, "doctor", "--log", address, PYTHONPATH=paths)
    assert missing.returncode == 2
    assert f"there is no folder of text files {tmp_path / 'log'}: give its folder with --path" in missing.stderr
    done = _demo(tmp_path, "--requests", str(LEARNED), "--log", address, "--json", PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    _check(figures, LEARNED)
    assert figures["log"] == "folder"
    assert figures["snapshots"] >= 1
    assert "a log (folder), with the learner in the same process" in (tmp_path / "demo-report.html").read_text()
    well = _conduit(tmp_path, "doctor", PYTHONPATH=paths, CONDUIT_LOG=address)
    assert well.returncode == 0, well.stdout + well.stderr
    assert f"log: folder of text files {tmp_path / 'log'} answers" in well.stdout
    proven = _conduit(
        tmp_path, "replay", "--policy", "default/assistant", "--verify", "--log", address, PYTHONPATH=paths
    )
    assert proven.returncode == 0, proven.stdout + proven.stderr


@pytest.mark.process
def test_recorded_outcomes_are_replayed(tmp_path: Path, recorded: Path) -> None:
    done = _demo(tmp_path, "--data", str(recorded), "--seeds", "2", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    _check(figures, 40)
    assert figures["policies"]["most_expensive"]["model"] == "always-right"
    assert figures["policies"]["most_expensive"]["quality"] == 1.0
    assert figures["policies"]["conduit"]["latency_s"] is None
    assert [part["seed"] for part in figures["runs"]] == [1, 2]
    saved = figures["spread"]["cost_saved_against_most_expensive"]
    each = [
        1.0 - part["policies"]["conduit"]["cost_usd"] / part["policies"]["most_expensive"]["cost_usd"]
        for part in figures["runs"]
    ]
    assert saved["mean"] == pytest.approx(sum(each) / 2)
    assert (saved["least"], saved["largest"]) == (min(each), max(each))
    assert "Over 2 seeds" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--data", "nowhere"], 1, "prompts.parquet does not exist"),
        (["--requests", "3"], 2, "Invalid value for '--requests'"),
        (["--kafka", "127.0.0.1:1", "--path", "here"], 2, "give only one of them"),
        (["--path", "here", "--seeds", "2"], 2, "--seeds must be 1"),
    ],
)
def test_wrong_use_is_explained(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = CliRunner().invoke(main, ["demo", *arguments, "--report", str(tmp_path / "report.html")])
    assert done.exit_code == code
    assert said in done.output
    assert not (tmp_path / "report.html").exists()


@pytest.mark.process
def test_an_absent_broker_is_noticed_before_anything_is_served(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = CliRunner().invoke(main, ["demo", "--kafka", "127.0.0.1:1", "--requests", "20", "--report", str(report)])
    assert done.exit_code == 3
    assert "127.0.0.1:1" in done.output
    assert not report.exists()


def test_help_is_for_newcomers() -> None:
    said = CliRunner().invoke(cli.demo, ["--help"]).output
    assert "conduit demo --kafka localhost:9092" in said
    assert "nothing leaves this machine" in " ".join(said.split())


@pytest.mark.process
async def test_a_learner_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(run.LearnerFailedError, match="exit code 1"):
        async with run._learner("127.0.0.1:1", "prefix"):
            await asyncio.sleep(0.5)


def test_means_over_runs_keep_what_agrees() -> None:
    runs = [
        {"a": 1, "b": {"c": 0.5}, "model": "x", "none": None},
        {"a": 3, "b": {"c": 1.5}, "model": "y", "none": None},
    ]
    assert cli._mean(runs) == {"a": 2.0, "b": {"c": 1.0}, "none": None}
