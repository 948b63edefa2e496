"""Writing an archive: copy the log's new events into it, file by file."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above
from filelock import FileLock, Timeout

from conduit_learner.audit.archive import (
    CHECKPOINT_FILE,
    FORMAT,
    METADATA,
    SCHEMA,
    ArchivedHistory,
    ArchiveError,
    FileRange,
    digest_of_messages,
    file_range,
    partition_folder,
)
from conduit_learner.audit.history import BlockingLog
from conduit_learner.core.checkpoint import restorations, wants
from conduit_log import StoredMessage

__all__ = ["Archived", "archive"]

_ROWS = 50_000
_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Archived:
    """What one run added to the archive of one partition."""

    partition: int
    first: int
    """The archive's first offset."""
    end: int
    """The first offset that is not archived."""
    messages: int
    """Added by this run."""
    files: int
    """Added by this run."""
    is_provable: bool
    """Whether snapshots can be rebuilt from the archive: it starts at offset 0, or with a checkpoint."""


def archive(
    log: BlockingLog,
    folder: Path,
    partitions: Iterable[int] | None = None,
    *,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Archived]:
    """Add the events that are not archived yet. If interrupted at any point, the next call continues.

    Parameters
    ----------
    log
        An open log.
    folder
        The archive; created if it does not exist.
    partitions
        Which partitions to archive; by default all.
    progress
        Called after each file with the number of messages added.

    Raises
    ------
    ArchiveError
        When the archive belongs to another log, when the log deleted events before they were archived, or when
        another process is writing to the archive.
    """
    wanted = log.end_offsets(log.topics.events) if partitions is None else partitions
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "archive.lock", timeout=0):
            return [_archive_partition(log, number, folder, progress) for number in sorted(wanted)]
    except Timeout as error:
        raise ArchiveError(f"another process is writing to archive {folder}") from error
    except OSError as error:
        raise ArchiveError(f"archive {folder}: {error.strerror or error}") from error


def _archive_partition(log: BlockingLog, number: int, folder: Path, progress: Callable[[int], None]) -> Archived:
    history = log.partition(number)
    own = partition_folder(folder, number)
    own.mkdir(exist_ok=True)
    for leftover in own.glob("*.partial"):
        leftover.unlink()
    known = ArchivedHistory(own, number)
    last = file_range(known.files[-1]) if known.files else None
    waiting = history.since(max(known.end - 1, 0))
    if last is not None:
        if last.topic != log.topics.events:
            raise ArchiveError(f"{own} holds topic {last.topic!r}, not {log.topics.events!r}: use another folder")
        waiting = _after(waiting, known, history.end)
    count = files = 0
    for messages in _chunks(waiting):
        if last is None and messages[0].offset > 0:
            _save_checkpoint(own, number, messages[0].offset, history.checkpoints())
        last = _write(own, log.topics.events, messages, "" if last is None else last.digest)
        count += len(messages)
        files += 1
        progress(len(messages))
    archived = ArchivedHistory(own, number)
    is_provable = archived.first == 0 or (own / CHECKPOINT_FILE).exists()
    return Archived(number, archived.first, archived.end, count, files, is_provable)


def _after(waiting: Iterator[StoredMessage], known: ArchivedHistory, end: int) -> Iterator[StoredMessage]:
    """Yield what follows the archive's last message, after checking that the archive belongs to this log."""
    another = f"{known.folder} is the archive of another log: use another folder"
    if end < known.end:
        raise ArchiveError(f"{another} (the archive ends at offset {known.end}, the log at {end})")
    first = next(waiting, None)
    if first is None:
        return
    if first.offset > known.end:
        raise ArchiveError(
            f"{known.folder} ends at offset {known.end}, but the log starts at {first.offset}: the events in between "
            "were deleted before they were archived. Start a new archive in another folder, and archive more often"
        )
    if first.offset == known.end:
        yield first
    elif first != known.last_message():
        raise ArchiveError(f"{another} (they differ at offset {first.offset})")
    yield from waiting


def _chunks(messages: Iterable[StoredMessage]) -> Iterator[list[StoredMessage]]:
    chunk: list[StoredMessage] = []
    size = 0
    for message in messages:
        chunk.append(message)
        size += len(message.key) + len(message.value)
        if len(chunk) >= _ROWS or size >= _BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _save_checkpoint(folder: Path, partition: int, first: int, records: Mapping[bytes, bytes]) -> None:
    """Save the learner's state, if it can continue with the first archived message."""
    if any(restoration.resume_from >= first for restoration in restorations(partition, "", records)):
        own = {key: value for key, value in sorted(records.items()) if wants(key, [partition])}
        _save(folder / CHECKPOINT_FILE, pa.table({"key": list(own), "value": list(own.values())}))


def _write(folder: Path, topic: str, messages: Sequence[StoredMessage], before: str) -> FileRange:
    first, last = messages[0], messages[-1]
    digest = digest_of_messages(before, messages)
    range_ = FileRange(FORMAT, topic, first.partition, first.offset, last.offset + 1, before, digest)
    columns = [pa.array(column, field.type) for column, field in zip(zip(*messages, strict=True), SCHEMA, strict=True)]
    schema = SCHEMA.with_metadata({METADATA: json.dumps(asdict(range_)).encode()})
    _save(folder / f"{first.offset:020}-{last.offset:020}.parquet", pa.Table.from_arrays(columns, schema=schema))
    return range_


def _save(path: Path, table: pa.Table) -> None:
    """Write a file atomically: after a crash it is either complete or absent."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
