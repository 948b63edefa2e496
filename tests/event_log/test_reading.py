"""Reading up to an end that is known in advance."""

import pytest

from conduit_log import LogUnavailableError, Message, StoredMessage
from conduit_log.memory import MemoryLog
from conduit_log.reading import batches_until

TOPIC = "conduit.events"


async def filled(count: int) -> MemoryLog:
    log = MemoryLog(clock=lambda: 1.0)
    await log.append(TOPIC, [Message(b"p", b"%d" % number) for number in range(count)])
    return log


async def test_it_ends_with_the_batch_that_holds_the_last_message() -> None:
    log = await filled(10)
    async with log.reader(TOPIC) as reader:
        waiting = {0: 7}
        found = [len(batch) async for batch in batches_until(reader, waiting, max_messages=4)]
    assert found == [4, 4] and waiting == {}


async def test_deleted_messages_are_not_waited_for_and_their_partition_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conduit_log.reading._POLL_S", 0.01)
    log = await filled(2)
    async with log.reader(TOPIC) as reader:
        waiting = {0: 5}
        found = [len(batch) async for batch in batches_until(reader, waiting)]
    assert found == [2, 0, 0, 0] and waiting == {0: 5}


async def test_after_an_error_it_continues_with_what_is_left() -> None:
    log = await filled(6)
    async with log.reader(TOPIC) as reader:
        poll, calls = reader.poll, 0

        async def fails_once(*, timeout_s: float, max_messages: int = 10_000) -> list[StoredMessage]:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise LogUnavailableError("gone for a moment")
            return await poll(timeout_s=timeout_s, max_messages=max_messages)

        reader.poll = fails_once  # type: ignore[method-assign]  # this one reader fails, its class does not
        waiting = dict(await reader.end_offsets())
        read: list[int] = []
        with pytest.raises(LogUnavailableError):
            async for batch in batches_until(reader, waiting, max_messages=3):
                read += [message.offset for message in batch]
        async for batch in batches_until(reader, waiting, max_messages=3):
            read += [message.offset for message in batch]
    assert read == list(range(6))


async def test_an_unreachable_log_is_not_taken_for_a_deletion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conduit_log.reading._POLL_S", 0.0)
    log = await filled(0)
    async with log.reader(TOPIC) as reader:

        async def away() -> dict[int, int]:
            raise LogUnavailableError("no answer")

        reader.end_offsets = away  # type: ignore[method-assign]  # as above
        with pytest.raises(LogUnavailableError, match="no answer"):
            [batch async for batch in batches_until(reader, {0: 1})]
