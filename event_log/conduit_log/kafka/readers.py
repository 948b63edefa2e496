"""Read from Kafka, alone or as a member of a group. The reader keeps the positions itself."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from conduit_log.kafka.connection import Connection, stop
from conduit_log.kafka.topics import KafkaTopics
from conduit_log.ports import LogUnavailableError, OnAssigned, OnRevoked, StoredMessage

__all__ = ["KafkaGroupReader", "KafkaReader"]

_SLICE_S = 0.5
_MAX_PAUSE_S = 600.0


class KafkaReader:
    """See :class:`conduit_log.ports.Reader`.

    Positions are kept here, not in the client. After any failure the client is discarded. The next poll creates a new
    one, which continues after the last message returned.
    """

    def __init__(
        self, connection: Connection, topics: KafkaTopics, topic: str, partitions: Collection[int] | None
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._topic = topic
        self._wanted = partitions
        self._positions: dict[int, int] = {}
        self._consumer: Any = None
        self._contact = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._disconnect()

    async def poll(self, *, timeout_s: float, max_messages: int = 10_000) -> list[StoredMessage]:
        """Return new messages; see :meth:`conduit_log.ports.Reader.poll`."""
        consumer = await self._connected()
        try:
            async with self._connection.attempt(f"read {self._topic}", extra_s=timeout_s):
                found = await consumer.getmany(
                    *self._places(), timeout_ms=int(timeout_s * 1000), max_records=max_messages
                )
            messages = self._take(found)
            if not messages:
                self._check_contact(consumer)
        except LogUnavailableError:
            await self._disconnect()
            raise
        return messages

    async def seek(self, partition: int, offset: int) -> None:
        """Continue a partition at ``offset``, or at the first message after it."""
        self._positions[partition] = offset
        if self._consumer is not None:
            self._consumer.seek(TopicPartition(self._topic, partition), offset)

    async def end_offsets(self) -> Mapping[int, int]:
        """Return, per partition, the offset that the next message will get."""
        consumer = await self._connected()
        async with self._connection.attempt(f"ask for the end of {self._topic}"):
            ends = await consumer.end_offsets(self._places())
        return {place.partition: end for place, end in ends.items()}

    async def _connected(self) -> Any:
        if self._consumer is None:
            async with self._connection.attempt(f"connect to read {self._topic}"):
                count = await self._topics.partitions(self._topic)
                consumer = self._new_consumer(count)
                try:
                    await consumer.start()
                    self._begin(consumer)
                except BaseException:
                    await stop(consumer, consumer._client)
                    raise
            self._consumer = consumer
            self._contact = time.time()
        return self._consumer

    def _new_consumer(self, count: int) -> Any:
        wanted = range(count) if self._wanted is None else self._wanted
        self._positions = {number: self._positions.get(number, 0) for number in wanted}
        return AIOKafkaConsumer(**self._connection.options, **_CONSUMER_OPTIONS)

    def _begin(self, consumer: Any) -> None:
        consumer.assign(self._places())
        for number, position in self._positions.items():
            consumer.seek(TopicPartition(self._topic, number), position)

    def _places(self) -> list[Any]:
        return [TopicPartition(self._topic, number) for number in self._positions]

    def _take(self, found: Mapping[Any, Iterable[Any]]) -> list[StoredMessage]:
        messages: list[StoredMessage] = []
        for place, records in found.items():
            number, position = place.partition, self._positions[place.partition]
            # If the broker does not have a position, the client starts at the oldest message. That is right if old
            # messages were removed. If the position lies ahead, the messages before it are skipped here.
            new = [
                StoredMessage(number, record.offset, record.timestamp, record.key or b"", record.value or b"")
                for record in records
                if record.offset >= position
            ]
            if new:
                self._positions[number] = new[-1].offset + 1
                messages += new
        return messages

    def _check_contact(self, consumer: Any) -> None:
        """Raise an error if no broker has answered for long. The client itself keeps trying silently."""
        assigned = consumer.assignment()  # the group may have begun to rebalance a moment ago
        for place in self._places():
            if place in assigned:
                self._contact = max(self._contact, (consumer.last_poll_timestamp(place) or 0) / 1000)
        if self._positions and time.time() - self._contact > self._connection.timeout_s:
            raise self._connection.unavailable(f"read {self._topic}", f"no answer for {self._connection.timeout_s:g} s")

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop(consumer, consumer._client)


class KafkaGroupReader(KafkaReader):
    """See :class:`conduit_log.ports.GroupReader`.

    The group uses Kafka's eager protocol: every change revokes all partitions and assigns them again. The caller sees
    only the difference. Partitions that stay continue at their position.
    """

    def __init__(
        self,
        connection: Connection,
        topics: KafkaTopics,
        topic: str,
        *,
        group: str,
        session_timeout_s: float,
        on_assigned: OnAssigned,
        on_revoked: OnRevoked,
    ) -> None:
        super().__init__(connection, topics, topic, None)
        self._group = group
        self._session_timeout_s = session_timeout_s
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._assigned = _Assignment()
        self._applied = 0
        self._fetching: asyncio.Task[Any] | None = None
        self._fetching_round = 0

    @property
    def owned(self) -> Collection[int]:
        """The partitions that this reader owns now."""
        return frozenset(self._positions)

    async def poll(self, *, timeout_s: float, max_messages: int = 10_000) -> list[StoredMessage]:
        """Return new messages of the owned partitions; see :meth:`conduit_log.ports.GroupReader.poll`."""
        deadline = time.monotonic() + timeout_s
        while True:
            consumer = await self._connected()
            try:
                await self._apply(consumer)
                left = max(0.0, deadline - time.monotonic())
                found = await self._fetch(consumer, min(left, _SLICE_S), max_messages)
                if self._fetching_round == self._assigned.round:
                    if messages := self._take(found):
                        return messages
                elif found:
                    # Fetched before a rebalance, these may come from wrong positions. If the positions had been set
                    # again before the answer, the client is now past the messages discarded here: set them once more.
                    self._applied = _NEVER
                self._check_contact(consumer)
            except LogUnavailableError:
                await self._disconnect()
                raise
            if time.monotonic() >= deadline:
                return []

    async def _apply(self, consumer: Any) -> None:
        """Report lost and gained partitions to the caller, and seek to the positions."""
        while self._applied != self._assigned.round:
            now, partitions = self._assigned.round, self._assigned.partitions
            if lost := sorted(set(self._positions) - partitions):
                for number in lost:
                    del self._positions[number]
                await self._on_revoked(lost)
            if gained := sorted(partitions - set(self._positions)):
                starts = await self._on_assigned(gained)
                self._positions.update({number: starts.get(number, 0) for number in gained})
            if now == self._assigned.round:
                async with self._connection.attempt(f"take partitions of {self._topic}"):
                    for number, position in self._positions.items():
                        consumer.seek(TopicPartition(self._topic, number), position)
                self._applied = now
                self._contact = time.time()

    async def _fetch(self, consumer: Any, wait_s: float, count: int) -> Mapping[Any, Iterable[Any]]:
        # During a rebalance the client's call waits however long it takes, and cancelling it would corrupt its
        # bookkeeping. It therefore runs as a task, and the next poll waits for the same task again.
        if self._fetching is None:
            self._fetching_round = self._assigned.round
            self._fetching = asyncio.create_task(
                consumer.getmany(*self._places(), timeout_ms=int(wait_s * 1000), max_records=count)
            )
        await asyncio.wait({self._fetching}, timeout=wait_s + 0.05)
        if not self._fetching.done():
            return {}
        fetching, self._fetching = self._fetching, None
        async with self._connection.attempt(f"read {self._topic} in group {self._group}"):
            found: Mapping[Any, Iterable[Any]] = fetching.result()
        return found

    def _check_contact(self, consumer: Any) -> None:
        if self._fetching is not None:
            if time.time() - self._contact > 3 * self._session_timeout_s + self._connection.timeout_s:
                raise self._connection.unavailable(
                    f"join group {self._group} of {self._topic}", "the group keeps rebalancing"
                )
        elif self._applied == self._assigned.round:
            super()._check_contact(consumer)

    def _new_consumer(self, count: int) -> Any:
        # The assignor keeps its state on the class, so consumers in one process must not share it.
        assignor = type("StickyAssignor", (StickyPartitionAssignor,), {})
        return AIOKafkaConsumer(
            **self._connection.options,
            **_CONSUMER_OPTIONS,
            group_id=self._group,
            partition_assignment_strategy=(assignor,),
            session_timeout_ms=int(self._session_timeout_s * 1000),
            heartbeat_interval_ms=int(self._session_timeout_s * 1000 / 4),
            # Taking over a partition may require reading back the whole feedback window before the next poll.
            max_poll_interval_ms=int(_MAX_PAUSE_S * 1000),
        )

    def _begin(self, consumer: Any) -> None:
        consumer.subscribe([self._topic], listener=self._assigned)

    async def _disconnect(self) -> None:
        fetching, self._fetching = self._fetching, None
        await super()._disconnect()
        if fetching is not None:
            fetching.cancel()
            with suppress(asyncio.CancelledError, KafkaError):
                await fetching


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types: its base is Any
    """Records the assigned partitions. The reader acts on them in its caller's task."""

    def __init__(self) -> None:
        self.round = 0
        self.partitions: frozenset[int] = frozenset()

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        pass

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self.round += 1
        self.partitions = frozenset(place.partition for place in assigned)


_NEVER = -1
"""Differs from the number of every rebalance."""

_CONSUMER_OPTIONS: Mapping[str, Any] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "fetch_max_bytes": 32 << 20,
    "max_partition_fetch_bytes": 4 << 20,
}
