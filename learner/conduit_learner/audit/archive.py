"""Events in Parquet files, so that audits remain possible after the log has deleted them.

An archive has one folder per partition, and in it one file per range of offsets. The columns are ``partition``,
``offset``, ``time_ms``, ``key`` and ``value``, so any Parquet reader can use them. Each file's metadata holds a digest
of its messages that starts from the previous file's digest, so reading an archive detects a change anywhere in it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]  # as above
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above

from conduit_log import StoredMessage
from conduit_schemas import ConduitError, ConfigurationError

__all__ = [
    "CHECKPOINT_FILE",
    "FORMAT",
    "METADATA",
    "SCHEMA",
    "Archive",
    "ArchiveError",
    "ArchivedHistory",
    "FileRange",
    "digest_of_messages",
    "file_range",
    "partition_folder",
]

FORMAT = 1
METADATA = b"conduit"
"""Key of a file's :class:`FileRange` in its metadata, which is JSON."""
SCHEMA = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("time_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)
_FILE = re.compile(r"^(\d{20})-(\d{20})\.parquet$")
CHECKPOINT_FILE = "checkpoint.parquet"
"""Name of the file with the learner's state before the first message, for an archive that starts after offset 0."""


class ArchiveError(ConduitError):
    """Raised when an archive is damaged, or when it belongs to a different log than the one being archived."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """The metadata of an archive file."""

    format: int
    topic: str
    partition: int
    first: int
    """Offset of its first message."""
    end: int
    """Offset of its last message, plus 1."""
    before: str
    """Digest of the previous file; empty in the first file."""
    digest: str


class Archive:
    """A folder of archived events; see :class:`~conduit_learner.audit.history.EventSource`.

    Raises
    ------
    ConfigurationError
        When the folder holds no archive.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not self.partitions():
            raise ConfigurationError(f"{folder} holds no archive: create one with conduit archive --to {folder}")

    def partitions(self) -> list[int]:
        """Return the numbers of the archived partitions."""
        return sorted(int(path.name.removeprefix("partition-")) for path in self.folder.glob("partition-*"))

    def partition(self, number: int) -> "ArchivedHistory":
        """Return the archived events of one partition."""
        return ArchivedHistory(partition_folder(self.folder, number), number)

    def history(self, policy: str) -> "ArchivedHistory":
        """Return the history of the partition that holds a policy; see :class:`EventSource`."""
        for number in self.partitions():
            history = self.partition(number)
            if history.holds(policy.encode()):
                return history
        raise ConfigurationError(f"archive {self.folder} holds no event of policy {policy!r}")


class ArchivedHistory:
    """The :class:`~conduit_learner.audit.history.History` of one archived partition. Digests are checked on reading.

    Raises
    ------
    ArchiveError
        During iteration, when a file is damaged, missing or was changed.
    """

    def __init__(self, folder: Path, partition: int) -> None:
        self.folder = folder
        self.partition = partition
        self.files = sorted(path for path in folder.glob("*.parquet") if _FILE.match(path.name))
        self.first = _offsets(self.files[0])[0] if self.files else 0
        self.end = _offsets(self.files[-1])[1] + 1 if self.files else 0

    def __iter__(self) -> Iterator[StoredMessage]:
        before = None
        for path in self.files:
            range_ = file_range(path)
            if before is not None and (range_.first < before.end or range_.before != before.digest):
                raise ArchiveError(f"{path} does not continue the previous file: a file is missing or was changed")
            if before is None and range_.before:
                raise ArchiveError(f"{path}: the files before it are missing")
            before = range_
            yield from _messages(path, range_)

    def last_message(self) -> StoredMessage | None:
        """Return the newest message."""
        message = None
        for path in self.files[-1:]:
            *_, message = _messages(path, file_range(path))
        return message

    def holds(self, key: bytes) -> bool:
        """Return whether any message has this key."""
        return any(
            pc.any(pc.equal(_table(path, columns=["key"])["key"], pa.scalar(key))).as_py() for path in self.files
        )

    def checkpoints(self) -> Mapping[bytes, bytes]:
        """Return the checkpoint records that the archive starts from; empty if it starts at offset 0."""
        path = self.folder / CHECKPOINT_FILE
        if not path.exists():
            return {}
        table = _table(path)
        return dict(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True))

    @property
    def published(self) -> Sequence[StoredMessage]:
        """Always empty: snapshots are not archived, but every decision records the hash of its snapshot."""
        return ()


def _messages(path: Path, range_: FileRange) -> list[StoredMessage]:
    """Return a file's messages, checked against its digest."""
    table = _table(path)
    if table.schema.remove_metadata() != SCHEMA:
        raise ArchiveError(f"{path} has the columns {table.schema.names}, expected {SCHEMA.names}")
    messages = [StoredMessage(*row) for row in zip(*(table[name].to_pylist() for name in SCHEMA.names), strict=True)]
    if digest_of_messages(range_.before, messages) != range_.digest:
        raise ArchiveError(f"{path} is damaged or was changed: its digest does not match its content")
    return messages


def _table(path: Path, *, columns: list[str] | None = None) -> pa.Table:
    try:
        # Not read_table, which would guess extra columns from the folders' names.
        return pq.ParquetFile(path).read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise ArchiveError(f"{path}: {error}") from error


def file_range(path: Path) -> FileRange:
    """Return the metadata of an archive file.

    Raises
    ------
    ArchiveError
        When the file cannot be read, or is not an archive file in a format that this release supports.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        range_ = FileRange(**json.loads(metadata[METADATA]))
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise ArchiveError(f"{path} is damaged or does not belong to an archive: {error!r}") from error
    if range_.format != FORMAT:
        raise ArchiveError(f"{path} has format {range_.format}, but this release reads {FORMAT}: upgrade Conduit")
    return range_


def digest_of_messages(before: str, messages: Iterable[StoredMessage]) -> str:
    """Return the digest of a file's messages, chained to the digest of the previous file."""
    digest = hashlib.sha256(before.encode())
    for partition, offset, time_ms, key, value in messages:
        digest.update(b"%d/%d/%d/%d/%d/" % (partition, offset, time_ms, len(key), len(value)))
        digest.update(key)
        digest.update(value)
    return digest.hexdigest()


def _offsets(path: Path) -> tuple[int, int]:
    first, last = path.stem.split("-")
    return int(first), int(last)


def partition_folder(archive: Path, partition: int) -> Path:
    """Return the folder of a partition in an archive."""
    return archive / f"partition-{partition:05}"
