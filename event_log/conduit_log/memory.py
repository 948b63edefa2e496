"""A log in memory, for tests, replays and simulations. It gives every guarantee except durability."""

import asyncio
import os
import threading
import time
import zlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Self

from conduit_log.ports import (
    Capabilities,
    Message,
    OnAssigned,
    OnRevoked,
    StoredMessage,
    TopicDescription,
    check_messages,
    check_topic,
)
from conduit_log.settings import LogSettings
from conduit_schemas import Topics

__all__ = ["MemoryLog"]


class MemoryLog:
    """An :class:`~conduit_log.ports.EventLog` whose messages live as long as the object does.

    Readers and writers may run in several threads, each with its own event loop. Entering and leaving have no effect.

    Parameters
    ----------
    topics
        The installation's topics.
    partitions
        Partitions of each topic.
    clock
        Returns the append time, seconds since 1970.

    Examples
    --------
    >>> async def main() -> list[StoredMessage]:
    ...     log = MemoryLog(clock=lambda: 1.5)
    ...     await log.append("conduit.events", [Message(b"policy", b"event")])
    ...     async with log.reader("conduit.events") as reader:
    ...         return await reader.poll(timeout_s=0)
    >>> asyncio.run(main())
    [StoredMessage(partition=0, offset=0, time_ms=1500, key=b'policy', value=b'event')]
    """

    capabilities = Capabilities(needs_spool=False, hosts_learner=True, has_configurable_topics=False)

    def __init__(
        self, topics: Topics | None = None, partitions: int = 1, clock: Callable[[], float] = time.time
    ) -> None:
        self.topics = topics or Topics()
        self.partitions = partitions
        self._clock = clock
        self._stored = {
            topic: [_Partition(compacted=topic in self.topics.compacted) for _ in range(partitions)]
            for topic in self.topics.all
        }
        self._groups: dict[tuple[str, str], list[_MemoryGroupReader]] = {}
        self._lock = threading.RLock()
        self._wakers: set[Callable[[], object]] = set()

    @classmethod
    def from_settings(cls, settings: LogSettings) -> "MemoryLog":
        """Return this process's log for a ``memory`` address and a prefix. It lives until the process ends."""
        with _sharing:
            key = settings.address.location, settings.prefix
            if key not in _shared:
                _shared[key] = cls(settings.topics, settings.partitions)
            return _shared[key]

    @property
    def title(self) -> str:
        """Which log this is, for people."""
        return "log in this process's memory"

    def exists(self) -> bool:
        """Return True: it exists as soon as it is created."""
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def create_topics(self) -> None:
        """Do nothing: every topic exists from the start."""

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        """Append messages in order; see :meth:`conduit_log.ports.EventLog.append`."""
        partitions = self._of(topic)
        check_messages(topic, messages)
        time_ms = int(self._clock() * 1000)
        with self._lock:
            for message in messages:
                number = zlib.crc32(message.key) % self.partitions
                partitions[number].append(number, time_ms, message)
        self._notify()

    def reader(self, topic: str, *, partitions: Collection[int] | None = None) -> "_MemoryReader":
        """Return a reader of some partitions (default: all), starting at the beginning."""
        self._of(topic)
        return _MemoryReader(self, topic, range(self.partitions) if partitions is None else partitions)

    def group_reader(
        self, topic: str, group: str, *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> "_MemoryGroupReader":
        """Return a reader that shares the topic's partitions with the rest of its group."""
        self._of(topic)
        return _MemoryGroupReader(self, topic, group, on_assigned, on_revoked)

    async def describe(self) -> list[TopicDescription]:
        """Describe the topics."""
        return [
            TopicDescription(
                name=topic,
                exists=True,
                partitions=self.partitions,
                replication=1,
                settings={"cleanup.policy": "compact" if topic in self.topics.compacted else "delete"},
                end_offsets={number: partition.end for number, partition in enumerate(partitions)},
            )
            for topic, partitions in self._stored.items()
        ]

    def _of(self, topic: str) -> "list[_Partition]":
        check_topic(self.topics, topic)
        return self._stored[topic]

    def _members(self, topic: str, group: str) -> "list[_MemoryGroupReader]":
        return self._groups.setdefault((topic, group), [])

    @contextmanager
    def _listening(self) -> Iterator[asyncio.Event]:
        """Yield an event that is set as soon as anything changes."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has been closed in the meantime
                loop.call_soon_threadsafe(changed.set)

        with self._lock:
            self._wakers.add(wake)
        try:
            yield changed
        finally:
            with self._lock:
                self._wakers.discard(wake)

    def _notify(self) -> None:
        with self._lock:
            wakers = tuple(self._wakers)
        for wake in wakers:
            wake()


_shared: dict[tuple[str, str], MemoryLog] = {}
_sharing = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.clear)  # in the child, no thread writes to the parent's logs any more


class _Partition:
    """One partition: its messages in offset order, optionally compacted."""

    def __init__(self, *, compacted: bool) -> None:
        self.end = 0
        self._compacted = compacted
        self._messages: list[StoredMessage] = []
        self._newest: dict[bytes, int] = {}
        self._time_ms = 0

    def append(self, number: int, time_ms: int, message: Message) -> None:
        if self._compacted:
            older = self._newest.get(message.key)
            if older is not None:
                del self._messages[self._index(older)]
            self._newest[message.key] = self.end
        self._time_ms = max(self._time_ms, time_ms)
        self._messages.append(StoredMessage(number, self.end, self._time_ms, message.key, message.value))
        self.end += 1

    def read(self, offset: int, count: int) -> list[StoredMessage]:
        start = self._index(offset)
        return self._messages[start : start + count]

    def _index(self, offset: int) -> int:
        return bisect_left(self._messages, offset, key=lambda message: message.offset)


class _MemoryReader:
    """See :class:`conduit_log.ports.Reader`."""

    def __init__(self, log: MemoryLog, topic: str, partitions: Collection[int]) -> None:
        self._log = log
        self._stored = log._of(topic)
        self._positions = dict.fromkeys(partitions, 0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def poll(self, *, timeout_s: float, max_messages: int = 10_000) -> list[StoredMessage]:
        deadline = time.monotonic() + timeout_s
        while True:
            with self._log._listening() as changed:
                await self._before_read()
                if messages := self._read(max_messages):
                    return messages
                try:
                    await asyncio.wait_for(changed.wait(), max(0.0, deadline - time.monotonic()))
                except TimeoutError:
                    return []

    async def seek(self, partition: int, offset: int) -> None:
        self._positions[partition] = offset

    async def end_offsets(self) -> Mapping[int, int]:
        with self._log._lock:
            return {number: self._stored[number].end for number in self._positions}

    async def _before_read(self) -> None:
        """Let a subclass change the positions."""

    def _read(self, count: int) -> list[StoredMessage]:
        messages: list[StoredMessage] = []
        for number, position in list(self._positions.items()):
            with self._log._lock:
                found = self._stored[number].read(position, count - len(messages))
            if found:
                # Moved to the end, so that a busy partition cannot starve the others.
                del self._positions[number]
                self._positions[number] = found[-1].offset + 1
                messages += found
        return messages


class _MemoryGroupReader(_MemoryReader):
    """See :class:`conduit_log.ports.GroupReader`. Partition p belongs to member p modulo the number of members."""

    def __init__(self, log: MemoryLog, topic: str, group: str, on_assigned: OnAssigned, on_revoked: OnRevoked) -> None:
        super().__init__(log, topic, ())
        self._members = log._members(topic, group)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked

    async def __aexit__(self, *exc: object) -> None:
        with self._log._lock:
            is_member = self in self._members
            if is_member:
                self._members.remove(self)
        if is_member:
            self._log._notify()
        self._positions.clear()

    @property
    def owned(self) -> Collection[int]:
        return frozenset(self._positions)

    async def _before_read(self) -> None:
        with self._log._lock:
            is_new = self not in self._members
            if is_new:
                self._members.append(self)
            rank, members = self._members.index(self), len(self._members)
        if is_new:
            self._log._notify()
        due = {number for number in range(self._log.partitions) if number % members == rank}
        if lost := sorted(set(self._positions) - due):
            for number in lost:
                del self._positions[number]
            await self._on_revoked(lost)
        if gained := sorted(due - set(self._positions)):
            starts = await self._on_assigned(gained)
            self._positions.update({number: starts.get(number, 0) for number in gained})
