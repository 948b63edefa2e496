"""Real learner processes, killed at random, on the embedded log and on a real broker."""

import asyncio
import random
import re
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from learner_traffic import learned, messages, traffic

from conduit_log import EventLog, LogSettings, Message, StoredMessage, open_log
from conduit_schemas import Snapshot, decode_snapshot

pytestmark = pytest.mark.process

POLICIES = ("default/chat", "default/code", "team/chat")
DEADLINE_S = 240.0


@pytest.fixture(params=["embedded", "kafka"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> LogSettings:
    if request.param == "embedded":
        return LogSettings(path=tmp_path / "log", prefix="crash")
    bootstrap: str = request.getfixturevalue("kafka_bootstrap")
    return LogSettings(bootstrap_servers=bootstrap, prefix=f"crash-{uuid.uuid4().hex[:12]}", partitions=2)


class Learner:
    """A ``conduit learner`` in a process of its own."""

    def __init__(self, settings: LogSettings, journal: Path, *options: str) -> None:
        self.journal = journal
        self._where = ["--prefix", settings.prefix]
        if settings.bootstrap_servers:
            self._where += ["--bootstrap-servers", settings.bootstrap_servers]
        else:
            self._where += ["--path", str(settings.path)]
        self._options = options
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        with self.journal.open("ab") as journal:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "conduit_learner", "learner", *self._where, *self._options),
                stderr=journal,
            )

    def started_at(self) -> list[int]:
        """Return the offsets from which the partitions were learned, one per assignment."""
        return [int(found) for found in re.findall(r"learning from offset (\d+)", self.journal.read_text())]

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await self.process.wait()

    async def __aenter__(self) -> "Learner":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self.process.returncode is None:
            await self.end(signal.SIGKILL)


async def everything(log: EventLog, topic: str) -> list[StoredMessage]:
    async with log.reader(topic) as reader:
        ends = dict(await reader.end_offsets())
        found: list[StoredMessage] = []
        unread = {partition for partition, end in ends.items() if end}
        while unread:
            for message in await reader.poll(timeout_s=1.0):
                found.append(message)
                if message.offset >= ends[message.partition] - 1:
                    unread.discard(message.partition)
    return found


@asynccontextmanager
async def published(log: EventLog, topic: str) -> AsyncIterator[dict[str, Snapshot]]:
    """Keep the newest snapshot of every policy, as a plugin does: only larger offsets count."""
    newest: dict[str, Snapshot] = {}

    async def follow() -> None:
        async with log.reader(topic) as reader:
            while True:
                for message in await reader.poll(timeout_s=0.2):
                    snapshot = decode_snapshot(message.value)
                    known = newest.get(snapshot.policy)
                    if known is not None and known.offset == snapshot.offset:
                        assert known.hash == snapshot.hash, "two snapshots of one position differ"
                    if known is None or snapshot.offset > known.offset:
                        newest[snapshot.policy] = snapshot

    task = asyncio.create_task(follow())
    try:
        yield newest
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_selections(newest: dict[str, Snapshot], wanted: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while sum(snapshot.selections for snapshot in newest.values()) < wanted:
        assert time.monotonic() < deadline, {name: snapshot.selections for name, snapshot in newest.items()}
        await asyncio.sleep(0.02)


async def until_at_work(learner: Learner, assignments: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while len(learner.started_at()) <= assignments:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def until_checkpointed(log: EventLog, settings: LogSettings) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not any(
        end
        for topic in await log.describe()
        if topic.name == settings.topics.checkpoints
        for end in topic.end_offsets.values()
    ):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def replayed(log: EventLog, settings: LogSettings, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot of an undisturbed learner at the same position."""
    events = [
        message
        for message in await everything(log, settings.topics.events)
        if message.partition == snapshot.partition and message.offset < snapshot.offset
    ]
    return learned(events, snapshot.partition).snapshot(snapshot.policy)


async def test_killed_again_and_again_it_ends_where_an_undisturbed_learner_does(
    settings: LogSettings, tmp_path: Path
) -> None:
    events = messages(traffic(2_500, policies=POLICIES))
    rng = random.Random(7)
    options = ("--snapshot-every-events", "20", "--checkpoint-every-events", "150")
    async with (
        open_log(settings) as log,
        Learner(settings, tmp_path / "journal", *options) as learner,
    ):
        await log.create_topics()
        async with published(log, settings.topics.snapshots) as newest:
            # A broker gives up on a killed member only after its session timeout.
            size = len(events) // (2 if settings.bootstrap_servers else 5)
            for start in range(0, len(events), size):
                part = events[start : start + size]
                seen = sum(snapshot.selections for snapshot in newest.values())
                await log.append(settings.topics.events, part[:500])
                await until_selections(newest, seen + 1)
                await until_checkpointed(log, settings)
                feed = asyncio.create_task(trickle(log, settings.topics.events, part[500:]))
                await asyncio.sleep(rng.uniform(0.0, 0.6))
                await learner.end(signal.SIGKILL)
                await feed
                before = len(learner.started_at())
                await learner.start()
            await until_selections(newest, 2_500)
            await until_at_work(learner, before)
            assert await learner.end(signal.SIGTERM) == 0
            await asyncio.sleep(0.5)
        assert set(newest) == set(POLICIES)
        for snapshot in newest.values():
            assert (await replayed(log, settings, snapshot)).hash == snapshot.hash
        assert max(learner.started_at()) > 0, "every process started from the beginning"
        for message in await everything(log, settings.topics.snapshots):
            snapshot = decode_snapshot(message.value)
            assert snapshot.hash == newest[snapshot.policy].hash or snapshot.offset < newest[snapshot.policy].offset


async def trickle(log: EventLog, topic: str, events: list[Message]) -> None:
    for start in range(0, len(events), 25):
        await log.append(topic, events[start : start + 25])
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)  # on Kafka, test_scale_out covers this
async def test_another_learner_takes_over_and_nothing_is_lost(settings: LogSettings, tmp_path: Path) -> None:
    events = messages(traffic(1_200, policies=POLICIES))
    options = ("--checkpoint-every-events", "100")
    async with (
        open_log(settings) as log,
        Learner(settings, tmp_path / "first", *options) as first,
        Learner(settings, tmp_path / "second", *options) as second,
    ):
        await log.create_topics()
        async with published(log, settings.topics.snapshots) as newest:
            await log.append(settings.topics.events, events[:1_000])
            await until_selections(newest, 300)
            await first.end(signal.SIGTERM)
            await log.append(settings.topics.events, events[1_000:])
            await until_selections(newest, 1_200)
            assert await second.end(signal.SIGTERM) == 0
        for snapshot in newest.values():
            assert (await replayed(log, settings, snapshot)).hash == snapshot.hash
