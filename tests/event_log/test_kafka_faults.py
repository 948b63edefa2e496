"""The Kafka log's promises when brokers are unreachable, die or freeze, on a private broker."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from conduit_log import LogSettings, LogUnavailableError, Message, StoredMessage
from conduit_log.kafka import KafkaLog
from local_servers.broker import Broker

PATIENCE_S = 180.0


def log_on(broker: Broker, prefix: str, timeout_s: float = 4.0) -> KafkaLog:
    return KafkaLog(
        LogSettings(
            bootstrap_servers=broker.bootstrap,
            prefix=prefix,
            partitions=1,
            timeout_s=timeout_s,
            session_timeout_s=6.0,
        )
    )


async def everything(log: KafkaLog, topic: str) -> list[StoredMessage]:
    async with log.reader(topic) as reader:
        end = (await reader.end_offsets())[0]
        messages: list[StoredMessage] = []
        while not messages or messages[-1].offset + 1 < end:
            found = await reader.poll(timeout_s=180.0)
            assert found
            messages += found
        return messages


async def from_the_beginning(partitions: Collection[int]) -> Mapping[int, int]:
    return dict.fromkeys(partitions, 0)


async def nothing(partitions: Collection[int]) -> None:
    pass


@asynccontextmanager
async def frozen(broker: Broker) -> AsyncIterator[None]:
    broker.pause()
    try:
        yield
    finally:
        broker.resume()


async def test_a_log_may_be_opened_before_its_broker(kafka_broker: Broker, unique_prefix: str) -> None:
    await asyncio.to_thread(kafka_broker.stop)
    async with log_on(kafka_broker, unique_prefix) as log:
        topic = log.topics.events
        async with (
            log.reader(topic) as reader,
            log.group_reader(topic, "g", on_assigned=from_the_beginning, on_revoked=nothing) as member,
        ):
            for attempt in (
                log.append(topic, [Message(b"k", b"lost")]),
                log.create_topics(),
                log.describe(),
                reader.poll(timeout_s=0.0),
                reader.end_offsets(),
                member.poll(timeout_s=0.0),
            ):
                with pytest.raises(LogUnavailableError, match=f"{kafka_broker.bootstrap}: .* may be repeated"):
                    await attempt
            await asyncio.to_thread(kafka_broker.start)
            await log.append(topic, [Message(b"k", b"there")])
            assert [message.value for message in await reader.poll(timeout_s=180.0)] == [b"there"]
            seen: list[StoredMessage] = []
            deadline = time.monotonic() + PATIENCE_S
            while not seen and time.monotonic() < deadline:
                seen = await member.poll(timeout_s=1.0)
            assert [message.value for message in seen] == [b"there"]


async def test_a_broker_killed_under_a_writer_and_readers_loses_and_reorders_nothing(
    kafka_broker: Broker, unique_prefix: str
) -> None:
    async with log_on(kafka_broker, unique_prefix) as log:
        topic = log.topics.events
        await log.create_topics()
        confirmed: list[int] = []
        errors: list[LogUnavailableError] = []
        done = asyncio.Event()

        async def write() -> None:
            number = 0
            while not done.is_set():
                batch = [Message(b"k", b"%d" % value) for value in range(number, number + 5)]
                try:
                    await log.append(topic, batch)
                except LogUnavailableError as error:
                    errors.append(error)  # and the same batch again
                    await asyncio.sleep(0.05)
                else:
                    confirmed.extend(range(number, number + 5))
                    number += 5
                    await asyncio.sleep(0.01)

        async def follow(seen: list[StoredMessage], group: str | None) -> None:
            if group is None:
                reading = log.reader(topic)
            else:
                reading = log.group_reader(topic, group, on_assigned=from_the_beginning, on_revoked=nothing)
            async with reading as reader:
                deadline = time.monotonic() + PATIENCE_S
                while time.monotonic() < deadline:
                    with suppress(LogUnavailableError):
                        seen += await reader.poll(timeout_s=0.5)
                    if done.is_set() and seen and int(seen[-1].value) >= confirmed[-1]:
                        return

        alone: list[StoredMessage] = []
        member: list[StoredMessage] = []
        tasks = [asyncio.create_task(work) for work in (write(), follow(alone, None), follow(member, "g"))]
        for _ in range(2):
            await asyncio.sleep(1.0)
            before = len(confirmed)
            await asyncio.to_thread(kafka_broker.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(kafka_broker.start)
            deadline = time.monotonic() + PATIENCE_S
            while len(confirmed) < before + 20:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
        done.set()
        await asyncio.gather(*tasks)
        stored = await everything(log, topic)

    values = [int(message.value) for message in stored]
    first_seen = list(dict.fromkeys(values))
    assert first_seen == sorted(first_seen)
    assert set(confirmed) <= set(values)
    assert [message.offset for message in stored] == list(range(len(stored)))
    # The reader saw every message once, in order.
    assert alone == stored[: len(alone)]
    assert member == stored[: len(member)]
    assert min(len(alone), len(member)) >= len(confirmed)


async def test_a_call_repeated_while_the_broker_is_frozen_is_written_once(
    kafka_broker: Broker, unique_prefix: str
) -> None:
    async with log_on(kafka_broker, unique_prefix, timeout_s=3.0) as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"k", b"before")])
        batch = [Message(b"k", b"%d" % number) for number in range(3)]
        async with frozen(kafka_broker):
            with pytest.raises(LogUnavailableError, match="no answer within 3 s"):
                await log.append(topic, batch)
            again = asyncio.create_task(log.append(topic, batch))
            await asyncio.sleep(0.1)
        await again
        await log.append(topic, [Message(b"k", b"after")])
        stored = await everything(log, topic)
    assert [message.value for message in stored] == [b"before", b"0", b"1", b"2", b"after"]


async def test_another_call_after_an_unconfirmed_one_comes_behind_it(kafka_broker: Broker, unique_prefix: str) -> None:
    async with log_on(kafka_broker, unique_prefix, timeout_s=3.0) as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"k", b"before")])
        async with frozen(kafka_broker):
            with pytest.raises(LogUnavailableError):
                await log.append(topic, [Message(b"k", b"unconfirmed")])
            other = asyncio.create_task(log.append(topic, [Message(b"k", b"after")]))
            await asyncio.sleep(0.1)
        await other
        stored = await everything(log, topic)
    assert [message.value for message in stored] == [b"before", b"unconfirmed", b"after"]


async def test_a_long_freeze_is_reported_again_and_again_and_survived(kafka_broker: Broker, unique_prefix: str) -> None:
    async with log_on(kafka_broker, unique_prefix, timeout_s=2.0) as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"k", b"before")])
        async with log.reader(topic) as reader:
            assert len(await reader.poll(timeout_s=180.0)) == 1
            async with frozen(kafka_broker):
                for _ in range(3):
                    with pytest.raises(LogUnavailableError):
                        await log.append(topic, [Message(b"k", b"during")])
                deadline = time.monotonic() + PATIENCE_S
                with pytest.raises(LogUnavailableError):
                    while time.monotonic() < deadline:
                        assert await reader.poll(timeout_s=0.5) == []
            deadline = time.monotonic() + PATIENCE_S
            while True:
                with suppress(LogUnavailableError):
                    await log.append(topic, [Message(b"k", b"during")])
                    break
                assert time.monotonic() < deadline
            await log.append(topic, [Message(b"k", b"after")])
            seen: list[StoredMessage] = []
            while not seen or seen[-1].value != b"after":
                assert time.monotonic() < deadline
                with suppress(LogUnavailableError):
                    seen += await reader.poll(timeout_s=1.0)
    values = [message.value for message in seen]
    assert list(dict.fromkeys(values)) == [b"during", b"after"]
    assert [message.offset for message in seen] == list(range(1, len(seen) + 1))


async def test_a_broker_away_for_long_is_reported_each_time_and_found_again(
    kafka_broker: Broker, unique_prefix: str
) -> None:
    async with log_on(kafka_broker, unique_prefix, timeout_s=1.5) as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"k", b"before")])
        await asyncio.to_thread(kafka_broker.stop)
        for number in range(4):
            with pytest.raises(LogUnavailableError):
                await log.append(topic, [Message(b"k", b"%d" % number)])
        await asyncio.to_thread(kafka_broker.start)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with suppress(LogUnavailableError):
                await log.append(topic, [Message(b"k", b"after")])
                break
            assert time.monotonic() < deadline
    async with log_on(kafka_broker, unique_prefix) as log:
        values = [message.value for message in await everything(log, topic)]
    assert values[0] == b"before"
    assert values[-1] == b"after"
    # Unconfirmed messages may be there or not, but in order.
    assert values[1:-1] == sorted(values[1:-1])


async def test_a_group_that_cannot_settle_is_reported_and_joined_again(
    kafka_broker: Broker, unique_prefix: str
) -> None:
    async with log_on(kafka_broker, unique_prefix, timeout_s=2.0) as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"k", b"there")])
        member = log.group_reader(topic, "g", on_assigned=from_the_beginning, on_revoked=nothing)
        async with member:
            consumer = await member._connected()  # but not joined yet
            async with frozen(kafka_broker):
                member._session_timeout_s = 0.5  # the broker has another timeout; this one limits how long we wait
                deadline = time.monotonic() + PATIENCE_S
                with pytest.raises(LogUnavailableError, match=r"group g of .*: the group keeps rebalancing"):
                    while time.monotonic() < deadline:
                        assert await member.poll(timeout_s=0.3) == []
            assert member._consumer is not consumer
            member._session_timeout_s = 6.0
            seen: list[StoredMessage] = []
            while not seen and time.monotonic() < deadline:
                with suppress(LogUnavailableError):
                    seen = await member.poll(timeout_s=1.0)
    assert [message.value for message in seen] == [b"there"]


MEMBER = """
import asyncio, sys
from conduit_log import LogSettings
from conduit_log.kafka import KafkaLog

