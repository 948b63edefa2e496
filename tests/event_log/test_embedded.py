"""Promises of the embedded log alone: several processes, sudden death, and errors that say what to do."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import conduit_log.sqlite
from conduit_log import LogSettings, LogUnavailableError, Message, StoredMessage, open_log
from conduit_log.embedded import EmbeddedLog
from conduit_schemas import ConfigurationError, Topics

TOPICS = Topics()
EVENTS = TOPICS.events
WRITER = Path(__file__).with_name("writer.py")


async def everything(log: EmbeddedLog, topic: str = EVENTS) -> list[StoredMessage]:
    async with log.reader(topic) as reader:
        messages: list[StoredMessage] = []
        while found := await reader.poll(timeout_s=0.0):
            messages += found
        return messages


async def read_folder(folder: Path) -> list[StoredMessage]:
    async with EmbeddedLog(folder, topics=TOPICS) as log:
        return await everything(log)


@contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(WRITER), *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def numbers(messages: list[StoredMessage], key: bytes) -> list[int]:
    return [int(message.value) for message in messages if message.key == key]


@pytest.mark.process
def test_sudden_death_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    chance = random.Random(5)
    start = 0
    for _ in range(5):
        with process("append", tmp_path, "k", start, 10**9) as child:
            assert line(child) == "ready"
            confirmed = start
            for _ in range(chance.randrange(1, 60)):
                confirmed = int(line(child))
            child.kill()
            child.wait()
            assert child.stdout is not None
            # What it printed between the last look and its death counts as well.
            confirmed = max([confirmed, *(int(text) for text in child.stdout.read().split("\n")[:-1])])
        messages = asyncio.run(read_folder(tmp_path))
        stored = numbers(messages, b"k")
        assert stored == list(range(len(stored)))
        assert confirmed <= len(stored) <= confirmed + 17  # one unconfirmed batch at most
        assert [message.offset for message in messages] == stored
        start = len(stored)
    with closing(sqlite3.connect(tmp_path / "log.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.process
def test_processes_append_at_once(tmp_path: Path) -> None:
    with (
        process("append", tmp_path, "a", 0, 500) as one,
        process("append", tmp_path, "b", 0, 500) as two,
        process("append", tmp_path, "c", 0, 500) as three,
    ):
        assert [child.wait(240) for child in (one, two, three)] == [0, 0, 0]
    messages = asyncio.run(read_folder(tmp_path))
    assert [message.offset for message in messages] == list(range(1500))
    for key in (b"a", b"b", b"c"):
        assert numbers(messages, key) == list(range(500))


@pytest.mark.process
async def test_the_partition_passes_on_when_its_owner_is_killed(tmp_path: Path) -> None:
    gained: list[int] = []

    async def assigned(partitions: Collection[int]) -> Mapping[int, int]:
        gained.extend(partitions)
        return {0: 2}

    async def revoked(partitions: Collection[int]) -> None:
        raise AssertionError

    with process("own", tmp_path) as owner:
        assert await asyncio.to_thread(line, owner) == "owned"
        async with EmbeddedLog(tmp_path, topics=TOPICS) as log:
            await log.append(EVENTS, [Message(b"k", b"%d" % number) for number in range(4)])
            async with log.group_reader(EVENTS, "g", on_assigned=assigned, on_revoked=revoked) as reader:
                assert await reader.poll(timeout_s=1.5) == []
                assert (gained, list(reader.owned)) == ([], [])
                owner.kill()
                messages = await reader.poll(timeout_s=180.0)
    assert gained == [0]
    assert [message.offset for message in messages] == [2, 3]


@pytest.mark.process
async def test_other_processes_appends_are_seen(tmp_path: Path) -> None:
    async with EmbeddedLog(tmp_path, topics=TOPICS) as log, log.reader(EVENTS) as reader:
        with process("append", tmp_path, "k", 0, 5):
            seen: list[StoredMessage] = []
            while len(seen) < 5:
                found = await reader.poll(timeout_s=180.0)
                assert found
                seen += found
    assert numbers(seen, b"k") == [0, 1, 2, 3, 4]


async def test_a_folder_may_be_entered_by_many_at_the_moment_it_is_made(tmp_path: Path) -> None:
    for attempt in range(12):
        logs = [EmbeddedLog(tmp_path / str(attempt), topics=TOPICS) for _ in range(8)]
        await asyncio.gather(*(log.__aenter__() for log in logs))
        await asyncio.gather(*(log.append(EVENTS, [Message(b"k", b"")]) for log in logs))
        assert [message.offset for message in await everything(logs[0])] == list(range(8))
        await asyncio.gather(*(log.__aexit__() for log in logs))


async def test_time_never_runs_backwards(tmp_path: Path) -> None:
    times = iter([100.0, 50.0, 100.5])
    async with EmbeddedLog(tmp_path, topics=TOPICS, clock=lambda: next(times)) as log:
        for _ in range(3):
            await log.append(EVENTS, [Message(b"k", b"")])
        assert [message.time_ms for message in await everything(log)] == [100_000, 100_000, 100_500]


async def test_events_beyond_the_number_kept_are_removed_and_their_offsets_never_used_again(
    tmp_path: Path,
) -> None:
    async with EmbeddedLog(tmp_path, topics=TOPICS, max_events=10) as log:
        for start in range(0, 60, 5):
            await log.append(EVENTS, [Message(b"k", b"%d" % number) for number in range(start, start + 5)])
            await log.append(TOPICS.snapshots, [Message(b"%d" % start, b"kept")])
        messages = await everything(log)
        assert [message.offset for message in messages] == list(range(50, 60))
        assert len(await everything(log, TOPICS.snapshots)) == 12  # compacted topics keep every key
        async with log.reader(EVENTS) as reader:
            await reader.seek(0, 7)  # removed: the oldest that is left comes first
            assert (await reader.poll(timeout_s=0.0))[0].offset == 50
            assert await reader.end_offsets() == {0: 60}


async def test_events_beyond_the_age_kept_are_removed(tmp_path: Path) -> None:
    times = iter([1000.0, 1050.0, 1060.0, 1060.001, 5000.0])
    async with EmbeddedLog(tmp_path, topics=TOPICS, retention_s=60.0, clock=lambda: next(times)) as log:
        for _ in range(4):
            await log.append(EVENTS, [Message(b"k", b"")])
        assert [message.time_ms for message in await everything(log)] == [1050_000, 1060_000, 1060_001]
        await log.append(EVENTS, [Message(b"k", b"")])
        assert [message.offset for message in await everything(log)] == [4]
    async with EmbeddedLog(tmp_path, topics=TOPICS, retention_s=None, clock=lambda: 1e9) as log:
        await log.append(EVENTS, [Message(b"k", b"")])
        assert [message.offset for message in await everything(log)] == [4, 5]


async def test_a_backlog_beyond_the_bound_goes_slice_by_slice(tmp_path: Path) -> None:
    async with EmbeddedLog(tmp_path, topics=TOPICS) as log:
        await log.append(EVENTS, [Message(b"k", b"")] * 2500)
    async with EmbeddedLog(tmp_path, topics=TOPICS, max_events=100) as log:
        first = []
        for _ in range(4):
            await log.append(EVENTS, [Message(b"k", b"")])
            first.append((await everything(log))[0].offset)
    assert first == [1000, 2000, 2403, 2404]


async def test_the_event_loop_goes_on_while_another_process_holds_the_file(tmp_path: Path) -> None:
    async with EmbeddedLog(tmp_path, topics=TOPICS) as log:
        with closing(sqlite3.connect(log.path / "log.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            appending = asyncio.create_task(log.append(EVENTS, [Message(b"k", b"")]))
            await asyncio.sleep(0.2)
            assert not appending.done()
            assert await everything(log) == []  # readers do not wait for writers
            other.execute("ROLLBACK")
            await appending
        assert len(await everything(log)) == 1


async def test_a_file_held_for_too_long_is_reported_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conduit_log.sqlite, "BUSY_S", 0.05)
    async with EmbeddedLog(tmp_path, topics=TOPICS) as log:
        with closing(sqlite3.connect(tmp_path / "log.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnavailableError, match="another process locked it for too long"):
                await log.append(EVENTS, [Message(b"k", b"1")])
            with pytest.raises(LogUnavailableError, match="another process locked it for too long"):
                await EmbeddedLog(tmp_path, topics=Topics("new")).__aenter__()
            async with EmbeddedLog(tmp_path, topics=TOPICS) as reading:  # entering waits for no writer
                assert await everything(reading) == []
            other.execute("ROLLBACK")
        await log.append(EVENTS, [Message(b"k", b"2")])
        assert [message.value for message in await everything(log)] == [b"2"]


async def test_a_full_disk_is_reported_and_leaves_whole_batches(tmp_path: Path) -> None:
    async with EmbeddedLog(tmp_path, topics=TOPICS) as log:
        connection = log._writing._connection
        assert connection is not None
        connection._sql.execute("PRAGMA max_page_count = 60")  # SQLite then fails as on a full disk
        stored = 0
        with pytest.raises(LogUnavailableError, match="free some space"):
            while True:
                await log.append(EVENTS, [Message(b"k", b"x" * 3000)] * 4)
                stored += 4
        assert 0 < stored == len(await everything(log))
        connection._sql.execute("PRAGMA max_page_count = 100000")
        await log.append(EVENTS, [Message(b"k", b"x")])
        assert [message.offset for message in await everything(log)] == list(range(stored + 1))


async def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be created.*CONDUIT_HOME"):
        await EmbeddedLog(tmp_path / "file" / "log", topics=TOPICS).__aenter__()


async def test_a_file_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite3").mkdir()
    with pytest.raises(ConfigurationError, match=r"unable to open database file.*CONDUIT_HOME"):
        await EmbeddedLog(tmp_path, topics=TOPICS).__aenter__()


async def test_a_file_that_is_not_sqlite_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite3").write_bytes(b"hello, I am a text file " * 200)
    with pytest.raises(ConfigurationError, match=r"not a database.*move it away"):
        await EmbeddedLog(tmp_path, topics=TOPICS).__aenter__()
    assert (tmp_path / "log.sqlite3").read_bytes().startswith(b"hello")


async def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "log.sqlite3")) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(ConfigurationError, match="another program"):
        await EmbeddedLog(tmp_path, topics=TOPICS).__aenter__()
    with closing(sqlite3.connect(tmp_path / "log.sqlite3")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


async def test_a_file_of_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    async with EmbeddedLog(tmp_path, topics=TOPICS):
        pass
    with closing(sqlite3.connect(tmp_path / "log.sqlite3")) as newer:
        newer.execute("PRAGMA user_version = 2")
    with pytest.raises(ConfigurationError, match=r"format 2.*upgrade"):
        await EmbeddedLog(tmp_path, topics=TOPICS).__aenter__()
    with closing(sqlite3.connect(tmp_path / "log.sqlite3")) as newer:
        assert newer.execute("PRAGMA user_version").fetchone() == (2,)


async def test_a_file_removed_while_in_use_is_noticed(tmp_path: Path) -> None:
    async with EmbeddedLog(tmp_path, topics=TOPICS) as log:
        await log.append(EVENTS, [Message(b"k", b"")])
        (tmp_path / "log.sqlite3").rename(tmp_path / "elsewhere")
        with pytest.raises(LogUnavailableError, match="removed or replaced"):
            await log.append(EVENTS, [Message(b"k", b"")])


async def test_the_log_works_between_entering_and_leaving_only(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path, topics=TOPICS)
    for _ in range(2):
        with pytest.raises(LogUnavailableError, match="async with"):
            await log.append(EVENTS, [Message(b"k", b"")])
        async with log:
            await log.append(EVENTS, [Message(b"k", b"")])
    assert len(await read_folder(tmp_path)) == 2


async def test_installations_share_a_folder(tmp_path: Path) -> None:
    other = Topics("team-b")
    async with EmbeddedLog(tmp_path, topics=TOPICS) as ours, EmbeddedLog(tmp_path, topics=other) as theirs:
        await ours.append(EVENTS, [Message(b"k", b"ours")])
        await theirs.append(other.events, [Message(b"k", b"theirs")])
        assert [message.value for message in await everything(ours)] == [b"ours"]
        (message,) = await everything(theirs, other.events)
        assert (message.offset, message.value) == (0, b"theirs")


async def test_prefixes_that_differ_in_case_only_are_told_apart(tmp_path: Path) -> None:
    async with EmbeddedLog(tmp_path, topics=Topics("team")) as log:
        await log.append("team.events", [Message(b"k", b"")])
        with pytest.raises(ConfigurationError, match="'Team' only in case"):
            await EmbeddedLog(tmp_path, topics=Topics("Team")).__aenter__()
        assert len(await everything(log, "team.events")) == 1


async def test_settings_without_brokers_open_the_embedded_log(tmp_path: Path) -> None:
    async with open_log(LogSettings(path=tmp_path, prefix="team", event_retention_s=60.0)) as log:
        assert isinstance(log, EmbeddedLog)
        assert (log.path, log.topics) == (tmp_path, Topics("team"))
        assert (await log.describe())[0].settings["retention.s"] == "60"


def test_partitions_and_groups_that_cannot_exist_are_refused(tmp_path: Path) -> None:
    async def assigned(partitions: Collection[int]) -> Mapping[int, int]:
        raise AssertionError

    async def revoked(partitions: Collection[int]) -> None:
        raise AssertionError

    log = EmbeddedLog(tmp_path, topics=TOPICS)
    with pytest.raises(ConfigurationError, match=r"has only partition 0, not \[1\]"):
        log.reader(EVENTS, partitions=[0, 1])
    with pytest.raises(ConfigurationError, match=r"group name '\.\./g'"):
        log.group_reader(EVENTS, "../g", on_assigned=assigned, on_revoked=revoked)


async def test_a_lock_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    async def assigned(partitions: Collection[int]) -> Mapping[int, int]:
        raise AssertionError

    async def revoked(partitions: Collection[int]) -> None:
        raise AssertionError

    async with EmbeddedLog(tmp_path, topics=TOPICS) as log:
        (tmp_path / f"{EVENTS}.g.lock").mkdir()
        async with log.group_reader(EVENTS, "g", on_assigned=assigned, on_revoked=revoked) as reader:
            with pytest.raises(LogUnavailableError, match=r"g\.lock"):
                await reader.poll(timeout_s=0.0)


FORKING = """
import asyncio, os, sys, threading
from pathlib import Path
from conduit_log import Message
from conduit_log.embedded import EmbeddedLog
from conduit_schemas import Topics

