"""How events travel: the ports that every log offers, with what each guarantees.

Three adapters keep these promises and pass one set of contract tests: Kafka (:mod:`conduit_log.kafka`),
a SQLite file shared by the processes of one machine (:mod:`conduit_log.embedded`), and plain memory
(:mod:`conduit_log.memory`). Others may be added: see :mod:`conduit_log.registry`.
"""

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
"""Key and value together: what a Kafka broker takes by default (1 MiB), less its own framing."""


class LogUnavailableError(ConduitError):
    """Raised when the log cannot be reached or did not confirm in time; the call may be repeated."""


class Message(NamedTuple):
    """Something to append: a key, which decides the partition, and a value."""

    key: bytes
    value: bytes


class StoredMessage(NamedTuple):
    """Something read: where it stands, when the log took it in, and what it is."""

    partition: int
    offset: int
    time_ms: int
    """The log's own append time, milliseconds since 1970. It may repeat, and on a broker whose clock was
    set back even fall; readers that need a monotone clock take the running maximum."""
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """In what logs differ, beyond the promises that all keep: whoever uses one asks for this, not for its kind."""

    needs_spool: bool
    """The log may be out of reach while the application runs; meanwhile events wait in a folder of this machine."""
    hosts_learner: bool
    """A process of the application may learn, one at a time; otherwise ``conduit learner`` has to run."""
    has_configurable_topics: bool
    """Topics are made on a server, with settings and copies of their own, so ``conduit doctor`` has to look at them."""


class TopicDescription(NamedTuple):
    """What there is to know of one topic: for people, and for checks of an installation."""

    name: str
    exists: bool
    partitions: int
    replication: int
    """Copies of each partition."""
    settings: Mapping[str, str]
    """The log's own settings of this topic: retention, compaction, time stamps. Checks know ``cleanup.policy`` and
    ``message.timestamp.type``, by Kafka's names and values."""
    end_offsets: Mapping[int, int]
    """Per partition, the offset the next message will get."""


class Reader(Protocol):
    """Reads chosen partitions of one topic, at positions of its own; no group, no commits.

    Within a partition messages come in offset order, each once. On a compacted topic offsets have gaps, and
    a reader that starts at the beginning sees at least the newest message of every key.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def poll(self, *, timeout_s: float, max_messages: int = 10_000) -> list[StoredMessage]:
        """Return what has arrived, waiting up to ``timeout_s`` for the first message.

        Raises
        ------
        LogUnavailableError
            When the log cannot be reached. Position and data are unharmed: poll again.
        """
        ...

    async def seek(self, partition: int, offset: int) -> None:
        """Continue a partition at ``offset``, or at the first message after it."""
        ...

    async def end_offsets(self) -> Mapping[int, int]:
        """Return, per partition, the offset the next message will get."""
        ...


OnAssigned = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
"""Called with newly owned partitions; returns the offset at which to start each (left out: the beginning)."""

OnRevoked = Callable[[Collection[int]], Awaitable[None]]
"""Called with partitions that are no longer owned. Another reader may already have them."""


class GroupReader(Protocol):
    """Shares the partitions of one topic among the members of a group; the first poll joins it.

    Ownership is a matter of efficiency, not of correctness: for a moment two members may both believe
    that they own a partition, so whatever a member does must be harmless when done twice. Positions are
    the caller's own; nothing is committed to the log. A member that dies without a word loses its
    partitions to the others, on Kafka after the session timeout, on the embedded log at once.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    @property
    def owned(self) -> Collection[int]:
        """The partitions owned now."""
        ...

    async def poll(self, *, timeout_s: float, max_messages: int = 10_000) -> list[StoredMessage]:
        """Return what has arrived on the owned partitions; see :meth:`Reader.poll`.

        The callbacks given at creation run inside this call, in the caller's task, before it returns any
        message of a newly owned partition. An assignment whose callback raises is not taken: the error
        comes out of this call, and the next call tries again. Leaving the reader runs no callback: who
        leaves knows it.
        """
        ...

    async def end_offsets(self) -> Mapping[int, int]:
        """Return, per owned partition, the offset the next message will get."""
        ...


class EventLog(Protocol):
    """An append-only log of topics, divided into partitions. Enter it before use.

    Making one does no I/O, and entering never waits for a broker to be reachable: the first call that needs it does.
    """

    @property
    def topics(self) -> Topics:
        """The installation's topics."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What kind of log this is; known before it is entered, and the same for every log of its class."""
        ...

    @property
    def title(self) -> str:
        """Which log this is, for people, to go on with "answers" or "is missing"; never with a password in it."""
        ...

    def exists(self) -> bool:
        """Say whether there is such a log, without making one: entering may.

        A log that only its servers know of says yes.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None:
        """Release everything. Whatever :meth:`append` has returned for is durable already."""
        ...

    async def create_topics(self) -> None:
        """Create the installation's topics where they do not exist; leave existing ones as they are."""
        ...

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        """Append messages in order; on return all of them are durable.

        Messages of one key land in one partition in the given order. On an error some of them may have
        been appended: repeating the call then appends those again, so readers must tolerate
        repetition; order is kept all the same.

        Raises
        ------
        LogUnavailableError
            When the log did not confirm every message in time.
        RecordTooLargeError
            When a message exceeds `MAX_MESSAGE_BYTES`; nothing was appended.
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
    """A log of one partition that takes messages with the offsets and times they had elsewhere, as of an archive."""

    async def load(self, topic: str, messages: Sequence[StoredMessage]) -> None:
        """Append messages of another log that keep their offsets and times, in one step.

        Raises
        ------
        ConfigurationError
            When the topic reaches beyond the first one's offset already.
        LogUnavailableError
            When the log could not do it; nothing was appended.
        """
        ...


def check_topic(topics: Topics, topic: str) -> None:
    """Refuse a topic that does not belong to the installation.

    Raises
    ------
    ConfigurationError
        When it does not.
    """
    if topic not in topics.all:
        raise ConfigurationError(f"topic {topic!r} is not one of this installation's: {', '.join(topics.all)}")


def check_messages(topic: str, messages: Sequence[Message]) -> None:
    """Refuse messages that a log could not take, before any of them is appended.

    Raises
    ------
    RecordTooLargeError
        When one exceeds `MAX_MESSAGE_BYTES`.
    """
    for index, (key, value) in enumerate(messages):
        if len(key) + len(value) > MAX_MESSAGE_BYTES:
            raise RecordTooLargeError(
                f"message {index} for topic {topic!r} has {len(key) + len(value):,} bytes, "
                f"at most {MAX_MESSAGE_BYTES:,} are allowed"
            )
