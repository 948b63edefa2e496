"""A log in one SQLite file that the processes of one machine share, without a broker or server.

Guarantees
----------
*Process death* (SIGKILL at any moment, of any number of processes): all messages whose
:meth:`EmbeddedLog.append` returned are there, in order and in whole batches.

*Power loss and operating system crash*: the same, because every commit is flushed to the disk
(``synchronous=FULL``) before ``append`` returns, provided that the disk really flushes when it says so. On macOS
``fullfsync`` is on, because a plain flush there leaves data in the drive's cache.

*Never on a network file system*: neither SQLite's write-ahead log nor file locks work across machines.
Use Kafka as soon as a second machine takes part.

*Bounded size*: events beyond the retention's age or number are removed as new ones arrive, some at a time. The file
never shrinks, but freed pages are used again.
"""

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from conduit_log.database import Database
from conduit_log.ports import (
    Capabilities,
    LogUnavailableError,
    Message,
    OnAssigned,
    OnRevoked,
    StoredMessage,
    TopicDescription,
    check_messages,
    check_topic,
    repeat_until_found,
)
from conduit_log.settings import LogSettings
from conduit_log.sqlite import Retention
from conduit_schemas import ConfigurationError, Topics

__all__ = ["EmbeddedLog"]

_POLL_S = 0.05
"""One indexed look-up twenty times a second costs almost nothing, and also sees what other processes write."""
_LOCK_RETRY_S = 1.0
_GROUP_NAME = re.compile(r"^[A-Za-z0-9._-]{1,100}$")


