"""A log in a folder of text files. It shows what a custom adapter takes: this file, and an entry point.

A topic is a file, a message is a line (``time_ms key value``, the latter two in base64), and the number of the line is
the offset. It is as durable as the file system and serves the processes of one machine. It removes nothing and reads
slowly: it is a toy.
"""

import asyncio
import fcntl
import os
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Self, TypeVar

from conduit_log import Capabilities, LogSettings, LogUnavailableError, Message, StoredMessage, TopicDescription
from conduit_log.ports import OnAssigned, OnRevoked, check_messages, check_topic, repeat_until_found
from conduit_log.registry import LOG_ENTRY_POINTS
from conduit_schemas import ConfigurationError

__all__ = ["FolderLog", "offer"]

_POLL_S = 0.02

_T = TypeVar("_T")


class FolderLog:
    """An :class:`~conduit_log.EventLog` at ``folder:/where``, one partition per topic."""

    capabilities = Capabilities(needs_spool=False, hosts_learner=True, has_configurable_topics=False)

    def __init__(self, settings: LogSettings) -> None:
        if not settings.address.location:
            raise ConfigurationError(f"log {str(settings.address)!r} names no folder: write folder:/WHERE")
        self.path = Path(settings.address.location)
        self.topics = settings.topics
        self._files = {topic: _TopicFile(self.path / f"{topic}.txt") for topic in self.topics.all}

    @property
    def title(self) -> str:
        return f"folder of text files {self.path}"

    def exists(self) -> bool:
        return self.path.is_dir()

    async def __aenter__(self) -> Self:
        await _in_thread(lambda: self.path.mkdir(parents=True, exist_ok=True))
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def create_topics(self) -> None:
        pass

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        check_topic(self.topics, topic)
        check_messages(topic, messages)
        if messages:
            await _in_thread(lambda: self._files[topic].append(messages))

    def reader(self, topic: str, *, partitions: Collection[int] | None = None) -> "_FolderReader":
        check_topic(self.topics, topic)
        if not {0} >= set(partitions or ()):
            raise ConfigurationError(f"topic {topic!r} has partition 0 only")
        return _FolderReader(self._files[topic], {0} if partitions is None else set(partitions))

    def group_reader(
        self, topic: str, group: str, *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> "_FolderGroupReader":
        check_topic(self.topics, topic)
        return _FolderGroupReader(self._files[topic], self.path / f"{topic}.{group}.lock", on_assigned)

    async def describe(self) -> list[TopicDescription]:
        return [
            TopicDescription(topic, True, 1, 1, {"file": str(file.path)}, {0: (await _in_thread(file.end)).offset})
            for topic, file in self._files.items()
        ]


def offer(folder: Path, adapter: str = "folder_log:FolderLog") -> None:
    """Write the metadata with which an installed package offers this adapter into a folder of the module path."""
    info = folder / "folder_log-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: folder-log\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{LOG_ENTRY_POINTS}]\nfolder = {adapter}\n")


async def _in_thread(work: Callable[[], _T]) -> _T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise LogUnavailableError(f"folder log: {error}; make the folder writable for this process") from error


class _Place(NamedTuple):
    """A position between two lines."""

    offset: int
    byte: int
    time_ms: int


_START = _Place(0, 0, 0)


class _TopicFile:
    """One topic's lines. A lock on the file lets only one process write at a time. Reading needs no lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = _START
        self._scanning = threading.Lock()

    def append(self, messages: Sequence[Message]) -> None:
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = self.end()
            file.truncate(end.byte)  # the incomplete line of a writer that was killed
            time_ms = max(end.time_ms, int(time.time() * 1000))
            file.write(b"".join(b"%d %s %s\n" % (time_ms, b64encode(key), b64encode(value)) for key, value in messages))
            file.flush()
            os.fsync(file.fileno())

    def end(self) -> _Place:
        with self._scanning:
            _, self._end = self.read(self._end)
            return self._end

    def read(self, place: _Place, count: int | None = None) -> tuple[list[StoredMessage], _Place]:
        messages: list[StoredMessage] = []
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return messages, place
        with file:
            file.seek(place.byte)
            while len(messages) != count and (line := file.readline()).endswith(b"\n"):
                time_ms, key, value = line[:-1].split(b" ")
                messages.append(StoredMessage(0, place.offset, int(time_ms), b64decode(key), b64decode(value)))
                place = _Place(place.offset + 1, place.byte + len(line), int(time_ms))
        return messages, place

    def find(self, offset: int) -> _Place:
        return self.read(_START, offset)[1]


class _FolderReader:
    def __init__(self, file: _TopicFile, partitions: set[int]) -> None:
        self._file = file
        self._places = dict.fromkeys(partitions, _START)
        self._first = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def poll(self, *, timeout_s: float, max_messages: int = 10_000) -> list[StoredMessage]:
        return await repeat_until_found(lambda: self._read(max_messages), timeout_s=timeout_s, pause_s=_POLL_S)

    async def seek(self, partition: int, offset: int) -> None:
        self._places[partition] = await _in_thread(lambda: self._file.find(offset))
        self._first = offset  # it may be beyond the end

    async def end_offsets(self) -> Mapping[int, int]:
        return dict.fromkeys(self._places, (await _in_thread(self._file.end)).offset)

    async def _read(self, count: int) -> list[StoredMessage]:
        if 0 not in self._places:
            return []
        place = self._places[0]
        messages, self._places[0] = await _in_thread(lambda: self._file.read(place, count))
        return [message for message in messages if message.offset >= self._first]


class _FolderGroupReader(_FolderReader):
    """Owns the partition while it holds a lock. The operating system releases the lock of a process that dies."""

    def __init__(self, file: _TopicFile, lock_file: Path, on_assigned: OnAssigned) -> None:
        super().__init__(file, set())
        self._lock_file = lock_file
        self._lock: IO[bytes] | None = None
        self._on_assigned = on_assigned

    async def __aexit__(self, *exc: object) -> None:
        self._places.clear()
        self._release()

    @property
    def owned(self) -> Collection[int]:
        return frozenset(self._places)

    async def _read(self, count: int) -> list[StoredMessage]:
        if not self._places:
            await self._try_to_own()
        return await super()._read(count)

    async def _try_to_own(self) -> None:
        self._lock = self._lock_file.open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            starts = await self._on_assigned((0,))
            await self.seek(0, starts.get(0, 0))
        except BlockingIOError:
            self._release()
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None
