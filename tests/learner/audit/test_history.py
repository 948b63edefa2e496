"""The blocking interface to a log: what it reads, where it finds a policy, and what it does not do."""

import asyncio
import os
import signal
import uuid
from pathlib import Path

import pytest
from audit_traffic import POLICY, Installation

from conduit_learner.audit.history import BlockingLog
from conduit_log import LogSettings, LogUnavailableError, Message, TopicDescription, open_log
from conduit_log.embedded import EmbeddedLog
from conduit_log.memory import MemoryLog
from conduit_schemas import ConfigurationError, Topics, decode_snapshot

TOPICS = Topics()


def memory(partitions: int = 3) -> MemoryLog:
    return MemoryLog(TOPICS, partitions=partitions, clock=lambda: 1.0)


def test_a_history_ends_where_the_log_ended_and_can_be_read_again() -> None:
    with BlockingLog(memory(1), TOPICS) as log:
        log.append(TOPICS.events, [Message(b"p", b"%d" % n) for n in range(25_000)])
        history = log.partition(0)
        log.append(TOPICS.events, [Message(b"p", b"later")])
        for _ in range(2):
            assert [int(message.value) for message in history] == list(range(25_000))
        assert [message.offset for message in history.since(24_998)] == [24_998, 24_999]
        assert list(history.since(25_000)) == []
        assert history.end == 25_000


def test_a_policy_is_found_by_its_events() -> None:
    with BlockingLog(memory(), TOPICS) as log:
        keys = [f"default/{number}".encode() for number in range(12)]
        log.append(TOPICS.events, [Message(key, b"x") for key in keys])
        found = {key: log.history(key.decode()) for key in keys}
        assert {history.partition for history in found.values()} == {0, 1, 2}
        for key, history in found.items():
            assert key in {message.key for message in history}
        with pytest.raises(ConfigurationError, match="holds no event of policy 'default/none'"):
            log.history("default/none")


def test_a_policy_is_found_by_its_snapshot_unless_that_is_forged() -> None:
    made = Installation().run(40)
    true = made.published[-1]
    forged = decode_snapshot(true.value).model_copy(update={"partition": 77}).sealed()
    for value in (b"junk", forged.model_dump_json().encode(), true.value):
        with BlockingLog(memory(1), TOPICS) as log:
            log.append(TOPICS.events, [Message(POLICY.encode(), b"x")])
            log.append(TOPICS.snapshots, [Message(POLICY.encode(), value), Message(b"other", value)])
            history = log.history(POLICY)
            assert history.partition == 0
            assert [message.value for message in history.published] == [value]


def test_checkpoint_records_are_handed_on() -> None:
    with BlockingLog(memory(1), TOPICS) as log:
        log.append(TOPICS.checkpoints, [Message(b"0/0", b"old"), Message(b"0/1", b"b"), Message(b"0/0", b"new")])
        assert log.partition(0).checkpoints() == {b"0/0": b"new", b"0/1": b"b"}


def test_partitions_that_do_not_exist_are_refused() -> None:
    with (
        BlockingLog(memory(), TOPICS) as log,
        pytest.raises(ConfigurationError, match=r"no partition 7, only \[0, 1, 2\]"),
    ):
        log.partition(7)


def test_looking_at_topics_does_not_make_them(kafka_bootstrap: str) -> None:
    topics = Topics(f"history-{uuid.uuid4().hex[:12]}")
    settings = LogSettings(bootstrap_servers=kafka_bootstrap, prefix=topics.prefix, partitions=2)
    with BlockingLog(open_log(settings), topics) as log:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="does not exist: is the prefix right"):
                log.partition(0)


def test_a_policy_on_kafka(kafka_bootstrap: str) -> None:
    topics = Topics(f"history-{uuid.uuid4().hex[:12]}")
    settings = LogSettings(bootstrap_servers=kafka_bootstrap, prefix=topics.prefix, partitions=2)
    with BlockingLog(open_log(settings), topics) as log:
        log.run(log.log.create_topics)
        log.append(topics.events, [Message(b"default/%d" % (n % 5), b"%d" % n) for n in range(3_000)])
        history = log.history("default/3")
        own = [int(message.value) for message in history if message.key == b"default/3"]
        assert own == list(range(3, 3_000, 5))
        assert [message.offset for message in history] == list(range(history.end))


class Forgetful(MemoryLog):
    """A log that claims to hold five messages more than it gives."""

    async def describe(self) -> list[TopicDescription]:
        return [entry._replace(end_offsets={0: entry.end_offsets[0] + 5}) for entry in await super().describe()]


def test_messages_that_were_removed_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conduit_log.reading._POLL_S", 0.01)
    with BlockingLog(Forgetful(TOPICS), TOPICS) as log:
        assert list(log.partition(0)) == []
        log.append(TOPICS.checkpoints, [Message(b"0/0", b"x")])
        assert log.partition(0).checkpoints() == {b"0/0": b"x"}


def test_a_partition_that_stops_in_the_middle_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conduit_log.reading._POLL_S", 0.01)
    with BlockingLog(Forgetful(TOPICS), TOPICS) as log:
        log.append(TOPICS.events, [Message(b"p", b"x")])
        with pytest.raises(LogUnavailableError, match="partition 0 stopped before its end"):
            list(log.partition(0))


def test_a_log_that_cannot_be_entered_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite3").write_bytes(b"not a database, and long enough to be sure of it" * 40)
    with pytest.raises(ConfigurationError), BlockingLog(EmbeddedLog(tmp_path, topics=TOPICS), TOPICS):
        pass


def test_an_interrupt_meets_who_waits_and_the_call_ends_with_the_log() -> None:
    ended: list[str] = []

    async def interrupted() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(3600)
        finally:
            ended.append("cancelled")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it
    try:
        with BlockingLog(MemoryLog(clock=lambda: 2.0), Topics()) as log:
            for _ in range(2):
                with pytest.raises(KeyboardInterrupt):
                    log.run(interrupted)
                assert log.run(asyncio.sleep, 0.01, "done") == "done"
            assert ended == []
        assert ended == ["cancelled", "cancelled"]
    finally:
        signal.signal(signal.SIGINT, before)


async def test_a_blocking_log_may_be_used_beside_another_loop() -> None:
    with BlockingLog(MemoryLog(clock=lambda: 2.0), Topics()) as log:
        log.append(TOPICS.events, [Message(b"p", b"x")])
        assert [message.value for message in log.partition(0)] == [b"x"]
