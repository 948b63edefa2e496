import asyncio
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from learner_traffic import POLICY, messages, selection

from conduit_learner.cli import main
from conduit_log import LogSettings, open_log
from conduit_schemas import Topics

NOBODY = "127.0.0.1:1"


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment, prog_name="conduit")


def in_a_bare_installation(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line without the packages that the learner needs."""
    code = """
        import sys

        for missing in ("river", "rich", "pyarrow"):
            sys.modules[missing] = None
        from conduit_learner.cli import main

        main(prog_name="conduit")
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "command", [(), ("learner",), ("topics",), ("topics", "create"), ("topics", "describe"), ("version",)]
)
def test_help_shows_an_example(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "conduit " in result.output.partition("\n\n")[2] or command == ("topics",)


def test_version() -> None:
    assert run("version").output == f"conduit-litellm {version('conduit-litellm')}\n"


@pytest.mark.process
def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "conduit_learner", "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("conduit-litellm ")


def test_topics_of_the_embedded_log(tmp_path: Path) -> None:
    created = run("topics", "create", "--path", str(tmp_path), "--prefix", "mine")
    assert created.output.split() == list(Topics("mine").all)
    described = run("topics", "describe", "--path", str(tmp_path), "--prefix", "mine")
    assert described.exit_code == 0
    assert "mine.events: 1 partitions, 1 copies, 0 messages written" in described.output


def test_topics_on_kafka(kafka_bootstrap: str) -> None:
    prefix = f"cli-{uuid.uuid4().hex[:12]}"
    where = ("--bootstrap-servers", kafka_bootstrap, "--prefix", prefix)
    before = run("topics", "describe", *where)
    assert f"{prefix}.events: does not exist; create it with: conduit topics create" in before.output
    assert run("topics", "create", *where, "--partitions", "3").exit_code == 0
    after = run("topics", "describe", *where)
    assert f"{prefix}.events: 3 partitions, 1 copies, 0 messages written" in after.output
    assert "cleanup.policy = compact" in after.output


def test_the_environment_says_where_the_log_is(tmp_path: Path) -> None:
    result = run("topics", "create", CONDUIT_HOME=str(tmp_path / "home"), CONDUIT_TOPIC_PREFIX="team")
    assert result.output.split() == list(Topics("team").all)
    assert (tmp_path / "home").is_dir()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("topics", "describe", "--bootstrap-servers", NOBODY), 3, NOBODY),
        (("topics", "create", "--bootstrap-servers", NOBODY), 3, NOBODY),
        (("topics", "create", "--prefix", "no spaces"), 2, "topic prefix 'no spaces'"),
        (("learner", "--prefix", "no spaces"), 2, "topic prefix 'no spaces'"),
        (("learner", "--snapshot-every-events", "0"), 2, "snapshot-every-events"),
        (("topics", "drop"), 2, "No such command"),
        (("lerner",), 2, "No such command"),
    ],
)
def test_failures_are_one_clear_line(arguments: tuple[str, ...], exit_code: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == exit_code
    assert message in result.output
    assert "Traceback" not in result.output
    assert result.output.splitlines()[-1].startswith("Error: ")


@pytest.mark.process
@pytest.mark.parametrize("command", ["learner", "demo"])
def test_a_base_install_says_what_is_missing(command: str, tmp_path: Path) -> None:
    done = in_a_bare_installation(command, *(("--path", str(tmp_path)) if command == "learner" else ()))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith('is not installed: pip install "conduit-litellm[learner]"')
    assert "Traceback" not in done.stderr


@pytest.mark.process
def test_a_base_install_has_help_and_topics(tmp_path: Path) -> None:
    assert "demo" in in_a_bare_installation("--help").stdout
    assert in_a_bare_installation("topics", "create", "--path", str(tmp_path)).returncode == 0


@pytest.fixture
async def learner(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "conduit_learner", "learner", "-v", "--path", str(tmp_path)),
        stderr=asyncio.subprocess.PIPE,
    )
    yield process
    if process.returncode is None:
        process.kill()
        await process.wait()


@pytest.mark.process
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_learner_ends_cleanly_when_asked(
    learner: asyncio.subprocess.Process, how: signal.Signals, tmp_path: Path
) -> None:
    settings = LogSettings(path=tmp_path)
    async with open_log(settings) as log:
        await log.append(settings.topics.events, messages([selection("d1")]))
    lines = []
    assert learner.stderr is not None
    async for line in learner.stderr:
        lines.append(line.decode())
        if "published policy" in lines[-1]:
            learner.send_signal(how)
            break
    lines += (await learner.stderr.read()).decode().splitlines()
    assert await learner.wait() == 0
    text = "".join(lines)
    assert f"published policy {POLICY} at offset 1" in text
    assert "checkpoint of partition 0 at offset 1" in text
    assert "Traceback" not in text
