"""How a worker takes over a partition: the furthest usable checkpoint, and what it left in the log."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from typing import NamedTuple

from conduit_learner.core.checkpoint import CheckpointError, CheckpointWriter, restorations, wants
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.worker.status import WorkerStatus
from conduit_log import EventLog, Reader, StoredMessage
from conduit_schemas import ConduitError, Topics

__all__ = ["Recovered", "Recovery", "RecoveryStoppedError"]

_LOG = logging.getLogger(__name__)
_EMPTY_POLL_S = 5.0
_EMPTY_POLLS = 3


class RecoveryStoppedError(ConduitError):
    """Raised when the worker is told to stop while it recovers: whoever comes next recovers it."""


class Recovered(NamedTuple):
    """A partition as its furthest usable checkpoint has it, or as new."""

    learner: PartitionLearner
    checkpoints: CheckpointWriter
    """Goes on where the checkpoint's writer stopped, without damaging what that one wrote."""


class Recovery:
    """Brings partitions back to where their last owner left them.

    Parameters
    ----------
    log, topics
        Where checkpoints and events are.
    stop
        When set, a recovery under way ends with :class:`RecoveryStoppedError`.
    status
        Where to note that it gets on.
    """

    def __init__(self, log: EventLog, topics: Topics, *, stop: asyncio.Event, status: WorkerStatus) -> None:
        self._log = log
        self._topics = topics
        self._stop = stop
        self._status = status

    async def read_checkpoints(self, partitions: Collection[int]) -> Mapping[bytes, bytes]:
        """Return the newest record of every key that belongs to the partitions.

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
        """Return the partition as its furthest usable checkpoint has it, or as new.

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
        unfinished = {partition for partition, end in ends.items() if end > 0}
        empty = 0
        while unfinished and empty < _EMPTY_POLLS:
            if self._stop.is_set():
                raise RecoveryStoppedError("told to stop while restoring")
            messages = await reader.poll(timeout_s=_EMPTY_POLL_S)
            self._status.turned()
            if not messages:
                # Deleted messages never come; a log that is away must not look as if they were deleted.
                await reader.end_offsets()
                empty += 1
            for message in messages:
                if message.offset < ends.get(message.partition, 0):
                    yield message
                if message.offset >= ends.get(message.partition, 0) - 1:
                    unfinished.discard(message.partition)