TOPICS, PATH = Topics(), Path(sys.argv[1])


def in_child(reading, writing):
    async def work():
        async with EmbeddedLog(PATH, topics=TOPICS) as log:
            await log.append(TOPICS.events, [Message(b"child", b"1")])
            os.write(writing, b"x")
            os.read(reading, 1)
            await log.append(TOPICS.events, [Message(b"child", b"2")])
            os._exit(0)  # like a kill: nothing is closed properly

    threading.Thread(target=lambda: asyncio.run(work())).start()


async def main():
    to_child, to_parent = os.pipe(), os.pipe()
    async with EmbeddedLog(PATH, topics=TOPICS) as log:
        await log.append(TOPICS.events, [Message(b"parent", b"1")])
        child = os.fork()
        if child == 0:
            in_child(to_child[0], to_parent[1])
            threading.Event().wait()
        await asyncio.to_thread(os.read, to_parent[0], 1)
        await log.append(TOPICS.events, [Message(b"parent", b"2")])
    os.write(to_child[1], b"x")
    assert os.waitpid(child, 0)[1] == 0


asyncio.run(main())
"""


@pytest.mark.process
async def test_a_fork_loses_nothing_that_either_side_appends(tmp_path: Path) -> None:
    # A fork copies what SQLite knows about its locks, but not the locks. With a connection open at that moment, the
    # parent's last close removes the write-ahead log that the child is writing to.
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", FORKING, str(tmp_path)], check=True, timeout=240)
    async with EmbeddedLog(tmp_path, topics=TOPICS) as log, log.reader(TOPICS.events) as reader:
        stored = [(message.key, message.value) for message in await reader.poll(timeout_s=1)]
    assert stored == [(b"parent", b"1"), (b"child", b"1"), (b"parent", b"2"), (b"child", b"2")]
