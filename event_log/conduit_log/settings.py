"""Where the log is: the one place that reads it from arguments and the environment."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from conduit_schemas import ConfigurationError, Topics

__all__ = ["LogSettings"]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Which log to use. With bootstrap servers it is Kafka, otherwise a SQLite file on this machine.

    Parameters
    ----------
    bootstrap_servers
        ``host:port`` of one or more Kafka brokers, separated by commas.
    path
        The embedded log's folder.
    prefix
        What the topics' names start with.
    partitions, replication_factor
        Used when topics are created on Kafka.
    event_retention_s
        How long Kafka keeps events, in seconds; None is for ever.
    compression
        Kafka producer compression: ``none``, ``gzip``, ``lz4`` or ``zstd``.
    kafka
        Passed through to the Kafka clients: ``security_protocol``, ``sasl_mechanism``,
        ``sasl_plain_username``, ``sasl_plain_password``, ``sasl_oauth_token_provider``, ``ssl_cafile``,
        ``ssl_certfile``, ``ssl_keyfile``, ``ssl_password``, ``ssl_check_hostname``.
    timeout_s
        How long Kafka may take to connect, to answer or to confirm before a call gives up, in seconds.
    session_timeout_s
        How long a group waits for a silent member before others take its partitions, in seconds.

    Examples
    --------
    >>> LogSettings(bootstrap_servers="kafka:9092").is_kafka
    True
    """

    bootstrap_servers: str | None = None
    path: Path = field(default_factory=lambda: Path.home() / ".conduit")
    prefix: str = "conduit"
    partitions: int = 12
    replication_factor: int = 1
    event_retention_s: float | None = 30 * 86400.0
    compression: str = "lz4"
    kafka: dict[str, Any] = field(default_factory=dict, repr=False)  # may hold a password
    timeout_s: float = 10.0
    session_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        Topics(self.prefix)
        if self.compression not in {"none", "gzip", "lz4", "zstd"}:
            raise ConfigurationError(f"compression {self.compression!r} is not one of none, gzip, lz4, zstd")
        if self.partitions < 1 or self.replication_factor < 1:
            raise ConfigurationError("partitions and replication_factor must be at least 1")
        if not (self.timeout_s > 0.0 and self.session_timeout_s > 0.0):
            raise ConfigurationError("timeout_s and session_timeout_s must be positive")

    @property
    def is_kafka(self) -> bool:
        """Whether brokers were named."""
        return self.bootstrap_servers is not None

    @property
    def topics(self) -> Topics:
        """The topics' names."""
        return Topics(self.prefix)

    @classmethod
    def resolve(cls, **given: Any) -> Self:
        """Return settings from arguments, then the environment, then the defaults.

        The environment is ``CONDUIT_BOOTSTRAP_SERVERS``, ``CONDUIT_HOME`` (the embedded log's folder),
        ``CONDUIT_TOPIC_PREFIX``, and ``CONDUIT_KAFKA_<OPTION>`` for each option of ``kafka``.
        """
        environment: dict[str, Any] = {}
        for name, variable in _VARIABLES.items():
            if value := os.environ.get(variable):
                environment[name] = Path(value).expanduser() if name == "path" else value
        options = {
            variable.removeprefix(_KAFKA_OPTION).lower(): value
            for variable, value in os.environ.items()
            if variable.startswith(_KAFKA_OPTION)
        }
        if options:
            environment["kafka"] = options
        chosen = {name: value for name, value in given.items() if value is not None}
        return cls(**{**environment, **chosen})


_VARIABLES = {
    "bootstrap_servers": "CONDUIT_BOOTSTRAP_SERVERS",
    "path": "CONDUIT_HOME",
    "prefix": "CONDUIT_TOPIC_PREFIX",
}
_KAFKA_OPTION = "CONDUIT_KAFKA_"
