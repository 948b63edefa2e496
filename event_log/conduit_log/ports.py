"""The ports that every log implements, and their guarantees.

Three adapters implement them and pass one set of contract tests: Kafka (:mod:`conduit_log.kafka`),
a SQLite file shared by the processes of one machine (:mod:`conduit_log.embedded`), and plain memory
(:mod:`conduit_log.memory`). You can add others: see :mod:`conduit_log.registry`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self, runtime_checkable

from conduit_schemas import ConduitError, ConfigurationError, RecordTooLargeError, Topics

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Capabilities",
    "EventLog",
    "GroupReader",
    "LoadableLog",
    "LogUnavailableError",
    "Message",
    "OnAssigned",
    "OnRevoked",
    "Reader",
    "StoredMessage",
    "TopicDescription",
]

MAX_MESSAGE_BYTES = 1_048_000
"""Limit for key and value together: what a Kafka broker accepts by default (1 MiB), minus its own framing."""


class LogUnavailableError(ConduitError):
    """Raised when the log cannot be reached or did not confirm in time. The call may be repeated."""


class Message(NamedTuple):
    """A message to append: a key, which determines the partition, and a value."""

    key: bytes
    value: bytes


class StoredMessage(NamedTuple):
    """A message that was read: its position, its append time, its key and its value."""

    partition: int
    offset: int
    time_ms: int
    """The log's own append time, milliseconds since 1970. It may repeat. It may even fall, if a broker's clock was set
    back; readers that need a monotonic clock take the running maximum."""
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """How logs differ, beyond the common guarantees. Code that uses a log checks these, never which log it is."""

    needs_spool: bool
    """The log may be unreachable while the application runs. Meanwhile, events wait in a folder on this machine."""
    hosts_learner: bool
    """One process of the application at a time may host the learner. Otherwise, ``conduit learner`` must run."""
    has_configurable_topics: bool
    """Topics are created on a server, with their own settings and replication, which ``conduit doctor`` then checks."""


class TopicDescription(NamedTuple):
    """A description of one topic, for people and for checks of an installation."""

    name: str
    exists: bool
    partitions: int
    replication: int
    """Number of copies of each partition."""
    settings: Mapping[str, str]
    """The log's settings for this topic: retention, compaction, timestamps. Checks read ``cleanup.policy`` and
    ``message.timestamp.type``, with Kafka's names and values."""
    end_offsets: Mapping[int, int]
    """Per partition, the offset that the next message will get."""


class Reader(Protocol):
    """Reads given partitions of one topic and keeps its own positions. It has no group and commits nothing.

    Within a partition, messages arrive in offset order, each once. On a compacted topic, offsets have gaps, and a
    reader that starts at the beginning sees at least the newest message of every key.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def poll(self, *, timeout_s: float, max_messages: int = 10_000) -> list[StoredMessage]:
        """Return new messages, after waiting up to ``timeout_s`` for the first one.

        Raises
        ------
        LogUnavailableError
            When the log cannot be reached. Position and data are unaffected: poll again.
        """
        ...

    async def seek(self, partition: int, offset: int) -> None:
        """Continue a partition at ``offset``, or at the first message after it."""
        ...

    async def end_offsets(self) -> Mapping[int, int]:
        """Return, per partition, the offset that the next message will get."""
        ...


OnAssigned = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
"""Called with newly owned partitions. Returns the offset at which to start each (default: the
beginning)."""

OnRevoked = Callable[[Collection[int]], Awaitable[None]]
"""Called with partitions that are no longer owned. Another reader may already own them."""


class GroupReader(Protocol):
    """Shares the partitions of one topic among the members of a group; the first poll joins it.

    Ownership serves efficiency, not correctness. For a moment, two members may both believe that they own a partition.
    Whatever a member does must therefore be harmless when done twice. The caller keeps the positions; nothing is
    committed to the log. When a member dies, the others take over its partitions: on Kafka after the session timeout,
    on the embedded log at once.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    @property
    def owned(self) -> Collection[int]:
        """The partitions that this reader owns now."""
        ...

    async def poll(self, *, timeout_s: float, max_messages: int = 10_000) -> list[StoredMessage]:
        """Return new messages of the owned partitions; see :meth:`Reader.poll`.

        The callbacks given at creation run inside this call, in the caller's task, before it returns any message of a
        newly owned partition. If a callback raises, the partitions are not taken over: this call raises the error, and
        the next call tries again. Leaving the reader's context runs no callback.
        """
        ...

    async def end_offsets(self) -> Mapping[int, int]:
        """Return, per owned partition, the offset that the next message will get."""
        ...