class EmbeddedLog:
    """An :class:`~conduit_log.ports.EventLog` in the folder ``path``, one partition per topic.

    SQL runs in a separate thread, so the caller's event loop never waits for the disk or for another process. The file
    is ``log.sqlite3``, with one table per topic, named like the topic. You can inspect it with the ``sqlite3`` tool
    while it is in use. A process that forks workers should enter the log in the workers, not before: neither SQLite
    connections nor locks may be shared across a fork.

    Parameters
    ----------
    path
        The folder. It is created if it does not exist.
    topics
        The installation's topics.
    retention_s
        Events older than this many seconds are removed. None keeps them forever.
    max_events
        How many of the newest events are kept, at about 1 KB each.
    clock
        Returns the append time, seconds since 1970. Time never runs backwards in the log: after the clock was set
        back, messages get the newest time already stored.

    Raises
    ------
    ConfigurationError
        On entering, when the folder is not writable or the file is not an embedded log.

    Examples
    --------
    >>> import asyncio
    >>> import tempfile
    >>> async def main(path: Path) -> list[bytes]:
    ...     async with EmbeddedLog(path, topics=Topics()) as log:
    ...         await log.append("conduit.events", [Message(b"policy", b"event")])
    ...         async with log.reader("conduit.events") as reader:
    ...             return [message.value for message in await reader.poll(timeout_s=1)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(Path(folder)))
    [b'event']
    """

    capabilities = Capabilities(needs_spool=False, hosts_learner=True, has_configurable_topics=False)

    def __init__(
        self,
        path: Path,
        *,
        topics: Topics,
        retention_s: float | None = 30 * 86400.0,
        max_events: int = 2_000_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path)
        self.topics = topics
        self._clock = clock
        self._retention = Retention(topics.events, retention_s, max_events)
        # Two connections, each with its own thread: readers need not queue behind a writer that waits for a lock.
        self._writing = Database(self.path, topics)
        self._reading = Database(self.path, topics)

    @classmethod
    def from_settings(cls, settings: LogSettings) -> Self:
        """Return the log in the folder that a ``file`` address names, or else in the settings' ``path``.

        Raises
        ------
        ConfigurationError
            When the address names another machine.
        """
        rest = settings.address.rest
        if rest.startswith("//") and not rest.startswith("///"):
            raise ConfigurationError(
                f"log {str(settings.address)!r} names a machine, {rest[2:].partition('/')[0]!r}, but a file must be on "
                "this one: write file:///FOLDER, or file:FOLDER for a folder below the working directory"
            )
        folder = Path(rest.removeprefix("//")).expanduser() if rest else settings.path
        return cls(folder, topics=settings.topics, retention_s=settings.event_retention_s)

    @property
    def title(self) -> str:
        """Which log this is, for people."""
        return f"embedded log in {self.path}"

    def exists(self) -> bool:
        """Return whether its file exists."""
        return self._reading.file.exists()

    async def __aenter__(self) -> Self:
        await self._writing.open()
        try:
            await self._reading.open()
        except BaseException:
            await self._writing.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._reading.close()
        await self._writing.close()

    async def create_topics(self) -> None:
        """Do nothing: entering the log has created the topics."""

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        """Append messages in order, in one transaction; see :meth:`conduit_log.ports.EventLog.append`."""
        check_topic(self.topics, topic)
        check_messages(topic, messages)
        if messages:
            time_ms = int(self._clock() * 1000)
            await self._writing.run(lambda connection: connection.append(topic, time_ms, messages, self._retention))

    async def load(self, topic: str, messages: Sequence[StoredMessage]) -> None:
        """Append messages of another log with their original offsets and times. The next append applies the retention.

        Raises
        ------
        ConfigurationError
            When the topic already holds messages at or after the first one's offset.
        """
        check_topic(self.topics, topic)
        check_messages(topic, [Message(message.key, message.value) for message in messages])
        if messages:
            await self._writing.run(lambda connection: connection.load(topic, messages))

    def reader(self, topic: str, *, partitions: Collection[int] | None = None) -> "_EmbeddedReader":
        """Return a reader of the topic's only partition, starting at the beginning."""
        check_topic(self.topics, topic)
        wanted = {0} if partitions is None else set(partitions)
        if not wanted <= {0}:
            raise ConfigurationError(f"topic {topic!r} has only partition 0, not {sorted(wanted - {0})}")
        return _EmbeddedReader(self._reading, topic, wanted)

    def group_reader(
        self, topic: str, group: str, *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> "_EmbeddedGroupReader":
        """Return a reader that owns the partition while it holds the group's lock."""
        check_topic(self.topics, topic)
        if not _GROUP_NAME.match(group):
            raise ConfigurationError(
                f"group name {group!r} must be 1 to 100 letters, digits, '.', '_' or '-' (it names a file)"
            )
        lock_file = self.path / f"{topic}.{group}.lock"
        return _EmbeddedGroupReader(self._reading, topic, lock_file, on_assigned, on_revoked)

    async def describe(self) -> list[TopicDescription]:
        """Describe the topics."""
        ends = await self._reading.run(lambda connection: connection.ends())
        kept = {
            "retention.s": "forever" if self._retention.age_s is None else f"{self._retention.age_s:g}",
            "retention.events": str(self._retention.events),
        }
        return [
            TopicDescription(
                name=topic,
                exists=True,
                partitions=1,
                replication=1,
                settings={"file": str(self._reading.file)}
                | ({"cleanup.policy": "compact"} if topic in self.topics.compacted else kept),
                end_offsets={0: ends[topic]},
            )
            for topic in self.topics.all
        ]


class _EmbeddedReader:
    """See :class:`conduit_log.ports.Reader`."""

    def __init__(self, database: Database, topic: str, partitions: Collection[int]) -> None:
        self._database = database
        self._topic = topic
        self._positions = dict.fromkeys(partitions, 0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def poll(self, *, timeout_s: float, max_messages: int = 10_000) -> list[StoredMessage]:
        return await repeat_until_found(lambda: self._read(max_messages), timeout_s=timeout_s, pause_s=_POLL_S)

    async def seek(self, partition: int, offset: int) -> None:
        self._positions[partition] = offset

    async def end_offsets(self) -> Mapping[int, int]:
        ends = await self._database.run(lambda connection: connection.ends())
        return dict.fromkeys(self._positions, ends[self._topic])

    async def _read(self, count: int) -> list[StoredMessage]:
        if 0 not in self._positions:
            return []
        position = self._positions[0]
        rows = await self._database.run(lambda connection: connection.read(self._topic, position, count))
        if rows:
            self._positions[0] = rows[-1][0] + 1
        return [StoredMessage(0, *row) for row in rows]


class _EmbeddedGroupReader(_EmbeddedReader):
    """See :class:`conduit_log.ports.GroupReader`.

    The owner holds a file lock, which the operating system releases when the process dies.
    """

    def __init__(
        self, database: Database, topic: str, lock_file: Path, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> None:
        super().__init__(database, topic, ())
        # Not bound to a thread, because different threads may acquire and release it.
        self._lock = FileLock(lock_file, thread_local=False)
        self._next_try = 0.0
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked

    async def __aexit__(self, *exc: object) -> None:
        self._positions.clear()
        self._lock.release()

    @property
    def owned(self) -> Collection[int]:
        return frozenset(self._positions)

    async def _read(self, count: int) -> list[StoredMessage]:
        if not self._positions and time.monotonic() >= self._next_try:
            await self._try_to_own()
            self._next_try = time.monotonic() + _LOCK_RETRY_S
        return await super()._read(count)

    async def _try_to_own(self) -> None:
        try:
            # Locking without a timeout is one system call that never waits, so it needs no thread.
            self._lock.acquire(timeout=0)
        except Timeout:
            return
        except OSError as error:
            raise LogUnavailableError(
                f"lock file {self._lock.lock_file}: {error.strerror or error}; "
                "make its folder writable for this process"
            ) from error
        try:
            starts = await self._on_assigned((0,))
        except BaseException:
            self._lock.release()
            raise
        self._positions[0] = starts.get(0, 0)
