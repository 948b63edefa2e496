"""The Kafka adapter of the event log's ports."""

from collections.abc import Collection, Sequence
from typing import Self

from conduit_log.kafka.connection import Connection
from conduit_log.kafka.producer import Producer
from conduit_log.kafka.readers import KafkaGroupReader, KafkaReader
from conduit_log.kafka.topics import KafkaTopics
from conduit_log.ports import (
    Capabilities,
    Message,
    OnAssigned,
    OnRevoked,
    TopicDescription,
    check_messages,
    check_topic,
)
from conduit_log.settings import LogSettings

__all__ = ["KafkaLog"]


class KafkaLog:
    """An :class:`~conduit_log.ports.EventLog` on Kafka brokers.

    ``append`` returns when all in-sync replicas have the messages. Messages of one call are written once, even if the
    connection breaks in between (idempotent producer). What a confirmed message survives depends on the topic's
    replication. With one replica it is lost with that broker's disk, and also if the broker's operating system crashes
    before its disk cache is flushed.

    Clients connect when first needed. Missing topics are created then, too; otherwise a broker that is asked for one
    would create it with its own settings. A topic's number of partitions is read once. After adding partitions, which
    also moves keys, restart the processes that use the topic.

    Parameters
    ----------
    settings
        The brokers' addresses, and the settings of new topics.

    Raises
    ------
    ConfigurationError
        When the settings are not valid; see :class:`conduit_log.LogSettings`.

    Examples
    --------
    >>> log = KafkaLog(LogSettings(bootstrap_servers="kafka:9092", kafka={"security_protocol": "SSL"}))
    >>> KafkaLog(LogSettings(bootstrap_servers="kafka:9092", kafka={"sasl_user": "me"}))
    Traceback (most recent call last):
    conduit_schemas.errors.ConfigurationError: unknown Kafka option 'sasl_user'; the known ones are ...
    """

    capabilities = Capabilities(needs_spool=True, hosts_learner=False, has_configurable_topics=True)

    def __init__(self, settings: LogSettings) -> None:
        self.topics = settings.topics
        self._session_timeout_s = settings.session_timeout_s
        self._connection = Connection(settings)
        self._admin = KafkaTopics(settings, self._connection)
        self._producer = Producer(self._connection, settings.compression)

    @property
    def title(self) -> str:
        """Which log this is, for people."""
        return f"Kafka at {self._connection.servers}"

    def exists(self) -> bool:
        """Return True: only the brokers could tell."""
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._producer.close()

    async def create_topics(self) -> None:
        """Create the installation's missing topics. Existing ones are not changed.

        Raises
        ------
        LogUnavailableError
            When the brokers cannot be reached.
        ConfigurationError
            When they refuse.
        """
        async with self._connection.attempt("create topics"):
            await self._admin.create()

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        """Append messages in order; see :meth:`conduit_log.ports.EventLog.append`."""
        check_topic(self.topics, topic)
        check_messages(topic, messages)
        if messages:
            async with self._connection.attempt(f"append to {topic}"):
                await self._admin.partitions(topic)
                await self._producer.append(topic, messages)

    def reader(self, topic: str, *, partitions: Collection[int] | None = None) -> KafkaReader:
        """Return a reader of some partitions (default: all), starting at the beginning."""
        check_topic(self.topics, topic)
        return KafkaReader(self._connection, self._admin, topic, partitions)

    def group_reader(
        self, topic: str, group: str, *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> KafkaGroupReader:
        """Return a reader that shares the topic's partitions with the rest of its group."""
        check_topic(self.topics, topic)
        return KafkaGroupReader(
            self._connection,
            self._admin,
            topic,
            group=group,
            session_timeout_s=self._session_timeout_s,
            on_assigned=on_assigned,
            on_revoked=on_revoked,
        )

    async def describe(self) -> list[TopicDescription]:
        """Describe the installation's topics, including those that do not exist yet."""
        async with self._connection.attempt("describe topics"):
            return await self._admin.describe()
