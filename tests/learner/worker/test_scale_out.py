"""Many policies on many partitions, shared by several workers that come and go, on a real broker."""

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from learner_traffic import messages, traffic

from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.worker.run import WorkerOptions, run_worker
from conduit_learner.worker.status import WorkerStatus
from conduit_log import EventLog, LogSettings, StoredMessage, open_log
from conduit_schemas import Snapshot, decode_snapshot

pytestmark = pytest.mark.process

POLICIES = tuple(f"team{number % 3}/group{number}" for number in range(30))
PARTITIONS = 12
DECISIONS = 2_400
DEADLINE_S = 240.0


@pytest.fixture
def settings(kafka_bootstrap: str) -> LogSettings:
    return LogSettings(
        bootstrap_servers=kafka_bootstrap,
        prefix=f"scale-{uuid.uuid4().hex[:8]}",
        partitions=PARTITIONS,
        session_timeout_s=6.0,
    )


@asynccontextmanager
async def worker(settings: LogSettings) -> AsyncIterator[WorkerStatus]:
    """Run a worker with connections of its own, and stop it properly at the end."""
    status, stop = WorkerStatus(), asyncio.Event()
    options = WorkerOptions(snapshot_every_events=10, checkpoint_every_events=50)
    async with open_log(settings) as log:
        task = asyncio.create_task(run_worker(log, topics=settings.topics, stop=stop, options=options, status=status))
        try:
            yield status
        finally:
            stop.set()
            await task


async def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.02)


async def everything(log: EventLog, topic: str) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    async with log.reader(topic) as reader:
        left = {number: end for number, end in (await reader.end_offsets()).items() if end}
        while left:
            for message in await reader.poll(timeout_s=1.0):
                found.append(message)
                if message.offset >= left.get(message.partition, 0) - 1:
                    left.pop(message.partition, None)
    return found


async def newest(log: EventLog, topic: str) -> dict[str, Snapshot]:
    """Return every policy's furthest snapshot, as a plugin would keep it; equal positions must have equal hashes."""
    found: dict[str, Snapshot] = {}
    for message in await everything(log, topic):
        snapshot = decode_snapshot(message.value)
        known = found.get(snapshot.policy)
        assert known is None or known.offset != snapshot.offset or known.hash == snapshot.hash
        if known is None or snapshot.offset > known.offset:
            found[snapshot.policy] = snapshot
    return found


def owners(*workers: WorkerStatus) -> list[int]:
    return sorted(number for status in workers for number in status.partitions)


async def test_workers_come_and_go_and_every_policy_ends_as_if_there_had_been_one(settings: LogSettings) -> None:
    events = messages(traffic(DECISIONS, policies=POLICIES))
    size = len(events) // 3 + 1
    parts = [events[start : start + size] for start in range(0, len(events), size)]
    async with open_log(settings) as log, AsyncExitStack() as stack:
        await log.create_topics()
        feeding: asyncio.Task[None] | None = None

        async def feed(number: int) -> None:
            for start in range(0, len(parts[number]), 40):
                await log.append(settings.topics.events, parts[number][start : start + 40])
                await asyncio.sleep(0.005)

        # Two workers share; a third, in a separate process, will be killed.
        first, second = [await stack.enter_async_context(worker(settings)) for _ in range(2)]
        lost = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "conduit_learner", "learner", "--prefix", settings.prefix),
            *("--bootstrap-servers", str(settings.bootstrap_servers), "--checkpoint-every-events", "50"),
        )
        try:
            await until(
                lambda: 0 < len(owners(first, second)) < PARTITIONS and bool(first.partitions and second.partitions),
                lambda: (owners(first), owners(second)),
            )
            feeding = asyncio.create_task(feed(0))
            await until(lambda: first.events > 0 and second.events > 0, lambda: (first.events, second.events))
            await feeding
        finally:
            lost.kill()
            await lost.wait()
        # Under load again: others take over its partitions, and a new worker gets its share.
        feeding = asyncio.create_task(feed(1))
        third = await stack.enter_async_context(worker(settings))
        kept = {number: partition.learner for number, partition in first.partitions.items()}
        await until(
            lambda: (
                owners(first, second, third) == list(range(PARTITIONS))
                and all(status.partitions for status in (first, second, third))
            ),
            lambda: [owners(status) for status in (first, second, third)],
        )
        # Partitions that kept their owner were not restored, although the protocol revokes and reassigns all.
        assert any(partition.learner is kept.get(number) for number, partition in first.partitions.items())
        await feeding
        await feed(2)
        stored = await everything(log, settings.topics.events)
        last = {message.key.decode(): message.offset + 1 for message in stored}
        assert set(last) == set(POLICIES) and len({message.partition for message in stored}) > PARTITIONS // 2
        await until(
            lambda: (
                all(
                    partition.learner.offset >= 1 + max(m.offset for m in stored if m.partition == number)
                    for status in (first, second, third)
                    for number, partition in status.partitions.items()
                    if any(m.partition == number for m in stored)
                )
                and owners(first, second, third) == list(range(PARTITIONS))
            ),
            lambda: [owners(status) for status in (first, second, third)],
        )
        await stack.aclose()  # each publishes what it has
        found = await newest(log, settings.topics.snapshots)
    assert set(found) == set(POLICIES)
    for number in range(PARTITIONS):
        learner = PartitionLearner(number, settings.topics.events)
        for message in sorted((m for m in stored if m.partition == number), key=lambda m: m.offset):
            learner.apply(message)
        for policy in learner.policies:
            snapshot = found[policy]
            assert snapshot.offset >= last[policy]
            undisturbed = learner.snapshot(policy)
            assert (snapshot.selections, snapshot.outcomes, snapshot.feedbacks, snapshot.arms) == (
                *(undisturbed.selections, undisturbed.outcomes, undisturbed.feedbacks),
                undisturbed.arms,
            )
            if snapshot.offset == undisturbed.offset:
                assert snapshot.hash == undisturbed.hash
