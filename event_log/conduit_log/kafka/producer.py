"""Append to Kafka: in order, with confirmation, in bounded time, and with recovery after every failure."""

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
    """An idempotent Kafka producer that connects when first needed and is replaced after a failure.

    The client never gives up on messages it has accepted; this keeps the order. A call that times out therefore leaves
    messages that may still be delivered. The next call first waits for them. If it repeats the same messages, it waits
    for their confirmation instead of appending them twice. If they remain unconfirmed for another whole timeout, the
    client is discarded with them, and a new one is created.
    """

    def __init__(self, connection: Connection, compression: str) -> None:
        self._connection = connection
        self._compression = None if compression == "none" else compression
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._unconfirmed: dict[_Call, list[asyncio.Future[Any]]] = {}
        self._unconfirmed_since = 0.0

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        """Append messages in order. When this returns, the brokers have confirmed all of them.

        Raises
        ------
        KafkaError
            When the client failed. No message of this call is pending any more.
        """
        call = (topic, tuple(messages))
        sent = self._unconfirmed.pop(call, [])
        try:
            client = await self._connected()
            await self._wait_for_earlier_calls()
            for message in messages[len(sent) :]:
                sent.append(await client.send(topic, key=message.key, value=message.value))
            await asyncio.wait(sent)
            for confirmation in sent:
                confirmation.result()
        except KafkaError:
            # A batch that failed finally leaves a gap in the sequence that the broker expects.
            await self.close()
            raise
        except asyncio.CancelledError:  # a timeout arrives here as a cancellation, too
            await self._remember_unconfirmed(call, sent)
            raise

    async def close(self) -> None:
        """Discard all unconfirmed messages and disconnect."""
        client, self._client = self._client, None
        self._unconfirmed.clear()
        if client is None:
            return
        # Without this, stop() would wait for pending deliveries, possibly forever. Callers that still wait for a
        # confirmation get this error.
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

    async def _wait_for_earlier_calls(self) -> None:
        """Wait until no message of an earlier call is pending."""
        while self._unconfirmed:
            call, sent = next(iter(self._unconfirmed.items()))
            await asyncio.wait(sent)
            self._unconfirmed.pop(call, None)
            for confirmation in sent:
                confirmation.result()

    async def _remember_unconfirmed(self, call: _Call, sent: list[asyncio.Future[Any]]) -> None:
        now = time.monotonic()
        if not self._unconfirmed:
            self._unconfirmed_since = now
        if sent:
            self._unconfirmed[call] = sent
        if self._unconfirmed and now - self._unconfirmed_since > 0.9 * self._connection.timeout_s:
            await self.close()