class EventLog(Protocol):
    """An append-only log of topics, which are divided into partitions. Enter it before use.

    Creating one does no I/O, and entering it never waits for a broker. The first call that needs the broker waits.
    """

    @property
    def topics(self) -> Topics:
        """The installation's topics."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this log can do. Known before it is entered, and the same for every log of its class."""
        ...

    @property
    def title(self) -> str:
        """The log's name for people, as the subject of "... is missing". It never contains a password."""
        ...

    def exists(self) -> bool:
        """Return whether the log exists, without creating it, as entering might.

        Return True if only the log's servers could tell.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None:
        """Release everything. All messages whose :meth:`append` has returned are already durable."""
        ...

    async def create_topics(self) -> None:
        """Create the installation's missing topics. Existing ones are not changed."""
        ...

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        """Append messages in order. When this returns, all of them are durable.

        Messages with the same key go to one partition, in the given order. After an error, some of them may have been
        appended, and repeating the call appends those again. Readers must therefore tolerate repetition; the order is
        kept in any case.

        Raises
        ------
        LogUnavailableError
            When the log did not confirm every message in time.
        RecordTooLargeError
            When a message exceeds `MAX_MESSAGE_BYTES`. Nothing was appended.
        ConfigurationError
            When the topic is not one of the installation's.
        """
        ...

    def reader(self, topic: str, *, partitions: Collection[int] | None = None) -> Reader:
        """Return a reader of some partitions (default: all), starting at the beginning."""
        ...

    def group_reader(self, topic: str, group: str, *, on_assigned: OnAssigned, on_revoked: OnRevoked) -> GroupReader:
        """Return a reader that shares the topic's partitions with the rest of its group."""
        ...

    async def describe(self) -> list[TopicDescription]:
        """Describe the installation's topics, in the order of :attr:`conduit_schemas.Topics.all`."""
        ...


@runtime_checkable
class LoadableLog(EventLog, Protocol):
    """A log of one partition that accepts messages with the offsets and times of another log, such as an archive."""

    async def load(self, topic: str, messages: Sequence[StoredMessage]) -> None:
        """Append messages of another log with their original offsets and times, all or none.

        Raises
        ------
        ConfigurationError
            When the topic already holds messages at or after the first one's offset.
        LogUnavailableError
            When the log failed. Nothing was appended.
        """
        ...


async def repeat_until_found(
    read: Callable[[], Awaitable[list[StoredMessage]]], *, timeout_s: float, pause_s: float
) -> list[StoredMessage]:
    """Read until there are messages or the time is up. For the :meth:`Reader.poll` of logs that cannot wake a reader.

    Parameters
    ----------
    read
        Returns the messages that are there, without waiting for more.
    pause_s
        Seconds between two readings.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if messages := await read():
            return messages
        left = deadline - time.monotonic()
        if left <= 0.0:
            return []
        await asyncio.sleep(min(pause_s, left))


def check_topic(topics: Topics, topic: str) -> None:
    """Refuse a topic that does not belong to the installation.

    Raises
    ------
    ConfigurationError
        When the topic is not one of the installation's.
    """
    if topic not in topics.all:
        raise ConfigurationError(f"topic {topic!r} is not one of this installation's: {', '.join(topics.all)}")


def check_messages(topic: str, messages: Sequence[Message]) -> None:
    """Refuse messages that are too large for a log, before any of them is appended.

    Raises
    ------
    RecordTooLargeError
        When one exceeds `MAX_MESSAGE_BYTES`.
    """
    for index, (key, value) in enumerate(messages):
        if len(key) + len(value) > MAX_MESSAGE_BYTES:
            raise RecordTooLargeError(
                f"message {index} for topic {topic!r} has {len(key) + len(value):,} bytes; "
                f"at most {MAX_MESSAGE_BYTES:,} are allowed"
            )
