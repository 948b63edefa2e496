"""Ctrl-C: real processes, interrupted during their work, print one line and leave nothing half-done."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from learner_traffic import POLICY, messages, selection, traffic

from conduit_learner.audit.archive import Archive
from conduit_learner.audit.dead_letters import dead_letters
from conduit_learner.audit.history import BlockingLog
from conduit_learner.cli import main
from conduit_learner.commands import replay as replay_command
from conduit_log import Message, StoredMessage
from conduit_log.embedded import EmbeddedLog
from conduit_schemas import DeadLetter, Event, Topics, encode

TOPICS = Topics()
DEADLINE_S = 240.0
INTERRUPTED = 130


@contextmanager
def opened(path: Path) -> Iterator[BlockingLog]:
    with BlockingLog(EmbeddedLog(path, topics=TOPICS, retention_s=None), TOPICS) as log:
        yield log


def size(path: Path) -> int:
    with opened(path) as log:
        return log.end_offsets(TOPICS.events)[0]


def events(path: Path) -> list[StoredMessage]:
    with opened(path) as log:
        return list(log.partition(0))


def interrupted(*arguments: object, when: Callable[[str], bool]) -> str:
    """Run ``conduit`` on a terminal, press Ctrl-C once its output satisfies ``when``; return what it prints then."""
    controller, terminal = pty.openpty()
    command = ["nice", "-n", "15", sys.executable, "-m", "conduit_learner", *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "300"}
    with subprocess.Popen(
        command,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=environment,
        # A test run in the background ignores Ctrl-C, and child processes inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no other thread runs
    ) as process:
        os.close(terminal)
        os.set_blocking(controller, False)
        shown = bytearray()

        def look() -> str:
            with suppress(OSError):  # nothing to read at the moment, or the process has ended
                while part := os.read(controller, 65_536):  # a terminal passes on a little at a time
                    shown.extend(part)
            return shown.decode(errors="replace")

        def wait_until(condition: Callable[[], bool]) -> None:
            deadline = time.monotonic() + DEADLINE_S
            while not condition():
                assert time.monotonic() < deadline, look()
                time.sleep(0.002)

        def is_time() -> bool:
            assert process.poll() is None, f"it ended before it could be interrupted: {look()}"
            return when(look())

        try:
            wait_until(is_time)
            process.send_signal(signal.SIGINT)
            wait_until(lambda: look() is not None and process.poll() is not None)
        finally:
            process.kill()
        # If it is interrupted during an import, Python itself ends by the signal. Shells report 130 in both cases.
        assert process.wait() in (INTERRUPTED, -signal.SIGINT), look()
        assert process.stdout is not None
        printed = process.stdout.read()
        look()
    os.close(controller)
    text = shown.decode()
    assert printed == b""
    assert "Traceback" not in text and "Aborted" not in text
    return text[text.index("interrupted: ") :].rstrip()


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(part) for part in arguments], prog_name="conduit")
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that takes seconds to learn from."""
    path = tmp_path_factory.mktemp("busy")
    with opened(path) as log:
        log.append(TOPICS.events, messages(traffic(12_000)))
    return path


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that fills several files of an archive."""
    path = tmp_path_factory.mktemp("long")
    with opened(path) as log:
        for start in range(0, 200_000, 10_000):
            log.append(TOPICS.events, [Message(b"default/chat", b"%d" % n) for n in range(start, start + 10_000)])
    return path


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "bar", "said"),
    [
        (["replay", "--verify", "--output", "OUT"], "replaying", "the replay did not finish"),
        (["diff", "--from", "100"], "replaying", "the comparison did not finish"),
        (["explain", "d11000"], "reading", "the explanation did not finish"),
        (["evaluate", "--candidate", "TOML"], "evaluating", "the evaluation did not finish"),
    ],
)
def test_what_only_reads_ends_at_once(busy: Path, tmp_path: Path, command: list[str], bar: str, said: str) -> None:
    files = {"OUT": tmp_path / "snapshot.json", "TOML": tmp_path / "candidate.toml"}
    files["TOML"].write_text('[settings]\nalgorithm = "linucb"\n')
    files["OUT"].write_text("what was there before")
    arguments = [files.get(part, part) for part in command]
    line = interrupted(*arguments, "--policy", POLICY, "--path", busy, when=lambda shown: bar in shown)
    assert line.startswith(f"interrupted: {said}") and "\n" not in line
    assert files["OUT"].read_text() == "what was there before"
    assert {path.name for path in tmp_path.iterdir()} == {"snapshot.json", "candidate.toml"}


def test_an_output_that_cannot_be_written_whole_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, link = tmp_path / "snapshot.json", tmp_path / "link"
    link.symlink_to(file)
    replay_command._write(link, b"old")
    assert link.is_symlink() and file.read_bytes() == b"old"

    def half(path: Path, content: bytes) -> None:
        path.open("wb").write(content[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        replay_command._write(link, b"new and longer")
    assert file.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [link, file]


@pytest.mark.process
def test_an_interrupted_archive_and_restore_are_finished_by_another_run(long: Path, tmp_path: Path) -> None:
    archive, restored = tmp_path / "archive", tmp_path / "restored"
    line = interrupted(
        *("archive", "--path", long, "--to", archive), when=lambda _: any(archive.glob("partition-*/*.parquet"))
    )
    assert line.startswith("interrupted: archived at least") and line.endswith("run the command again to continue")
    history = Archive(archive).partition(0)
    assert 50_000 <= history.end < 200_000 and sum(1 for _ in history) == history.end
    run("archive", "--path", long, "--to", archive)
    whole = events(long)
    assert list(Archive(archive).partition(0)) == whole
    assert not list(archive.rglob("*.partial"))

    def is_filling(_: str) -> bool:
        return (restored / "log.sqlite3").exists() and size(restored) > 0

    line = interrupted("restore", "--from", archive, "--path", restored, when=is_filling)
    assert line.startswith("interrupted: restored at least") and line.endswith("run the command again to continue")
    count = size(restored)
    assert 0 < count < 200_000 and events(restored) == whole[:count]
    assert f"{200_000 - count:,} events restored" in run("restore", "--from", archive, "--path", restored)
    assert events(restored) == whole


@pytest.mark.process
def test_an_interrupted_warm_start_is_finished_by_another_run(tmp_path: Path) -> None:
    file, path = tmp_path / "past.jsonl", tmp_path / "log"
    rows = ({"request_id": f"r{n}", "model_id": f"arm-{n % 3}", "quality": 0.5, "spend": 0.01} for n in range(8_000))
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    arguments = "warm-start", "--policy", POLICY, file, "--path", path

    def is_filling(_: str) -> bool:
        return (path / "log.sqlite3").exists() and size(path) > 0

    line = interrupted(*arguments, when=is_filling)
    assert line.startswith("interrupted: appended at least") and "again with the same files to continue" in line
    some = size(path)
    run(*arguments)
    found = [json.loads(message.value) for message in events(path)]
    decisions = {event["decision_id"] for event in found if event["kind"] == "selection"}
    assert len(decisions) == 8_000 and len(found) == some + 24_000


@pytest.mark.process
def test_interrupted_dead_letters_are_tried_by_another_run(tmp_path: Path) -> None:
    def letter(number: int) -> Message:
        event: Event = selection(f"d{number}")
        record, place = encode(event), f"{TOPICS.events}/0/{number}".encode()
        refused = DeadLetter(
            topic=TOPICS.events,
            partition=0,
            offset=number,
            time_ms=1,
            reason="newer_version",
            message="too new",
            record_key=b"default/chat",
            record=record,
            record_bytes=len(record),
        )
        return Message(place, encode(refused))

    with opened(tmp_path) as log:
        log.append(TOPICS.dead_letters, [letter(number) for number in range(10_000)])
    arguments = "dead-letters", "replay", "--yes", "--path", tmp_path
    line = interrupted(*arguments, when=lambda _: size(tmp_path) > 0)
    assert line.startswith("interrupted: appended at least") and "run the command again to continue" in line
    run(*arguments)
    found = [json.loads(message.value)["decision_id"] for message in events(tmp_path)]
    assert set(found) == {f"d{number}" for number in range(10_000)}
    with opened(tmp_path) as log:
        assert all(letter.replayed_at is not None for letter in dead_letters(log))


def test_any_other_command_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(call: Coroutine[object, object, object]) -> None:
        call.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, "run", stopped)
    result = CliRunner().invoke(main, ["topics", "describe"], prog_name="conduit")
    assert (result.exit_code, result.stderr) == (INTERRUPTED, "interrupted: the command did not finish\n")
