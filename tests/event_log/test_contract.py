"""The promises of conduit_log.ports, checked on every log."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress

import pytest

from conduit_log import (
    Capabilities,
    EventLog,
    GroupReader,
    LogSettings,
    Message,
    Reader,
    StoredMessage,
    TopicDescription,
)
from conduit_log.ports import MAX_MESSAGE_BYTES
from conduit_schemas import ConfigurationError, RecordTooLargeError

Opening = Callable[[], EventLog]

PATIENCE_S = 120.0


async def read(reader: Reader | GroupReader, count: int, **options: int) -> list[StoredMessage]:
    """Poll until exactly ``count`` messages have arrived."""
    deadline = time.monotonic() + PATIENCE_S
    messages: list[StoredMessage] = []
    while len(messages) < count and time.monotonic() < deadline:
        messages += await reader.poll(timeout_s=1.0, **options)
    assert len(messages) == count
    return messages


async def everything(log: EventLog, topic: str) -> list[StoredMessage]:
    """Read up to the current end."""
    async with log.reader(topic) as reader:
        ends = dict(await reader.end_offsets())
        messages: list[StoredMessage] = []
        next_offset = dict.fromkeys(ends, 0)
        deadline = time.monotonic() + PATIENCE_S
        while any(next_offset[number] < end for number, end in ends.items()):
            assert time.monotonic() < deadline
            for message in await reader.poll(timeout_s=1.0):
                messages.append(message)
                next_offset[message.partition] = message.offset + 1
        return messages


def by_key(messages: Iterable[StoredMessage]) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = defaultdict(list)
    for message in messages:
        values[message.key].append(message.value)
    return values


def numbered(key: bytes, count: int, start: int = 0) -> list[Message]:
    return [Message(key, b"%d" % number) for number in range(start, start + count)]


async def test_messages_come_back_complete_and_in_order_per_key(opening: Opening) -> None:
    before_ms = int(time.time() * 1000)
    async with opening() as log:
        topic = log.topics.events
        keys = [b"policy-%d" % number for number in range(9)]
        for batch in range(5):
            mixed = [Message(key, b"%d" % (batch * 10 + index)) for index in range(10) for key in keys]
            await log.append(topic, mixed)
        messages = await everything(log, topic)

    assert by_key(messages) == {key: [b"%d" % number for number in range(50)] for key in keys}
    partitions: dict[int, list[StoredMessage]] = defaultdict(list)
    home: dict[bytes, set[int]] = defaultdict(set)
    for message in messages:
        partitions[message.partition].append(message)
        home[message.key].add(message.partition)
    assert all(len(numbers) == 1 for numbers in home.values())
    for stored in partitions.values():
        assert [message.offset for message in stored] == list(range(len(stored)))
        times = [message.time_ms for message in stored]
        assert times == sorted(times)
        assert before_ms - 60_000 <= times[0] <= times[-1] <= time.time() * 1000 + 60_000


async def test_what_append_returned_for_is_there_for_everybody_at_once(opening: Opening) -> None:
    async with opening() as writing, opening() as reading:
        topic = writing.topics.events
        for count in range(1, 4):
            await writing.append(topic, numbered(b"k", 1, count))
            async with reading.reader(topic) as reader:
                assert sum((await reader.end_offsets()).values()) == count
            assert [message.value for message in await everything(reading, topic)][-1] == b"%d" % count


async def test_it_is_still_there_after_everybody_left(opening: Opening) -> None:
    async with opening() as log:
        await log.append(log.topics.events, numbered(b"k", 3))
    async with opening() as log:
        await log.append(log.topics.events, numbered(b"k", 3, 3))
        messages = await everything(log, log.topics.events)
    assert [message.value for message in messages] == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_a_large_batch_keeps_its_order(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"k", b"%06d" % number * 20) for number in range(5000)])
        messages = await everything(log, topic)
    assert [int(message.value[:6]) for message in messages] == list(range(5000))


async def test_appending_nothing_changes_nothing(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, [])
        await log.append(topic, numbered(b"k", 1))
        await log.append(topic, [])
        assert len(await everything(log, topic)) == 1


async def test_tasks_that_append_at_once_keep_the_order_of_their_own_keys(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events

        async def write(key: bytes) -> None:
            for batch in range(10):
                await log.append(topic, numbered(key, 5, batch * 5))

        keys = [b"a", b"b", b"c", b"d", b"e"]
        await asyncio.gather(*map(write, keys))
        values = by_key(await everything(log, topic))
    assert values == {key: [b"%d" % number for number in range(50)] for key in keys}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("grüße/模型/🦊".encode(), "ответ".encode()),
        (b"\x00\xff\x00", bytes(range(256))),
        (b"", b"no key"),
        (b"no value", b""),
    ],
)
async def test_any_bytes_survive(opening: Opening, key: bytes, value: bytes) -> None:
    async with opening() as log:
        await log.append(log.topics.events, [Message(key, value)])
        (message,) = await everything(log, log.topics.events)
    assert (message.key, message.value) == (key, value)


async def test_a_message_of_the_greatest_size_passes_and_a_larger_one_is_refused(opening: Opening) -> None:
    noise = random.Random(1).randbytes(MAX_MESSAGE_BYTES)  # does not compress
    async with opening() as log:
        for topic in (log.topics.events, log.topics.snapshots):
            await log.append(topic, [Message(b"key", noise[3:])])
            with pytest.raises(RecordTooLargeError, match=r"message 1 .*1,048,001 bytes"):
                await log.append(topic, [Message(b"key", b"small"), Message(b"key", noise[2:])])
            (message,) = await everything(log, topic)
            assert message.value == noise[3:]


async def test_several_large_messages_come_one_poll_after_the_other(opening: Opening) -> None:
    noise = random.Random(2).randbytes(1_000_000)
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"k", b"%02d" % number + noise) for number in range(40)])
        async with log.reader(topic) as reader:
            messages = await read(reader, 40)
    assert [int(message.value[:2]) for message in messages] == list(range(40))


async def test_a_reader_starts_at_the_beginning_and_returns_each_message_once(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, numbered(b"k", 25))
        async with log.reader(topic) as reader:
            first = await read(reader, 25)
            assert await reader.poll(timeout_s=0.2) == []
            await log.append(topic, numbered(b"k", 5, 25))
            second = await read(reader, 5)
    assert [int(message.value) for message in first + second] == list(range(30))


async def test_poll_returns_at_most_what_was_asked_for(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"%d" % (number % 7), b"%d" % number) for number in range(50)])
        async with log.reader(topic) as reader:
            seen: list[StoredMessage] = []
            deadline = time.monotonic() + PATIENCE_S
            while len(seen) < 50 and time.monotonic() < deadline:
                messages = await reader.poll(timeout_s=1.0, max_messages=8)
                assert len(messages) <= 8
                seen += messages
    assert sorted(int(message.value) for message in seen) == list(range(50))


async def test_poll_waits_for_a_message_that_comes_later(opening: Opening) -> None:
    async with opening() as log, opening() as other:
        topic = log.topics.events
        async with log.reader(topic) as reader:
            assert await reader.poll(timeout_s=0.0) == []
            waiting = asyncio.create_task(reader.poll(timeout_s=PATIENCE_S))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await other.append(topic, numbered(b"k", 1))
            assert [message.value for message in await waiting] == [b"0"]


async def test_cancelled_polls_lose_nothing(opening: Opening) -> None:
    chance = random.Random(3)
    async with opening() as log:
        topic = log.topics.events
        async with log.reader(topic) as reader:
            seen: list[StoredMessage] = []
            for number in range(40):
                with suppress(TimeoutError):
                    seen += await asyncio.wait_for(reader.poll(timeout_s=1.0), chance.uniform(0.0, 0.02))
                await log.append(topic, numbered(b"k", 1, number))
            seen += await read(reader, 40 - len(seen))
    assert [int(message.value) for message in seen] == list(range(40))


async def test_seek_continues_at_an_offset(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, numbered(b"k", 10))
        async with log.reader(topic) as reader:
            home = (await read(reader, 10))[0].partition
            await reader.seek(home, 7)
            assert [int(message.value) for message in await read(reader, 3)] == [7, 8, 9]
            await reader.seek(home, 0)
            assert [int(message.value) for message in await read(reader, 10)] == list(range(10))
            await reader.seek(home, (await reader.end_offsets())[home])
            assert await reader.poll(timeout_s=0.2) == []
            await log.append(topic, numbered(b"k", 1, 10))
            assert [int(message.value) for message in await read(reader, 1)] == [10]
        async with log.reader(topic, partitions=[home]) as reader:
            await reader.seek(home, 4)  # before anything was read
            assert [int(message.value) for message in await read(reader, 7)] == list(range(4, 11))


async def test_a_position_ahead_of_the_end_waits_for_the_log_to_get_there(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, numbered(b"k", 3))
        home = (await everything(log, topic))[0].partition
        async with log.reader(topic, partitions=[home]) as reader:
            await reader.seek(home, 5)
            assert await reader.poll(timeout_s=1.0) == []
            await log.append(topic, numbered(b"k", 4, 3))
            assert [message.offset for message in await read(reader, 2)] == [5, 6]


async def test_a_reader_of_chosen_partitions_sees_no_other(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"%d" % number, b"") for number in range(40)])
        messages = await everything(log, topic)
        for number in {message.partition for message in messages}:
            expected = [message for message in messages if message.partition == number]
            async with log.reader(topic, partitions=[number]) as reader:
                assert await read(reader, len(expected)) == expected
                assert set(await reader.end_offsets()) == {number}


async def test_two_readers_do_not_disturb_each_other(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, numbered(b"k", 6))
        async with log.reader(topic) as one, log.reader(topic) as two:
            first = await read(one, 6)
            assert await read(two, 6) == first
            await two.seek(first[0].partition, 5)
            assert await one.poll(timeout_s=0.1) == []
            assert await read(two, 1) == first[5:]


async def test_a_compacted_topic_shows_at_least_the_newest_message_of_every_key(opening: Opening) -> None:
    async with opening() as log:
        for topic in sorted(log.topics.compacted):
            for generation in range(20):
                await log.append(topic, [Message(b"k%d" % key, b"%d" % generation) for key in range(5)])
            await log.append(topic, [Message(b"k0", b"twice"), Message(b"k0", b"in one batch")])
            values = by_key(await everything(log, topic))
            newest = {key: stored[-1] for key, stored in values.items()}
            assert newest == {b"k0": b"in one batch"} | {b"k%d" % key: b"19" for key in range(1, 5)}


async def test_a_reader_in_the_middle_of_a_compacted_topic_misses_no_newest_message(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.snapshots
        await log.append(topic, [Message(b"a", b"1"), Message(b"b", b"1"), Message(b"c", b"1")])
        async with log.reader(topic) as reader:
            seen = await reader.poll(timeout_s=PATIENCE_S, max_messages=1)
            await log.append(topic, [Message(b"a", b"2"), Message(b"b", b"2")])
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                seen += await reader.poll(timeout_s=0.5)
                newest = {message.key: message.value for message in seen}
                if newest == {b"a": b"2", b"b": b"2", b"c": b"1"}:
                    break
    assert newest == {b"a": b"2", b"b": b"2", b"c": b"1"}


async def test_topics_are_separate(opening: Opening) -> None:
    async with opening() as log:
        for topic in log.topics.all:
            await log.append(topic, [Message(b"k", topic.encode())])
        for topic in log.topics.all:
            assert [message.value for message in await everything(log, topic)] == [topic.encode()]


async def test_a_topic_of_somebody_else_is_refused(opening: Opening) -> None:
    async def nobody(partitions: Collection[int]) -> Mapping[int, int]:
        raise AssertionError

    async def nothing(partitions: Collection[int]) -> None:
        raise AssertionError

    async with opening() as log:
        with pytest.raises(ConfigurationError, match=r"'other\.events' is not one of"):
            await log.append("other.events", numbered(b"k", 1))
        with pytest.raises(ConfigurationError, match="is not one of"):
            log.reader("other.events")
        with pytest.raises(ConfigurationError, match="is not one of"):
            log.group_reader("other.events", "g", on_assigned=nobody, on_revoked=nothing)


async def test_creating_topics_again_leaves_them_as_they_are(opening: Opening) -> None:
    async with opening() as log, opening() as other:
        await log.create_topics()
        await log.append(log.topics.events, numbered(b"k", 2))
        before = await log.describe()
        await log.create_topics()
        await other.create_topics()
        assert await other.describe() == before
        assert len(await everything(other, log.topics.events)) == 2


async def test_topics_are_described(opening: Opening) -> None:
    async with opening() as log:
        await log.create_topics()
        await log.append(log.topics.events, numbered(b"k", 4))
        descriptions = await log.describe()
        async with log.reader(log.topics.events) as reader:
            ends = await reader.end_offsets()
    assert [description.name for description in descriptions] == list(log.topics.all)
    compacting = {topic.name for topic in descriptions if topic.settings.get("cleanup.policy") == "compact"}
    assert compacting in (set(log.topics.compacted), set())  # unless the log removes nothing
    for description in descriptions:
        assert isinstance(description, TopicDescription)
        assert description.exists
        assert description.replication == 1
        assert set(description.end_offsets) == set(range(description.partitions))
    assert descriptions[0].end_offsets == ends
    assert sum(ends.values()) == 4


async def test_it_says_what_it_is(opening: Opening) -> None:
    async with opening() as log:
        assert log.exists()
        assert isinstance(log.capabilities, Capabilities)
        assert log.title and log.title == log.title.strip()


class Member:
    """A member of a group that records its callbacks, and the task of each."""

    def __init__(self, log: EventLog, topic: str, group: str, starts: Mapping[int, int] | None = None) -> None:
        self.starts = dict(starts or {})
        self.news: list[tuple[str, list[int]]] = []
        self.tasks: list[asyncio.Task[object] | None] = []
        self.messages: list[StoredMessage] = []
        self.reader = log.group_reader(topic, group, on_assigned=self.assigned, on_revoked=self.revoked)

    async def assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        await asyncio.sleep(0.01)  # callbacks may wait
        self.tasks.append(asyncio.current_task())
        self.news.append(("assigned", sorted(partitions)))
        return {number: self.starts[number] for number in partitions if number in self.starts}

    async def revoked(self, partitions: Collection[int]) -> None:
        self.tasks.append(asyncio.current_task())
        self.news.append(("revoked", sorted(partitions)))

    async def poll(self, timeout_s: float = 0.3) -> None:
        for message in await self.reader.poll(timeout_s=timeout_s):
            assert message.partition in self.reader.owned
            self.messages.append(message)

    def owns_by_its_news(self) -> set[int]:
        owned: set[int] = set()
        for what, partitions in self.news:
            owned = owned | set(partitions) if what == "assigned" else owned - set(partitions)
        return owned


async def until(condition: Callable[[], bool], *steps: Callable[[], Awaitable[None]]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        for step in steps:
            await step()


async def test_the_only_member_owns_everything_and_starts_where_it_says(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"%d" % (number % 12), b"") for number in range(120)])
        stored = await everything(log, topic)
        partitions = set(range((await log.describe())[0].partitions))
        chosen = min(message.partition for message in stored)
        member = Member(log, topic, "g", starts={chosen: 3})
        expected = [message for message in stored if message.partition != chosen or message.offset >= 3]
        async with member.reader:
            assert member.news == []
            assert set(member.reader.owned) == set()
            await until(lambda: len(member.messages) >= len(expected), member.poll)
            await member.poll()
            assert set(member.reader.owned) == partitions
            ends = await member.reader.end_offsets()
    assert sorted(member.messages) == sorted(expected)
    assert member.news == [("assigned", sorted(partitions))]  # leaving runs no callback
    assert member.tasks == [asyncio.current_task()]
    assert ends == {number: sum(message.partition == number for message in stored) for number in sorted(partitions)}


async def test_two_members_share_and_the_one_that_stays_takes_over(opening: Opening) -> None:
    async with opening() as one_log, opening() as two_log:
        topic = one_log.topics.events
        await one_log.append(topic, [Message(b"%d" % number, b"early") for number in range(60)])
        total = set(range((await one_log.describe())[0].partitions))
        one, two = Member(one_log, topic, "g"), Member(two_log, topic, "g")

        def settled() -> bool:
            owned = set(one.reader.owned), set(two.reader.owned)
            fair = max(map(len, owned)) - min(map(len, owned)) <= 1
            return owned[0] | owned[1] == total and not owned[0] & owned[1] and fair

        async with two.reader:
            async with one.reader:
                await until(lambda: set(one.reader.owned) == total, one.poll)
                await until(settled, one.poll, two.poll)
                for member in (one, two):
                    assert member.owns_by_its_news() == set(member.reader.owned)
                stays = set(two.reader.owned)
                before_leaving = list(one.news)
            assert one.news == before_leaving
            await until(lambda: set(two.reader.owned) == total, two.poll)
            await two_log.append(topic, [Message(b"%d" % number, b"late") for number in range(60)])
            await until(lambda: sum(message.value == b"late" for message in two.messages) >= 60, two.poll)
        gained = [number for what, numbers in two.news if what == "assigned" for number in numbers]
        assert sorted(gained) == sorted(total)  # partitions that it kept were not announced again
        assert stays <= total
        late = [message for message in two.messages if message.value == b"late"]
        assert len({message.key for message in late}) == 60
        for number in total:  # every partition continues without a gap or a repetition
            offsets = [message.offset for message in two.messages if message.partition == number]
            assert offsets == list(range(len(offsets)))


async def test_groups_do_not_share_with_each_other(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, numbered(b"k", 5))
        one, two = Member(log, topic, "one"), Member(log, topic, "two")
        async with one.reader, two.reader:
            await until(lambda: len(one.messages) == len(two.messages) == 5, one.poll, two.poll)


async def test_an_assignment_whose_callback_fails_is_offered_again(opening: Opening) -> None:
    async with opening() as log:
        topic = log.topics.events
        await log.append(topic, numbered(b"k", 3))
        member = Member(log, topic, "g")
        works = member.assigned
        attempts = 0

        async def fails_twice(partitions: Collection[int]) -> Mapping[int, int]:
            nonlocal attempts
            attempts += 1
            if attempts <= 2:
                raise ZeroDivisionError
            return await works(partitions)

        async def nothing(partitions: Collection[int]) -> None:
            raise AssertionError

        async with log.group_reader(topic, "g", on_assigned=fails_twice, on_revoked=nothing) as reader:
            failures = 0
            messages: list[StoredMessage] = []
            deadline = time.monotonic() + PATIENCE_S
            while len(messages) < 3 and time.monotonic() < deadline:
                try:
                    messages += await reader.poll(timeout_s=0.3)
                except ZeroDivisionError:
                    failures += 1
                    assert set(reader.owned) == set()
        assert failures == 2
        assert [int(message.value) for message in messages] == [0, 1, 2]


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong in (
        {"compression": "rar"},
        {"partitions": 0},
        {"replication_factor": 0},
        {"timeout_s": 0.0},
        {"session_timeout_s": float("nan")},
        {"prefix": "no spaces"},
    ):
        with pytest.raises(ConfigurationError):
            LogSettings(**wrong)  # type: ignore[arg-type]  # one wrong value at a time
