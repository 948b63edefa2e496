"""Read past events of one partition, from a log or from an archive, in plain blocking code."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import ParamSpec, Protocol, Self, TypeVar

from conduit_log import EventLog, LogUnavailableError, Message, Reader, StoredMessage
from conduit_log.reading import batches_until
from conduit_schemas import ConduitError, ConfigurationError, RecordError, Topics, decode_snapshot

__all__ = ["BlockingLog", "EventSource", "History", "LoggedHistory", "TrimmedError"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class TrimmedError(ConduitError):
    """Raised when the oldest events were deleted and no checkpoint holds the state learned from them."""


class History(Protocol):
    """The events of one partition, oldest first, up to a fixed end. It can be iterated any number of times."""

    @property
    def partition(self) -> int:
        """Number of the partition."""
        ...

    @property
    def end(self) -> int:
        """Offset of the last event, plus 1."""
        ...

    def __iter__(self) -> Iterator[StoredMessage]: ...

    def checkpoints(self) -> Mapping[bytes, bytes]:
        """Return the checkpoint records by key; a replay starts from them when the oldest events were deleted."""
        ...

    @property
    def published(self) -> Sequence[StoredMessage]:
        """The policy's records on the snapshot topic, read just before the end was fixed."""
        ...


class EventSource(Protocol):
    """A place to read past events from: a log or an archive."""

    def history(self, policy: str) -> History:
        """Return the history of the partition that holds a policy.

        Raises
        ------
        ConfigurationError
            When no partition holds the policy.
        """
        ...


class BlockingLog:
    """A blocking interface to an :class:`~conduit_log.EventLog`: every call waits for its result. Enter it before use.

    The log runs on an event loop in a separate thread. Python raises Ctrl-C in the main thread, between any two
    steps, so it interrupts a waiting caller and never the event loop.

    Parameters
    ----------
    log
        A log that has not been entered yet.
    topics
        The installation's topics.

    Examples
    --------
    >>> from conduit_log.memory import MemoryLog
    >>> with BlockingLog(MemoryLog(clock=lambda: 2.0), Topics()) as log:
    ...     log.append(log.topics.events, [Message(b"default/chat", b"event")])
    ...     [message.value for message in log.partition(0)]
    [b'event']
    """

    def __init__(self, log: EventLog, topics: Topics) -> None:
        self.log = log
        self.topics = topics
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="conduit-blocking-log", daemon=True)
        self._calls: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(self._stack.enter_async_context, self.log)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def run(self, call: Callable[_P, Awaitable[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Make a call on the log's event loop and wait for its result.

        If the caller is interrupted while it waits, the call is cancelled when the log is closed.
        """
        done = Future[_T]()

        async def forward() -> None:
            try:
                done.set_result(await call(*args, **kwargs))
            except BaseException as error:  # everything goes to the waiting caller, even a cancellation
                done.set_exception(error)

        def begin() -> None:  # creates the coroutine on the loop: one created here might never be awaited
            task = self._loop.create_task(forward())
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

        self._loop.call_soon_threadsafe(begin)
        return done.result()

    def _end(self) -> None:
        try:
            self.run(self._leave, frozenset(self._calls))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _leave(self, unfinished: Collection["asyncio.Task[None]"]) -> None:
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._stack.aclose()
        await self._loop.shutdown_default_executor()

    def append(self, topic: str, messages: Sequence[Message]) -> None:
        """Append messages; see :meth:`conduit_log.EventLog.append`."""
        self.run(self.log.append, topic, messages)

    def end_offsets(self, topic: str) -> Mapping[int, int]:
        """Return the offset of the next message of each partition.

        Raises
        ------
        ConfigurationError
            When the topic does not exist. It is not created.
        """
        described = {entry.name: entry for entry in self.run(self.log.describe)}
        if not described[topic].exists:
            raise ConfigurationError(f"topic {topic!r} does not exist: is the prefix right?")
        return described[topic].end_offsets

    def read(self, topic: str, ends: Mapping[int, int], *, start: int = 0) -> Iterator[StoredMessage]:
        """Yield the messages of the given partitions from offset ``start`` up to each partition's end.

        Raises
        ------
        LogUnavailableError
            When the log cannot be reached, or stops answering in the middle of a partition.
        """
        waiting = {partition: end for partition, end in ends.items() if start < end}
        if not waiting:
            return
        reader = self.run(self._reader, topic, tuple(waiting), start)
        batches = batches_until(reader, waiting)
        begun: set[int] = set()
        while (messages := self.run(_next_batch, batches)) is not None:
            for message in messages:
                begun.add(message.partition)
                if message.offset < ends[message.partition]:
                    yield message
        # What is still waited for was deleted or replaced in the meantime. Logs delete the oldest messages first, so a
        # partition that has begun has to reach its end.
        if topic not in self.topics.compacted and (stopped := begun & waiting.keys()):
            raise LogUnavailableError(f"topic {topic!r}: partition {min(stopped)} stopped before its end")

    def partition(self, number: int, published: Sequence[StoredMessage] = ()) -> "LoggedHistory":
        """Return the history of one partition of the event topic, up to now.

        Raises
        ------
        ConfigurationError
            When there is no such partition.
        """
        ends = self.end_offsets(self.topics.events)
        if number not in ends:
            raise ConfigurationError(f"topic {self.topics.events!r} has no partition {number}, only {sorted(ends)}")
        return LoggedHistory(self, number, ends[number], published)

    def history(self, policy: str) -> "LoggedHistory":
        """Return the history of the partition that holds a policy; see :class:`EventSource`."""
        published = self.snapshots(policy)
        for message in published:
            try:
                return self.partition(decode_snapshot(message.value).partition, published)
            except (RecordError, ConfigurationError):
                continue  # a forged or damaged snapshot must not prevent the search below
        key = policy.encode()
        for number in sorted(self.end_offsets(self.topics.events)):
            history = self.partition(number, published)
            if any(message.key == key for message in history):
                return history
        raise ConfigurationError(f"topic {self.topics.events!r} holds no event of policy {policy!r}")

    def snapshots(self, policy: str) -> list[StoredMessage]:
        """Return the records of a policy on the snapshot topic, newest first."""
        topic = self.topics.snapshots
        found = [m for m in self.read(topic, self.end_offsets(topic)) if m.key == policy.encode()]
        return sorted(found, key=lambda message: message.offset, reverse=True)

    async def _reader(self, topic: str, partitions: Collection[int], start: int) -> Reader:
        # The log's exit stack closes the reader: a generator that is never exhausted could not.
        reader = await self._stack.enter_async_context(self.log.reader(topic, partitions=list(partitions)))
        for partition in partitions:
            await reader.seek(partition, start)
        return reader


async def _next_batch(batches: AsyncIterator[list[StoredMessage]]) -> list[StoredMessage] | None:
    return await anext(batches, None)


class LoggedHistory:
    """The :class:`History` of one partition of a log."""

    def __init__(self, log: BlockingLog, partition: int, end: int, published: Sequence[StoredMessage]) -> None:
        self._log = log
        self.published = published
        self.partition = partition
        self.end = end

    def __iter__(self) -> Iterator[StoredMessage]:
        return self.since(0)

    def since(self, offset: int) -> Iterator[StoredMessage]:
        """Yield the messages from an offset on."""
        return self._log.read(self._log.topics.events, {self.partition: self.end}, start=offset)

    def checkpoints(self) -> Mapping[bytes, bytes]:
        """Return the records on the checkpoint topic, for all partitions."""
        topic = self._log.topics.checkpoints
        return {message.key: message.value for message in self._log.read(topic, self._log.end_offsets(topic))}
