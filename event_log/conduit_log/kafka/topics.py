"""Create missing topics on Kafka, and describe all of them. Existing topics are not changed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code

from conduit_log.kafka.connection import Connection, stop
from conduit_log.ports import TopicDescription
from conduit_log.settings import LogSettings
from conduit_schemas import ConfigurationError

__all__ = ["KafkaTopics"]

logger = logging.getLogger(__name__)

_SHOWN = (
    "cleanup.policy",
    "max.message.bytes",
    "message.timestamp.type",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "segment.ms",
)
_RETRY_S = 0.2


class KafkaTopics:
    """Creates and describes topics, and knows how many partitions each has."""

    def __init__(self, settings: LogSettings, connection: Connection) -> None:
        self._settings = settings
        self._connection = connection
        self._partitions: dict[str, int] = {}
        self._creating = asyncio.Lock()

    async def partitions(self, topic: str) -> int:
        """Return a topic's number of partitions. On first use, missing topics are created.

        When a client asks for a missing topic, the broker may create it with its own settings. Therefore nothing is
        read from or written to a topic before it is known to exist.
        """
        if topic not in self._partitions:
            await self.create({topic})
        return self._partitions[topic]

    async def create(self, needed: Collection[str] | None = None) -> None:
        """Create missing topics, and wait until the needed ones can be used.

        Parameters
        ----------
        needed
            The topics that must exist afterwards, by default all. If each role has its own rights on the brokers, the
            other topics may exist without being visible.

        Raises
        ------
        ConfigurationError
            When the brokers refuse to create a topic as it is configured.
        """
        needed = frozenset(self._settings.topics.all if needed is None else needed)
        async with self._creating, self._admin() as admin:
            known = await self._known(admin)
            if not needed <= set(known):
                missing = sorted(set(self._settings.topics.all) - set(known))
                response = await admin.create_topics([self._new(topic) for topic in missing])
                for topic, code, *message in response.topic_errors:
                    if topic in needed:
                        self._check(topic, code, str(message[0] if message and message[0] else ""))
            else:
                await self._warn(admin, list(known))
            while not needed <= set(known):
                await asyncio.sleep(_RETRY_S)
                known = await self._known(admin)
            self._partitions = known

    async def describe(self) -> list[TopicDescription]:
        """Describe the topics, including those that do not exist."""
        names = self._settings.topics.all
        async with self._admin() as admin:
            found = {entry["topic"]: entry["partitions"] for entry in await admin.describe_topics()}
            existing = [name for name in names if name in found]
            configs = await self._configs(admin, existing)
        ends = await self._ends({name: len(found[name]) for name in existing})
        return [
            TopicDescription(
                name=name,
                exists=name in found,
                partitions=len(found.get(name, ())),
                replication=min((len(partition["replicas"]) for partition in found.get(name, ())), default=0),
                settings={key: configs[name][key] for key in _SHOWN} if name in configs else {},
                end_offsets=ends.get(name, {}),
            )
            for name in names
        ]

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        admin = AIOKafkaAdminClient(**self._connection.options)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    async def _known(self, admin: Any) -> dict[str, int]:
        """Return the number of partitions of each of our topics that exists and has a leader for every partition."""
        ours = set(self._settings.topics.all)
        return {
            entry["topic"]: len(entry["partitions"])
            for entry in await admin.describe_topics()
            if entry["topic"] in ours and entry["partitions"]
        }

    def _new(self, topic: str) -> Any:
        settings = self._settings
        configs = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": "1048588",
            # With three replicas, a confirmed message survives the loss of any one broker.
            "min.insync.replicas": str(max(1, settings.replication_factor - 1)),
        }
        if topic in settings.topics.compacted:
            # Only closed segments are compacted. Small, short-lived ones keep down what a new reader has to read.
            configs |= {
                "cleanup.policy": "compact",
                "segment.bytes": str(32 << 20),
                "segment.ms": str(3_600_000),
                "min.cleanable.dirty.ratio": "0.2",
            }
        else:
            keep_s = settings.event_retention_s
            configs |= {
                "cleanup.policy": "delete",
                "retention.ms": "-1" if keep_s is None else str(int(keep_s * 1000)),
            }
        return NewTopic(topic, settings.partitions, settings.replication_factor, topic_configs=configs)

    def _check(self, topic: str, code: int, message: str) -> None:
        error = for_code(code)
        if code == 0 or error is TopicAlreadyExistsError:
            return
        if error.retriable:
            raise error(message)
        raise ConfigurationError(
            f"Kafka at {self._connection.servers} does not create topic {topic!r}: {error.__name__} {message}; "
            "change the settings, grant the right, or have the topic created by an administrator"
        )

    async def _warn(self, admin: Any, topics: list[str]) -> None:
        """Warn about existing topics whose settings break Conduit's guarantees."""
        configs = await self._configs(admin, topics)
        for topic in configs:
            policy = "compact" if topic in self._settings.topics.compacted else "delete"
            for name, wanted in (("cleanup.policy", policy), ("message.timestamp.type", "LogAppendTime")):
                if configs[topic][name] != wanted:
                    logger.warning("topic %s has %s=%s; it should be %s", topic, name, configs[topic][name], wanted)

    async def _configs(self, admin: Any, topics: list[str]) -> dict[str, dict[str, str]]:
        if not topics:
            return {}
        (response,) = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        )
        configs: dict[str, dict[str, str]] = {}
        for code, message, _, topic, entries in response.resources:
            if code == TopicAuthorizationFailedError.errno:
                continue  # the topic can be used without the right to read its settings
            if code:
                raise for_code(code)(f"settings of topic {topic}: {message}")
            configs[topic] = {entry[0]: entry[1] for entry in entries}
        return configs

    async def _ends(self, partitions: dict[str, int]) -> dict[str, dict[int, int]]:
        if not partitions:
            return {}
        consumer = AIOKafkaConsumer(**self._connection.options, enable_auto_commit=False)
        places = [TopicPartition(topic, number) for topic, count in partitions.items() for number in range(count)]
        try:
            await consumer.start()
            ends: dict[str, dict[int, int]] = {topic: {} for topic in partitions}
            for place, end in sorted((await consumer.end_offsets(places)).items()):
                ends[place.topic][place.partition] = end
        finally:
            await stop(consumer, consumer._client)
        return ends
