"""Restore an archive into a log exactly: every event keeps its original offset and time."""

from collections.abc import Callable

from conduit_learner.audit.archive import Archive, ArchivedHistory
from conduit_log import LoadableLog, StoredMessage
from conduit_schemas import ConfigurationError

__all__ = ["restore"]

_BATCH = 5_000


async def restore(archive: Archive, log: LoadableLog, *, progress: Callable[[int], None] = lambda count: None) -> int:
    """Load an archive into a log that is empty, or that holds the beginning of the same archive.

    A learner on that log produces exactly the original snapshots, hash for hash. This requires each event's original
    partition, offset and append time, because all three enter the snapshot and its hash. A log with a single
    partition that accepts given times can be restored; a broker that sets times itself cannot. If interrupted at any
    point, the next call continues.

    Parameters
    ----------
    archive
        An archive of partition 0 only, starting at offset 0.
    log
        An open log without retention by age, which would soon delete the old events again.
    progress
        Called after each batch with the number of messages loaded.

    Returns
    -------
    Number of messages loaded.

    Raises
    ------
    ConfigurationError
        When the archive cannot be restored exactly, or when the log holds other events.
    ArchiveError
        When the archive is damaged.
    """
    history = _restorable(archive)
    topic = log.topics.events
    async with log.reader(topic) as reader:
        end = (await reader.end_offsets())[0]
        await reader.seek(0, max(end - 1, 0))
        newest = await reader.poll(timeout_s=0.0, max_messages=1)
    count = 0
    batch: list[StoredMessage] = []
    for message in history:
        if message.offset < end:
            if message.offset == end - 1 and newest != [message]:
                raise _not_empty(log)
            continue
        batch.append(message)
        if len(batch) >= _BATCH:
            count += await _load(log, batch, progress)
            batch = []
    if history.end < end:
        raise _not_empty(log)
    return count + await _load(log, batch, progress)


async def _load(log: LoadableLog, batch: list[StoredMessage], progress: Callable[[int], None]) -> int:
    await log.load(log.topics.events, batch)
    progress(len(batch))
    return len(batch)


def _not_empty(log: LoadableLog) -> ConfigurationError:
    return ConfigurationError(f"{log.title} already holds other events: restore into an empty one")


def _restorable(archive: Archive) -> ArchivedHistory:
    filled = [number for number in archive.partitions() if archive.partition(number).files]
    if filled != [0] or archive.partition(0).first != 0:
        raise ConfigurationError(
            f"archive {archive.folder} cannot be restored exactly: a log that accepts old events has only partition 0 "
            f"and starts at offset 0, but the archive holds partitions {filled}, the first from offset "
            f"{archive.partition(filled[0]).first if filled else 0}. An audit does not need a restored log: pass the "
            "archive to replay, explain, diff or evaluate with --archive"
        )
    return archive.partition(0)
