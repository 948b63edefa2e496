"""The worker in this process, on the in-memory and the embedded log, with failures."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from learner_traffic import POLICY, learned, messages, outcome, selection, traffic

from conduit_learner.worker.run import WorkerOptions, run_worker
from conduit_log import EventLog, LogUnavailableError, Message, StoredMessage
from conduit_log.embedded import EmbeddedLog
from conduit_log.memory import MemoryLog
from conduit_schemas import DeadLetter, Snapshot, Topics, decode_snapshot

TOPICS = Topics("test")
DEADLINE_S = 180.0
EAGER = WorkerOptions(snapshot_every_events=1, checkpoint_every_events=1, retry_s=0.01, retry_max_s=0.02)
LAZY = WorkerOptions(snapshot_every_s=3600.0, checkpoint_every_s=3600.0, checkpoint_every_events=10**9, retry_s=0.01)


class FlakyLog(MemoryLog):
    """A log that fails on demand."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(TOPICS, **kwargs)
        self.fails: Callable[[str], bool] = lambda what: False
        self.appended: list[tuple[str, Message]] = []

    async def create_topics(self) -> None:
        self._maybe_fail("create")

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        self._maybe_fail(topic)
        await super().append(topic, messages)
        self.appended += [(topic, message) for message in messages]

    def reader(self, topic: str, *, partitions: Collection[int] | None = None) -> Any:
        reader = super().reader(topic, partitions=partitions)
        poll = reader.poll

        async def maybe_poll(**kwargs: Any) -> list[StoredMessage]:
            self._maybe_fail(f"read {topic}")
            return await poll(**kwargs)

        reader.poll = maybe_poll  # type: ignore[method-assign]  # this one reader fails, its class does not
        return reader

    def group_reader(self, topic: str, group: str, **callbacks: Any) -> Any:
        reader = super().group_reader(topic, group, **callbacks)
        poll = reader.poll

        async def maybe_poll(**kwargs: Any) -> list[StoredMessage]:
            self._maybe_fail("poll")
            return await poll(**kwargs)

        reader.poll = maybe_poll  # type: ignore[method-assign]  # this one reader fails, its class does not
        return reader

    def _maybe_fail(self, what: str) -> None:
        if self.fails(what):
            raise LogUnavailableError(f"{what}: away")


@asynccontextmanager
async def working(log: EventLog, options: WorkerOptions = EAGER) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    worker = asyncio.create_task(run_worker(log, topics=TOPICS, stop=stop, options=options))
    try:
        yield worker
    finally:
        stop.set()
        await asyncio.wait_for(worker, DEADLINE_S)


@asynccontextmanager
async def killed(log: EventLog, options: WorkerOptions = EAGER) -> AsyncIterator[None]:
    """A worker that ends without writing anything."""
    worker = asyncio.create_task(run_worker(log, topics=TOPICS, stop=asyncio.Event(), options=options))
    yield
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def everything(log: EventLog, topic: str) -> list[StoredMessage]:
    async with log.reader(topic) as reader:
        found: list[StoredMessage] = []
        while more := await reader.poll(timeout_s=0.0):
            found += more
    return found


async def snapshots(log: EventLog) -> dict[str, Snapshot]:
    stored = [decode_snapshot(message.value) for message in await everything(log, TOPICS.snapshots)]
    return {snapshot.policy: snapshot for snapshot in stored}


async def checkpoint_roots(log: EventLog) -> set[bytes]:
    """The root, which is written after the parts and makes a checkpoint valid."""
    return {message.key for message in await everything(log, TOPICS.checkpoints) if message.key.count(b"/") == 1}


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def until_learned(log: EventLog, decisions: int) -> None:
    async def done() -> bool:
        return sum(snapshot.selections for snapshot in (await snapshots(log)).values()) >= decisions

    await until(done)


async def assert_exact(log: EventLog) -> None:
    """Every published snapshot equals that of an undisturbed learner at the same position."""
    events = await everything(log, TOPICS.events)
    for snapshot in (await snapshots(log)).values():
        prefix = [m for m in events if m.partition == snapshot.partition and m.offset < snapshot.offset]
        assert learned(prefix, snapshot.partition).snapshot(snapshot.policy).hash == snapshot.hash


