"""An archive back into a log, exactly: every event at its old offset and with its old time."""

from collections.abc import Callable

from conduit_learner.audit.archive import Archive, ArchivedHistory
from conduit_log import LoadableLog, StoredMessage
from conduit_schemas import ConfigurationError

__all__ = ["restore"]

_BATCH = 5_000


async def restore(archive: Archive, log: LoadableLog, *, progress: Callable[[int], None] = lambda count: None) -> int:
    """Load an archive into a log that holds nothing yet, or the beginning of the same archive.

    A learner on that log arrives at the very snapshots that were in force, hash for hash. That needs every
    event's old partition, offset and append time, because all three are part of what is learned and signed; a
    log with one partition that lets its times be set can have them, a broker that stamps events itself
    cannot. It may be stopped at any moment, and goes on the next time.

    Parameters
    ----------
    archive
        An archive of partition 0 only, from offset 0 on.
    log
        An entered log without retention by age; with it, what is older would soon be removed again.
    progress
        Called with the number of messages that were loaded, again and again.

    Returns
    -------
    How many messages were loaded.

    Raises
    ------
    ConfigurationError
        When the archive cannot be restored exactly, or when the log holds something else.
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
    return ConfigurationError(f"{log.title} holds other events already: restore into an empty one")


def _restorable(archive: Archive) -> ArchivedHistory:
    filled = [number for number in archive.partitions() if archive.partition(number).files]
    if filled != [0] or archive.partition(0).first != 0:
        raise ConfigurationError(
            f"archive {archive.folder} cannot be restored exactly: a log that takes old events has partition 0 only "
            f"and begins at offset 0, the archive holds partitions {filled}, the first from offset "
            f"{archive.partition(filled[0]).first if filled else 0}. Audits need no restored log: give the archive to "
            "replay, explain, diff and evaluate with --archive"
        )
    return archive.partition(0)
