"""How events travel: one set of ports, three logs that keep their promises."""

from conduit_log.ports import (
    EventLog,
    GroupReader,
    LogUnavailableError,
    Message,
    Reader,
    StoredMessage,
    TopicDescription,
)
from conduit_log.settings import LogSettings

__all__ = [
    "EventLog",
    "GroupReader",
    "LogSettings",
    "LogUnavailableError",
    "Message",
    "Reader",
    "StoredMessage",
    "TopicDescription",
    "open_log",
]


def open_log(settings: LogSettings) -> EventLog:
    """Return the log that the settings describe; enter it before use.

    Examples
    --------
    >>> log = open_log(LogSettings(bootstrap_servers="kafka:9092"))
    """
    # Each adapter is imported only when it is used: an embedded installation loads no Kafka client.
    if settings.is_kafka:
        from conduit_log.kafka import KafkaLog  # noqa: PLC0415 - see above

        return KafkaLog(settings)
    from conduit_log.embedded import EmbeddedLog  # noqa: PLC0415 - see above

    return EmbeddedLog(settings.path, topics=settings.topics, retention_s=settings.event_retention_s)