@pytest.fixture(params=["memory", "embedded"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    made: EventLog = (
        MemoryLog(TOPICS, partitions=3) if request.param == "memory" else EmbeddedLog(tmp_path, topics=TOPICS)
    )
    async with made:
        yield made


async def test_learns_publishes_and_leaves_a_checkpoint(log: EventLog) -> None:
    async with working(log, LAZY):
        await log.append(TOPICS.events, messages(traffic(200, policies=("a/a", "b/b", "c/c"))))
        await until_learned(log, 1)
    assert sum(snapshot.selections for snapshot in (await snapshots(log)).values()) == 200
    assert await everything(log, TOPICS.checkpoints)
    await assert_exact(log)


async def test_the_first_snapshot_of_a_policy_comes_at_once(log: EventLog) -> None:
    async with working(log, LAZY):
        await log.append(TOPICS.events, messages([selection("d1")]))
        await until_learned(log, 1)


async def test_snapshots_come_by_count() -> None:
    log = FlakyLog()
    async with working(log, WorkerOptions(snapshot_every_events=10, snapshot_every_s=3600.0)):
        await log.append(TOPICS.events, messages([selection("d1")]))
        await until_learned(log, 1)
        for number in range(2, 60):
            await log.append(TOPICS.events, messages([selection(f"d{number}"), outcome(f"d{number}")]))
            await asyncio.sleep(0.002)

        async def many() -> bool:
            return (await snapshots(log))[POLICY].outcomes >= 10

        await until(many)
    published = [decode_snapshot(message.value) for topic, message in log.appended if topic == TOPICS.snapshots]
    gaps = [after.outcomes - before.outcomes for before, after in pairwise(published)]
    assert all(gap >= 10 for gap in gaps[:-1])  # the last one is written when it stops
    assert sorted(published, key=lambda snapshot: snapshot.offset) == published


async def test_snapshots_and_checkpoints_come_by_time() -> None:
    log = FlakyLog()
    options = WorkerOptions(
        snapshot_every_events=10**6, snapshot_every_s=0.05, checkpoint_every_events=10**6, checkpoint_every_s=0.05
    )
    async with working(log, options):
        await log.append(TOPICS.events, messages([selection("d1")]))
        await until_learned(log, 1)
        await log.append(TOPICS.events, messages([selection("d2")]))
        await until_learned(log, 2)

        async def kept() -> bool:
            return bool(await everything(log, TOPICS.checkpoints))

        await until(kept)


async def test_a_killed_worker_is_continued_from_its_checkpoint(
    log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    events = messages(traffic(300, policies=("a/a", "b/b")))
    for start in range(0, len(events), 150):
        async with killed(log):
            await log.append(TOPICS.events, events[start : start + 150])
            expected = sum(b'"kind":"selection"' in message.value for message in events[: start + 150])
            await until_learned(log, expected - 10)
            await until(lambda: checkpoint_roots(log))
    async with working(log):
        await until_learned(log, 300)
    await assert_exact(log)
    resumed = [record.args[1] for record in caplog.records if "learning from" in record.message and record.args]
    assert max(resumed) > 0


async def test_two_workers_share_and_take_over() -> None:
    log = FlakyLog(partitions=4)
    policies = tuple(f"team/{number}" for number in range(12))
    events = messages(traffic(400, policies=policies))
    async with working(log):
        await log.append(TOPICS.events, events[:300])
        await until_learned(log, 50)
        async with working(log):
            await log.append(TOPICS.events, events[300:700])
            await until_learned(log, 200)
        await log.append(TOPICS.events, events[700:])
        await until_learned(log, 400)
    assert set(await snapshots(log)) == set(policies)
    await assert_exact(log)


async def test_unusable_records_become_dead_letters_at_their_position(log: EventLog) -> None:
    async with killed(log):
        await log.append(TOPICS.events, [Message(POLICY.encode(), b"not an event"), *messages(traffic(20))])
        await until_learned(log, 15)
    async with working(log):
        await log.append(TOPICS.events, [Message(POLICY.encode(), b"{}"), *messages(traffic(20, first=20))])
        await until_learned(log, 40)
    stored = await everything(log, TOPICS.dead_letters)
    letters = {message.key: DeadLetter.model_validate_json(message.value) for message in stored}
    assert [letter.record for letter in sorted(letters.values(), key=lambda letter: letter.offset)] == [
        b"not an event",
        b"{}",
    ]
    for key, letter in letters.items():
        assert key == f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
        assert (letter.topic, letter.reason) == (TOPICS.events, "invalid")


@pytest.mark.parametrize("what", ["create", "poll", TOPICS.snapshots, TOPICS.checkpoints, TOPICS.dead_letters])
async def test_while_the_log_is_away_nothing_is_lost_and_one_line_says_so(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = FlakyLog()
    failures = 0

    def fails(call: str) -> bool:
        nonlocal failures
        failures += call == what and failures < 20
        return call == what and failures < 20

    async with working(log):
        if what != "create":
            await log.append(TOPICS.events, messages(traffic(30)))
            await until_learned(log, 30)
        log.fails = fails
        await log.append(TOPICS.events, [Message(POLICY.encode(), b"bad"), *messages(traffic(30, first=30))])
        await until_learned(log, 30 if what == "create" else 60)

        async def whole() -> bool:
            return bool(await everything(log, TOPICS.dead_letters) and await everything(log, TOPICS.checkpoints))

        await until(whole)
        if what != "create":

            async def recovered() -> bool:
                return failures >= 20

            await until(recovered)
    if what != "create":
        assert [record.levelname for record in caplog.records if "away" in record.message] == ["WARNING"]
    await assert_exact(log)


async def test_an_assignment_waits_for_the_checkpoints_to_be_readable() -> None:
    log = FlakyLog()
    async with working(log):
        await log.append(TOPICS.events, messages(traffic(50)))
        await until_learned(log, 50)
    remaining = 5

    def fails(call: str) -> bool:
        nonlocal remaining
        remaining -= call.startswith("read ")
        return call.startswith("read ") and remaining > 0

    log.fails = fails
    await log.append(TOPICS.events, messages(traffic(50, first=50)))
    async with working(log):
        await asyncio.sleep(0.2)
        log.fails = lambda call: False
        await until_learned(log, 100)
    await assert_exact(log)


async def test_it_leaves_even_when_the_log_does_not_come_back() -> None:
    log = FlakyLog()
    async with working(log):
        await log.append(TOPICS.events, messages(traffic(20)))
        await until_learned(log, 20)
        log.fails = lambda call: True
        await asyncio.sleep(0.05)


async def test_a_log_that_began_anew_is_learned_anew(caplog: pytest.LogCaptureFixture) -> None:
    old = FlakyLog()
    async with working(old):
        await old.append(TOPICS.events, messages(traffic(100)))
        await until_learned(old, 100)
    kept = [Message(message.key, message.value) for message in await everything(old, TOPICS.checkpoints)]
    for count, complaint in ((50, "the log ends at offset"), (150, "so this is a different log")):
        new = FlakyLog()
        await new.append(TOPICS.checkpoints, kept)
        await new.append(TOPICS.events, messages(traffic(count, seed=4)))
        async with working(new):
            await until_learned(new, count)
        assert complaint in caplog.text
        await assert_exact(new)


async def test_a_worker_that_is_behind_spends_its_time_on_catching_up() -> None:
    policies = [f"default/{number}" for number in range(20)]
    async with FlakyLog() as log:
        await log.append(TOPICS.events, messages(traffic(2_000, policies=policies)))
        length = len(await everything(log, TOPICS.events))
        async with working(log):
            await until_learned(log, 2_000)
        published = [decode_snapshot(message.value) for topic, message in log.appended if topic == TOPICS.snapshots]
        # At most one snapshot after each full batch, and one of everything at the end.
        batches = length // 1_000
        assert sum(snapshot.offset <= 1_000 * batches for snapshot in published) <= batches
        assert {snapshot.policy for snapshot in published} == set(policies)
        await assert_exact(log)
