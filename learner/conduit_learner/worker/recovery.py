"""How a worker takes over a partition: restore the newest usable checkpoint, then re-read the open decisions."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from typing import NamedTuple

from conduit_learner.core.checkpoint import CheckpointError, CheckpointWriter, restorations, wants
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.worker.status import WorkerStatus
from conduit_log import EventLog, Reader, StoredMessage
from conduit_log.reading import batches_until
from conduit_schemas import ConduitError, Topics

__all__ = ["Recovered", "Recovery", "RecoveryStoppedError"]

_LOG = logging.getLogger(__name__)


class RecoveryStoppedError(ConduitError):
    """Raised when the worker is told to stop during a recovery; the partition's next owner recovers it instead."""


class Recovered(NamedTuple):
    """A partition restored from its newest usable checkpoint, or an empty one."""

    learner: PartitionLearner
    checkpoints: CheckpointWriter
    """Continues after the previous writer's checkpoint without overwriting it."""


class Recovery:
    """Restores partitions to the state in which their previous owner left them.

    Parameters
    ----------
    log, topics
        The log and topics that hold checkpoints and events.
    stop
        When set, a running recovery ends with :class:`RecoveryStoppedError`.
    status
        The status that records progress.
    """

    def __init__(self, log: EventLog, topics: Topics, *, stop: asyncio.Event, status: WorkerStatus) -> None:
        self._log = log
        self._topics = topics
        self._stop = stop
        self._status = status

    async def read_checkpoints(self, partitions: Collection[int]) -> Mapping[bytes, bytes]:
        """Return the newest record of every checkpoint key that belongs to the partitions.

        Raises
        ------
        LogUnavailableError
            When the log cannot be reached.
        RecoveryStoppedError
            When told to stop.
        """
        newest: dict[bytes, bytes] = {}
        async with self._log.reader(self._topics.checkpoints) as reader:
            async for message in self._read(reader, await reader.end_offsets()):
                if wants(message.key, partitions):
                    newest[message.key] = message.value
        return newest

    async def restore(self, number: int, records: Mapping[bytes, bytes]) -> Recovered:
        """Restore the partition from its newest usable checkpoint; without one, return an empty learner.

        Raises
        ------
        LogUnavailableError, RecoveryStoppedError
            As for :meth:`read_checkpoints`.
        """
        async with self._log.reader(self._topics.events, partitions=[number]) as reader:
            end = (await reader.end_offsets()).get(number, 0)
            for restoration in restorations(number, self._topics.events, records):
                offset = restoration.learner.offset
                try:
                    if offset > end:
                        raise CheckpointError(f"the log ends at offset {end}, before the checkpoint at {offset}")
                    await reader.seek(number, restoration.resume_from)
                    if restoration.resume_from < offset:
                        async for message in self._read(reader, {number: offset}):
                            restoration.recall(message)
                except CheckpointError as error:
                    _LOG.warning("partition %d: %s; not using this checkpoint", number, error)
                    continue
                return Recovered(restoration.finish(), CheckpointWriter(restoration))
        return Recovered(PartitionLearner(number, self._topics.events), CheckpointWriter())

    async def _read(self, reader: Reader, ends: Mapping[int, int]) -> AsyncIterator[StoredMessage]:
        """Yield every message below the given offset of each partition."""
        self._check_stop()
        async for messages in batches_until(reader, {partition: end for partition, end in ends.items() if end > 0}):
            self._status.progressed()
            for message in messages:
                if message.offset < ends.get(message.partition, 0):
                    yield message
            self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise RecoveryStoppedError("told to stop while restoring")