async def assigned(partitions):
    print("owned", flush=True)
    return {}

async def revoked(partitions):
    pass

async def main():
    bootstrap, prefix = sys.argv[1:]
    settings = LogSettings(bootstrap_servers=bootstrap, prefix=prefix, partitions=1, session_timeout_s=6.0)
    async with KafkaLog(settings) as log:
        async with log.group_reader(
            log.topics.events, "g", on_assigned=assigned, on_revoked=revoked
        ) as reader:
            while True:
                await reader.poll(timeout_s=1.0)

asyncio.run(main())
"""


@pytest.mark.process
async def test_a_killed_members_partitions_pass_on(kafka_broker: Broker, unique_prefix: str, tmp_path: Path) -> None:
    program = tmp_path / "member.py"
    program.write_text(MEMBER)
    async with log_on(kafka_broker, unique_prefix) as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"k", b"%d" % number) for number in range(5)])
        command = [sys.executable, str(program), kafka_broker.bootstrap, unique_prefix]
        owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - it returns at once
        try:
            assert owner.stdout is not None
            assert (await asyncio.to_thread(owner.stdout.readline)).strip() == "owned"
            owner.kill()
            seen: list[StoredMessage] = []
            async with log.group_reader(topic, "g", on_assigned=from_the_beginning, on_revoked=nothing) as reader:
                deadline = time.monotonic() + PATIENCE_S
                while len(seen) < 5:
                    assert time.monotonic() < deadline
                    seen += await reader.poll(timeout_s=1.0)
        finally:
            owner.kill()
            owner.wait()
    assert [int(message.value) for message in seen] == [0, 1, 2, 3, 4]
