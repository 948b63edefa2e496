"""Appending to Kafka: confirmed, in order, in bounded time, and again after every failure."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from conduit_log.kafka.connection import Connection, stop
from conduit_log.ports import Message

__all__ = ["Producer"]

_Call = tuple[str, tuple[Message, ...]]


class Producer:
    """An idempotent Kafka producer that is connected when first needed and replaced when it is broken.

    The client never gives up what it was handed, which is what keeps the order. So a call that ran out of
    time leaves messages behind that may still be delivered. The next call first waits for those; if it is
    the same call again, it waits for its own instead of appending them twice. When they stay unconfirmed
    for another whole timeout, the client is thrown away together with them and a new one is made.
    """

    def __init__(self, connection: Connection, compression: str) -> None:
        self._connection = connection
        self._compression = None if compression == "none" else compression
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._unconfirmed: dict[_Call, list[asyncio.Future[Any]]] = {}
        self._unconfirmed_since = 0.0

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        """Append messages in order; on return the brokers have confirmed every one.

        Raises
        ------
        KafkaError
            When the client gave up; nothing of this call is pending any more.
        """
        call = (topic, tuple(messages))
        sent = self._unconfirmed.pop(call, [])
        try:
            client = await self._connected()
            await self._settle()
            for message in messages[len(sent) :]:
                sent.append(await client.send(topic, key=message.key, value=message.value))
            await asyncio.wait(sent)
            for confirmation in sent:
                confirmation.result()
        except KafkaError:
            # A batch that failed for good leaves a hole in the sequence the broker expects.
            await self.close()
            raise
        except asyncio.CancelledError:  # which is also how a timeout arrives here
            await self._leave(call, sent)
            raise

    async def close(self) -> None:
        """Drop whatever is unconfirmed and disconnect."""
        client, self._client = self._client, None
        self._unconfirmed.clear()
        if client is None:
            return
        # Without this, stop() would wait for the delivery of what is pending, for ever if need be. Whoever
        # still waits for a confirmation learns that there will be none.
        client._message_accumulator.fail_all(ProducerClosed("gave up waiting for confirmation"))
        await stop(client, client.client)

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is None:
                client = AIOKafkaProducer(
                    **self._connection.options,
                    enable_idempotence=True,
                    acks="all",
                    compression_type=self._compression,
                    max_batch_size=1 << 18,
                )
                try:
                    await client.start()
                except BaseException:
                    await stop(client, client.client)
                    raise
                self._client = client
            return self._client

    async def _settle(self) -> None:
        """Wait until nothing that earlier calls left behind is pending."""
        while self._unconfirmed:
            call, sent = next(iter(self._unconfirmed.items()))
            await asyncio.wait(sent)
            self._unconfirmed.pop(call, None)
            for confirmation in sent:
                confirmation.result()

    async def _leave(self, call: _Call, sent: list[asyncio.Future[Any]]) -> None:
        now = time.monotonic()
        if not self._unconfirmed:
            self._unconfirmed_since = now
        if sent:
            self._unconfirmed[call] = sent
        if self._unconfirmed and now - self._unconfirmed_since > 0.9 * self._connection.timeout_s:
            await self.close()
