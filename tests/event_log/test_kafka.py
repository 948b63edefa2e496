"""Promises of the Kafka log alone: settings are checked, topics are created carefully, strange records are harmless."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from conduit_log import Address, LogSettings, LogUnavailableError, Message, StoredMessage, open_log
from conduit_log.kafka import KafkaLog
from conduit_schemas import ConfigurationError, RecordTooLargeError

Configure = Callable[..., LogSettings]


@asynccontextmanager
async def administrator(bootstrap: str) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@pytest.fixture
def settings(kafka_bootstrap: str, unique_prefix: str) -> Configure:
    def configure(**changes: Any) -> LogSettings:
        given = {"bootstrap_servers": kafka_bootstrap, "prefix": unique_prefix, "partitions": 1, "timeout_s": 20.0}
        return LogSettings(**given | changes)

    return configure


async def everything(log: KafkaLog, topic: str) -> list[StoredMessage]:
    async with log.reader(topic) as reader:
        ends = await reader.end_offsets()
        messages: list[StoredMessage] = []
        deadline = time.monotonic() + 120.0
        while not messages or messages[-1].offset + 1 < ends[0]:
            assert time.monotonic() < deadline
            messages += await reader.poll(timeout_s=1.0)
        return messages


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sasl_user": "x", "sasl_pass": "y"}, "unknown Kafka option 'sasl_pass', 'sasl_user'; the known"),
        ({"security_protocol": "TLS"}, "security_protocol 'TLS' is not one of PLAINTEXT, SSL"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"}, "sasl_mechanism 'GSSAPI' is not one"),
        ({"security_protocol": "SASL_PLAINTEXT", "sasl_plain_username": "u"}, "PLAIN needs sasl_plain_password"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "needs sasl_oauth_token_provider"),
        (
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "OAUTHBEARER",
                "sasl_oauth_token_provider": "a string from the environment",
            },
            "must be an aiokafka.abc.AbstractTokenProvider",
        ),
        ({"sasl_plain_username": "u"}, "sasl_plain_username needs security_protocol SASL"),
        ({"ssl_cafile": "ca.pem"}, "ssl_cafile needs security_protocol SSL"),
        ({"security_protocol": "SSL", "ssl_cafile": "/no/ca.pem"}, "ssl_cafile='/no/ca.pem' cannot be used"),
        ({"security_protocol": "SSL", "ssl_certfile": __file__}, "cannot be used"),
        ({"security_protocol": "SSL", "ssl_keyfile": "key.pem"}, "ssl_keyfile needs ssl_certfile"),
        ({"security_protocol": "SSL", "ssl_check_hostname": "maybe"}, "'maybe' is not true or false"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_connected(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_log(LogSettings(bootstrap_servers="kafka:9092", kafka=options))
    assert complaint in str(refused.value)
    for secret in ("y", options.get("sasl_plain_password")):
        assert f"'{secret}'" not in str(refused.value)


def test_options_reach_the_client_as_it_wants_them() -> None:
    def options(**given: Any) -> dict[str, Any]:
        log = KafkaLog(LogSettings(bootstrap_servers="a:1,b:2", timeout_s=3.0, kafka=given))
        return dict(log._connection.options)

    plain = options()
    assert plain["bootstrap_servers"] == "a:1,b:2"
    assert plain["security_protocol"] == "PLAINTEXT"
    assert plain["request_timeout_ms"] == 3000
    assert "ssl_context" not in plain
    user = {"sasl_plain_username": "u", "sasl_plain_password": "p"}
    sasl = options(security_protocol="sasl_ssl", sasl_mechanism="scram-sha-512", **user)
    assert sasl["security_protocol"] == "SASL_SSL"
    assert sasl["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (sasl["sasl_plain_username"], sasl["sasl_plain_password"]) == ("u", "p")
    assert sasl["ssl_context"].check_hostname is True
    assert sasl["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    for unchecked in (False, "false", "no", "0"):
        assert options(security_protocol="SSL", ssl_check_hostname=unchecked)["ssl_context"].check_hostname is False
    for checked in (True, "True", "yes", "1"):
        assert options(security_protocol="SSL", ssl_check_hostname=checked)["ssl_context"].check_hostname is True


def test_settings_come_from_arguments_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONDUIT_BOOTSTRAP_SERVERS", "CONDUIT_HOME", "CONDUIT_TOPIC_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    assert LogSettings.resolve().address == Address("file", f"//{Path.home()}/.conduit")
    assert LogSettings.resolve().path == Path.home() / ".conduit"
    monkeypatch.setenv("CONDUIT_BOOTSTRAP_SERVERS", "env:9092")
    monkeypatch.setenv("CONDUIT_HOME", "~/elsewhere")
    monkeypatch.setenv("CONDUIT_TOPIC_PREFIX", "team")
    monkeypatch.setenv("CONDUIT_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("CONDUIT_KAFKA_SASL_PLAIN_PASSWORD", "secret")
    resolved = LogSettings.resolve()
    assert (resolved.bootstrap_servers, resolved.prefix) == ("env:9092", "team")
    assert resolved.path == Path.home() / "elsewhere"
    assert resolved.kafka == {"security_protocol": "SASL_PLAINTEXT", "sasl_plain_password": "secret"}
    assert "secret" not in repr(resolved)
    given = LogSettings.resolve(bootstrap_servers="given:9092", prefix=None)
    assert (given.bootstrap_servers, given.prefix) == ("given:9092", "team")


def test_a_kafka_log_needs_brokers() -> None:
    with pytest.raises(ConfigurationError, match="bootstrap_servers"):
        KafkaLog(LogSettings())


async def test_a_broker_that_wants_no_password_is_reported(settings: Configure) -> None:
    options = {"security_protocol": "SASL_PLAINTEXT", "sasl_plain_username": "u", "sasl_plain_password": "p"}
    async with KafkaLog(settings(kafka=options, timeout_s=3.0)) as log:
        with pytest.raises(LogUnavailableError, match="check the address, the security settings") as error:
            await log.append(log.topics.events, [Message(b"k", b"")])
        assert "'p'" not in str(error.value)


async def test_topics_are_made_as_configured(settings: Configure, kafka_bootstrap: str) -> None:
    async with KafkaLog(settings(partitions=5, event_retention_s=3600.0)) as log:
        missing = await log.describe()
        assert [(topic.exists, topic.partitions, topic.end_offsets) for topic in missing] == [(False, 0, {})] * 4
        async with administrator(kafka_bootstrap) as admin:
            assert not set(log.topics.all) & set(await admin.list_topics())  # asking creates nothing
        # The first client creates all of them, so no broker creates one with its own defaults.
        await log.append(log.topics.snapshots, [Message(b"k", b"")])
        topics = {topic.name: topic for topic in await log.describe()}
    assert all(topic.partitions == 5 for topic in topics.values())
    assert {topic.settings["message.timestamp.type"] for topic in topics.values()} == {"LogAppendTime"}
    events = topics[log.topics.events].settings
    assert (events["cleanup.policy"], events["retention.ms"]) == ("delete", "3600000")
    for name in log.topics.compacted:
        assert topics[name].settings["cleanup.policy"] == "compact"


async def test_events_may_be_kept_for_ever(settings: Configure) -> None:
    async with KafkaLog(settings(event_retention_s=None)) as log:
        await log.create_topics()
        assert (await log.describe())[0].settings["retention.ms"] == "-1"


async def test_topics_the_brokers_refuse_are_a_configuration_error(settings: Configure) -> None:
    async with KafkaLog(settings(replication_factor=3)) as log:
        with pytest.raises(ConfigurationError, match=r"InvalidReplicationFactor.*change the settings"):
            await log.create_topics()


async def test_existing_topics_stay_and_wrong_ones_are_pointed_out(
    settings: Configure, kafka_bootstrap: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = KafkaLog(settings(partitions=4))
    async with administrator(kafka_bootstrap) as admin:
        await admin.create_topics([NewTopic(log.topics.snapshots, 2, 1)])
    async with log:
        await log.create_topics()
        await log.append(log.topics.snapshots, [Message(b"%d" % number, b"") for number in range(20)])
        with caplog.at_level(logging.WARNING, logger="conduit_log"):
            await log.create_topics()
        assert [topic.partitions for topic in await log.describe()] == [4, 2, 4, 4]
        async with log.reader(log.topics.snapshots) as reader:
            assert set(await reader.end_offsets()) == {0, 1}
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("conduit_log")]
    assert warnings == [
        f"topic {log.topics.snapshots} has cleanup.policy=delete; it should be compact",
        f"topic {log.topics.snapshots} has message.timestamp.type=CreateTime; it should be LogAppendTime",
    ]


async def test_a_reader_continues_after_what_retention_removed(settings: Configure, kafka_bootstrap: str) -> None:
    async with KafkaLog(settings()) as log:
        topic = log.topics.events
        await log.append(topic, [Message(b"k", b"%d" % number) for number in range(20)])
        async with log.reader(topic) as reader, administrator(kafka_bootstrap) as admin:
            first = await reader.poll(timeout_s=180.0, max_messages=4)
            assert [message.offset for message in first] == [0, 1, 2, 3]
            await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(12)})
            await reader.seek(0, 4)
            seen: list[StoredMessage] = []
            while len(seen) < 8:
                found = await reader.poll(timeout_s=180.0)
                assert found
                seen += found
    assert [message.offset for message in seen] == list(range(12, 20))


async def test_records_without_key_or_value_are_read_as_empty(settings: Configure, kafka_bootstrap: str) -> None:
    async with KafkaLog(settings()) as log:
        await log.create_topics()
        foreign = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
        await foreign.start()
        try:
            await foreign.send_and_wait(log.topics.events, key=b"k", value=None)
            await foreign.send_and_wait(log.topics.events, key=None, value=b"v")
        finally:
            await foreign.stop()
        messages = await everything(log, log.topics.events)
    assert [(message.key, message.value) for message in messages] == [(b"k", b""), (b"", b"v")]


async def test_a_message_this_topic_does_not_take_is_refused_and_the_log_goes_on(
    settings: Configure, kafka_bootstrap: str
) -> None:
    log = KafkaLog(settings(compression="none"))
    async with administrator(kafka_bootstrap) as admin:
        await admin.create_topics([NewTopic(log.topics.events, 1, 1, topic_configs={"max.message.bytes": "2000"})])
    async with log:
        with pytest.raises(RecordTooLargeError, match=r"max\.message\.bytes"):
            await log.append(log.topics.events, [Message(b"k", b"x" * 3000)])
        await log.append(log.topics.events, [Message(b"k", b"small")])
        assert [message.value for message in await everything(log, log.topics.events)] == [b"small"]


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd"])
async def test_every_compression_works(settings: Configure, compression: str) -> None:
    async with KafkaLog(settings(compression=compression)) as log:
        await log.append(log.topics.events, [Message(b"k", b"%d" % number * 100) for number in range(100)])
        values = [message.value for message in await everything(log, log.topics.events)]
    assert values == [b"%d" % number * 100 for number in range(100)]


async def test_a_reader_gets_every_newest_message_from_a_topic_the_broker_has_compacted(
    settings: Configure, kafka_bootstrap: str
) -> None:
    log = KafkaLog(settings())
    quickly = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    async with administrator(kafka_bootstrap) as admin:
        await admin.create_topics([NewTopic(log.topics.snapshots, 1, 1, topic_configs=quickly)])
    async with log:
        newest: dict[bytes, bytes] = {}
        deadline = time.monotonic() + 180.0
        count = 0
        while True:
            for _ in range(5):
                batch = [Message(b"k%d" % (number % 7), b"%d" % (count + number)) for number in range(30)]
                await log.append(log.topics.snapshots, batch)
                count += len(batch)
                newest |= dict(batch)
                await asyncio.sleep(0.15)  # lets the segment grow old enough to be closed
            messages = await everything(log, log.topics.snapshots)
            assert {message.key: message.value for message in messages} == newest
            offsets = [message.offset for message in messages]
            assert offsets == sorted(set(offsets))
            if len(messages) < count:  # the broker's cleaner has been at work
                break
            assert time.monotonic() < deadline


async def test_a_group_that_deals_anew_between_two_looks_is_no_failure(settings: Configure) -> None:
    """While partitions are reassigned, the client owns none, and asking about one is an error."""

    class Consumer:
        held = frozenset({TopicPartition("t", 1)})

        def assignment(self) -> frozenset[TopicPartition]:
            return self.held

        def last_poll_timestamp(self, place: TopicPartition) -> int:
            assert place in self.held, "Partition is not assigned"
            return int(time.time() * 1000)

    async with open_log(settings(timeout_s=0.05)) as log:
        reader: Any = log.reader(log.topics.events, partitions=[0, 1])
        reader._topic, reader._positions = "t", {0: 0, 1: 0}
        reader._check_contact(Consumer())
        Consumer.held = frozenset()
        reader._check_contact(Consumer())
        await asyncio.sleep(0.1)
        with pytest.raises(LogUnavailableError, match="no answer"):
            reader._check_contact(Consumer())


async def test_an_answer_that_a_new_deal_overtook_is_read_again(settings: Configure) -> None:
    """A call during a reassignment gets an answer for the new positions, which is discarded."""

    async def assigned(partitions: Any) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)

    async def revoked(partitions: Any) -> None:
        raise AssertionError(partitions)

    async with (
        open_log(settings()) as log,
        log.group_reader(log.topics.events, "group", on_assigned=assigned, on_revoked=revoked) as group,
    ):
        reader: Any = group
        deadline = time.monotonic() + 180.0
        while not reader.owned:
            assert time.monotonic() < deadline
            await reader.poll(timeout_s=0.5)
        consumer, answer = reader._consumer, asyncio.Event()
        getmany = consumer.getmany

        async def late(*places: Any, **options: Any) -> Any:
            await answer.wait()
            return await getmany(*places, **options | {"timeout_ms": 20_000})

        consumer.getmany = late
        assert await reader.poll(timeout_s=0.2) == []  # asked, but not answered
        consumer.getmany = getmany
        await log.append(log.topics.events, [Message(b"k", b"%d" % number) for number in range(5)])
        reader._assigned.on_partitions_assigned([TopicPartition(log.topics.events, 0)])
        assert await reader.poll(timeout_s=0.2) == []  # the positions are set again
        answer.set()
        found: list[StoredMessage] = []
        while len(found) < 5 and time.monotonic() < deadline:
            found += await reader.poll(timeout_s=0.5)
        assert [message.offset for message in found] == [0, 1, 2, 3, 4]
