"""Read the part of a log that was there at some moment: up to the offsets at which its partitions ended then."""

from collections.abc import AsyncIterator

from conduit_log.ports import Reader, StoredMessage

__all__ = ["batches_until"]

_POLL_S = 5.0
_EMPTY_POLLS = 3


async def batches_until(
    reader: Reader, waiting: dict[int, int], *, max_messages: int = 10_000
) -> AsyncIterator[list[StoredMessage]]:
    """Yield the messages of every poll, until each partition has reached its end.

    A batch may be empty, and may hold messages beyond an end. Messages that were deleted meanwhile never arrive, so
    reading stops after three polls in a row without a message.

    Parameters
    ----------
    reader
        An open reader, at the positions to start from.
    waiting
        The end of each partition: the offset after its last message to read. Partitions that have reached theirs are
        removed. After an error, call again with what is left.
    max_messages
        Maximum number of messages in a batch.

    Raises
    ------
    LogUnavailableError
        When the log cannot be reached.

    Examples
    --------
    >>> import asyncio
    >>> from conduit_log.memory import MemoryLog, Message
    >>> async def main() -> list[bytes]:
    ...     log = MemoryLog()
    ...     await log.append("conduit.events", [Message(b"policy", b"one"), Message(b"policy", b"two")])
    ...     async with log.reader("conduit.events") as reader:
    ...         waiting = dict(await reader.end_offsets())
    ...         return [message.value async for batch in batches_until(reader, waiting) for message in batch]
    >>> asyncio.run(main())
    [b'one', b'two']
    """
    empty = 0
    while waiting and empty < _EMPTY_POLLS:
        messages = await reader.poll(timeout_s=_POLL_S, max_messages=max_messages)
        empty = 0 if messages else empty + 1
        if not messages:
            await reader.end_offsets()  # raises if the log is unreachable, which must not be mistaken for deletion
        for message in messages:
            if message.offset >= waiting.get(message.partition, 0) - 1:
                waiting.pop(message.partition, None)
        yield messages
