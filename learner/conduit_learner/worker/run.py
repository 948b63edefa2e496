"""The worker: reads its share of the event log, publishes snapshots and writes checkpoints."""

import asyncio
import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from conduit_learner.core.checkpoint import CheckpointWriter
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.worker.recovery import Recovery, RecoveryStoppedError
from conduit_learner.worker.status import WorkerStatus
from conduit_log import EventLog, GroupReader, LogUnavailableError, Message, StoredMessage
from conduit_policy import SIGNALS, title_of
from conduit_schemas import ConduitError, DeadLetter, Topics, encode

__all__ = ["WorkerOptions", "run_worker"]

_LOG = logging.getLogger(__name__)
_BATCH = 1_000
"""Messages applied between two checks for what is due."""
_LOOP_ITERATIONS = 10
"""Iterations of the event loop before messages are applied. They let the log's client request the next messages first;
otherwise it would only do so once the worker has run out of work."""
_POLL_S = 0.1
_LAG_EVERY_S = 2.0
_IDLE_PER_BUILD = 10.0
"""After a snapshot, a policy pauses for this many times the time it took to build, so that learning continues."""
_IDLE_PER_SNAPSHOT = 40.0
_IDLE_PER_CHECKPOINT = 40.0
"""While a worker is behind, it pauses between snapshots, and between checkpoints, for this many times the time that
the last one took. It thus spends most of its time catching up, however many policies and partitions are due."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How often a worker writes. No option changes the content of the snapshot at a given offset."""

    snapshot_every_events: int = 100
    """Number of events learned by a policy after which its snapshot is due."""
    snapshot_every_s: float = 1.0
    """Seconds after which a changed policy's snapshot is due."""
    checkpoint_every_events: int = 5_000
    """Number of events of a partition after which its checkpoint is due."""
    checkpoint_every_s: float = 30.0
    """Seconds after which a changed partition's checkpoint is due."""
    retry_s: float = 0.5
    """First pause when the log is unreachable; it doubles up to ``retry_max_s``."""
    retry_max_s: float = 10.0


async def run_worker(
    log: EventLog,
    *,
    topics: Topics,
    stop: asyncio.Event,
    options: WorkerOptions | None = None,
    status: WorkerStatus | None = None,
) -> None:
    """Run a worker until it is told to stop.

    Several workers share the partitions. While the log is unreachable, the worker keeps its state, logs one warning
    and retries. It is safe to kill it at any time: the next owner of its partitions continues from the last checkpoint
    and produces the same snapshots.

    Parameters
    ----------
    log
        An open log.
    topics
        The installation's topics.
    stop
        Set it to end the worker, after a last snapshot and checkpoint.
    options
        How often to write.
    status
        The status to update. If given, the worker also measures its lag every few seconds.

    Examples
    --------
    >>> from conduit_log.memory import MemoryLog
    >>> async def main() -> None:
    ...     stop = asyncio.Event()
    ...     async with MemoryLog() as log:
    ...         worker = asyncio.create_task(run_worker(log, topics=log.topics, stop=stop))
    ...         stop.set()
    ...         await worker
    >>> asyncio.run(main())
    """
    await _Worker(log, topics, stop, options or WorkerOptions(), status).run()


@dataclass(slots=True)
class _LastSnapshot:
    """A policy's last published snapshot: when it was published and how long it took to build."""

    ticks: int
    at: float
    build_s: float
    changes: frozenset[tuple[str, str, int]]
    """Arm, signal and count of every detected change in it."""


@dataclass(slots=True)
class _Partition:
    """One owned partition, and what must still be written for it."""

    learner: PartitionLearner
    checkpoints: CheckpointWriter
    checkpoint_offset: int
    checkpoint_at: float
    changed: set[str]
    """Policies whose newest state is not published yet."""
    published: dict[str, _LastSnapshot] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class _Worker:
    def __init__(
        self,
        log: EventLog,
        topics: Topics,
        stop: asyncio.Event,
        options: WorkerOptions,
        status: WorkerStatus | None,
    ) -> None:
        self._log = log
        self._topics = topics
        self._stop = stop
        self._options = options
        self._status = status or WorkerStatus()
        self._is_reporting = status is not None
        self._lag_at = -math.inf
        """When to measure the lag next, if a status is reported."""
        self._is_behind = False
        """Whether the last poll returned a full batch, so that more messages are waiting."""
        self._next_snapshot_at = self._next_checkpoint_at = -math.inf
        """When the next one may be written; used only while behind."""
        self._partitions: dict[int, _Partition] = {}
        self._status.partitions = self._partitions

    async def run(self) -> None:
        pause = self._options.retry_s
        while not self._stop.is_set():
            try:
                await self._log.create_topics()
                async with self._log.group_reader(
                    self._topics.events,
                    f"{self._topics.prefix}.learner",
                    on_assigned=self._assigned,
                    on_revoked=self._revoked,
                ) as reader:
                    with suppress(RecoveryStoppedError):
                        await self._learn(reader)
                    await self._leave()
                    return
            except LogUnavailableError as error:
                self._log_unreachable(error)
                pause = await self._pause(pause)

    async def _learn(self, reader: GroupReader) -> None:
        pause = self._options.retry_s
        while not self._stop.is_set():
            try:
                messages = await reader.poll(timeout_s=_POLL_S, max_messages=_BATCH)
                for _ in range(_LOOP_ITERATIONS if messages else 0):
                    await asyncio.sleep(0)
                self._apply(messages)
                self._status.events += len(messages)
                # Once behind, stay so until a poll returns very little: a client's buffers may end within a batch.
                self._is_behind = len(messages) >= (_BATCH // 10 if self._is_behind else _BATCH)
                await self._write_what_is_due()
                await self._measure_lag(reader)
                self._status.log_answered()
                if self._status.unreachable_since is not None:
                    self._status.log_returned()
                    _LOG.warning("the event log is reachable again")
                pause = self._options.retry_s
            except LogUnavailableError as error:
                # What is not written yet stays due, and what is not read yet stays in the log.
                self._log_unreachable(error)
                pause = await self._pause(pause)

    def _apply(self, messages: Sequence[StoredMessage]) -> None:
        for number, of_partition in groupby(messages, itemgetter(0)):
            partition = self._partitions[number]
            apply, changed = partition.learner.apply, partition.changed
            for message in of_partition:
                policy, dead_letters = apply(message)
                if policy is not None:
                    changed.add(policy)
                if dead_letters:
                    partition.dead_letters += dead_letters

    async def _measure_lag(self, reader: GroupReader) -> None:
        if self._is_reporting and time.monotonic() >= self._lag_at:
            ends = await reader.end_offsets()
            self._status.lag = {
                number: max(0, ends[number] - partition.learner.offset)
                for number, partition in self._partitions.items()
                if number in ends
            }
            self._lag_at = time.monotonic() + _LAG_EVERY_S

    async def _write_what_is_due(self) -> None:
        partitions = list(self._partitions.values())
        # The order matters: events before a checkpoint are never read again, so their results are written first.
        for partition in partitions:
            await self._set_aside_dead_letters(partition)
        if not self._is_behind or time.monotonic() >= self._next_snapshot_at:
            await self._publish_what_is_due(partitions)
        if not self._is_behind or time.monotonic() >= self._next_checkpoint_at:
            for partition in sorted(filter(self._is_checkpoint_due, partitions), key=lambda due: due.checkpoint_at):
                began = time.monotonic()
                await self._checkpoint(partition)
                self._next_checkpoint_at = time.monotonic() + _IDLE_PER_CHECKPOINT * (time.monotonic() - began)
                if self._is_behind:
                    break

    async def _publish_what_is_due(self, partitions: Sequence[_Partition]) -> None:
        due = [
            (partition.published[policy].at if policy in partition.published else -math.inf, number, policy)
            for number, partition in enumerate(partitions)
            for policy in partition.changed
            if self._is_snapshot_due(partition, policy)
        ]
        for _, number, policy in sorted(due):  # the policy that has waited longest comes first
            began = time.monotonic()
            await self._publish(partitions[number], policy)
            self._next_snapshot_at = time.monotonic() + _IDLE_PER_SNAPSHOT * (time.monotonic() - began)
            if self._is_behind:
                break

    async def _write_everything(self, partition: _Partition) -> None:
        await self._set_aside_dead_letters(partition)
        for policy in sorted(partition.changed):
            await self._publish(partition, policy)
        if partition.learner.offset > partition.checkpoint_offset:
            await self._checkpoint(partition)

    async def _set_aside_dead_letters(self, partition: _Partition) -> None:
        if partition.dead_letters:
            await self._log.append(self._topics.dead_letters, [_to_message(dl) for dl in partition.dead_letters])
            self._status.dead_letters.update(letter.reason for letter in partition.dead_letters)
            partition.dead_letters.clear()

    def _is_snapshot_due(self, partition: _Partition, policy: str) -> bool:
        last = partition.published.get(policy)
        if last is None:
            return True
        elapsed = time.monotonic() - last.at
        learned = partition.learner.policies[policy].ticks - last.ticks
        return elapsed >= last.build_s * _IDLE_PER_BUILD and (
            learned >= self._options.snapshot_every_events or elapsed >= self._options.snapshot_every_s
        )

    async def _publish(self, partition: _Partition, policy: str) -> None:
        began = time.monotonic()
        ticks = partition.learner.policies[policy].ticks
        snapshot = partition.learner.snapshot(policy)
        message = Message(policy.encode(), encode(snapshot))
        build_s = time.monotonic() - began
        await self._log.append(self._topics.snapshots, [message])
        partition.changed.discard(policy)
        changes = frozenset(
            (a, s, alarm.count) for a, arm in snapshot.arms.items() for s, alarm in (arm.alarms or {}).items()
        )
        if (last := partition.published.get(policy)) is not None:
            for arm, signal, _ in sorted(changes - last.changes):
                alarm = (snapshot.arms[arm].alarms or {})[signal]
                told = alarm.before, alarm.after
                _LOG.warning(
                    "policy %s: %s of %s changed from %s to %s",
                    *(policy, title_of(signal), arm, *(SIGNALS[signal].text(SIGNALS[signal].shown(a)) for a in told)),
                )
        partition.published[policy] = _LastSnapshot(ticks, time.monotonic(), build_s, changes)
        self._status.snapshots.observe(build_s)
        self._status.progressed()
        _LOG.debug("published policy %s at offset %d: %s", policy, snapshot.offset, snapshot.hash)

    def _is_checkpoint_due(self, partition: _Partition) -> bool:
        learned = partition.learner.offset - partition.checkpoint_offset
        return learned >= self._options.checkpoint_every_events or (
            learned > 0 and time.monotonic() - partition.checkpoint_at >= self._options.checkpoint_every_s
        )

    async def _checkpoint(self, partition: _Partition) -> None:
        began = time.monotonic()
        offset = partition.learner.offset
        for messages in partition.checkpoints.records(partition.learner):
            await self._log.append(self._topics.checkpoints, messages)
        partition.checkpoint_offset = offset
        partition.checkpoint_at = time.monotonic()
        self._status.checkpoints.observe(partition.checkpoint_at - began)
        self._status.progressed()
        _LOG.debug("checkpoint of partition %d at offset %d", partition.learner.partition, offset)

    async def _leave(self) -> None:
        """Write everything for the next owner; if the log is unreachable, the next owner re-reads a few more events."""
        try:
            for partition in list(self._partitions.values()):
                await self._write_everything(partition)
        except LogUnavailableError as error:
            self._log_unreachable(error)

    async def _assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        recovery = Recovery(self._log, self._topics, stop=self._stop, status=self._status)
        records = await recovery.read_checkpoints(partitions)
        for number in partitions:
            began = time.monotonic()
            learner, checkpoints = await recovery.restore(number, records)
            # The previous owner may have died before it published its last snapshots: publish all of them again.
            self._partitions[number] = _Partition(
                learner, checkpoints, learner.offset, time.monotonic(), set(learner.policies)
            )
            self._status.restores.observe(time.monotonic() - began)
            _LOG.info("partition %d: learning from offset %d", number, learner.offset)
        self._partitions_changed()
        return {number: self._partitions[number].learner.offset for number in partitions}

    async def _revoked(self, partitions: Collection[int]) -> None:
        for number in partitions:
            partition = self._partitions.pop(number, None)
            if partition is not None:
                with suppress(LogUnavailableError):
                    await self._write_everything(partition)
                _LOG.info("partition %d: released at offset %d", number, partition.learner.offset)
        self._partitions_changed()

    def _partitions_changed(self) -> None:
        self._status.reassigned()
        self._lag_at = -math.inf

    def _log_unreachable(self, error: ConduitError) -> None:
        is_known = self._status.unreachable_since is not None
        self._status.log_failed()
        if not is_known:
            _LOG.warning("cannot reach the event log, retrying until it answers: %s", error)

    async def _pause(self, pause: float) -> float:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), pause)
        return min(2.0 * pause, self._options.retry_max_s)


def _to_message(letter: DeadLetter) -> Message:
    return Message(letter.place.encode(), encode(letter))
