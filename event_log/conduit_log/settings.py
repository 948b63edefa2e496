"""The log's settings. Only this module reads them from arguments and the environment."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from conduit_schemas import ConfigurationError, Topics

__all__ = ["Address", "LogSettings"]

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(\S.*|)", re.DOTALL)
_USER = re.compile(r"^//[^/?#]*@")


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """The address of a log, ``scheme:rest``. The scheme selects the adapter, and the adapter interprets the rest.

    When printed, it omits the user and the password that may precede the host.

    Examples
    --------
    >>> address = Address.parse("nats://me:secret@nats-1:4222")
    >>> address.scheme, address.location, str(address)
    ('nats', 'nats-1:4222', 'nats://nats-1:4222')
    """

    scheme: str
    rest: str
    """Everything after the colon, unchanged: including slashes, user and password."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an address.

        Raises
        ------
        ConfigurationError
            When it has no scheme.
        """
        match = _ADDRESS.fullmatch(text.strip())
        if match is None:
            raise ConfigurationError(
                f"log {text!r} is not an address: it has no scheme; write, for example, kafka://HOST:PORT or file:///FOLDER"
            )
        return cls(match[1].lower(), match[2])

    @property
    def location(self) -> str:
        """The rest without leading slashes, user and password."""
        return _USER.sub("//", self.rest).removeprefix("//")

    def __str__(self) -> str:
        return f"{self.scheme}:{_USER.sub('//', self.rest)}"

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Which log to use, and how. By default it is a SQLite file on this machine.

    Parameters
    ----------
    log
        The log's address: ``kafka://host:port,host:port``, ``file:///folder`` (the embedded log), ``memory:name``, or
        one with the scheme of another adapter; see :mod:`conduit_log.registry`.
    bootstrap_servers
        ``host:port`` of one or more Kafka brokers, separated by commas. Short for a ``kafka`` address.
    path
        Conduit's folder on this machine. It holds the embedded log, unless an address names another folder, and the
        events that wait while a log cannot be reached.
    prefix
        The first part of the topics' names.
    partitions, replication_factor
        Used when topics are created, if the log lets them be chosen.
    event_retention_s
        How long events are kept, in seconds. None keeps them forever.
    compression
        Kafka producer compression: ``none``, ``gzip``, ``lz4`` or ``zstd``.
    kafka
        Passed through to the Kafka clients: ``security_protocol``, ``sasl_mechanism``,
        ``sasl_plain_username``, ``sasl_plain_password``, ``sasl_oauth_token_provider``, ``ssl_cafile``,
        ``ssl_certfile``, ``ssl_keyfile``, ``ssl_password``, ``ssl_check_hostname``.
    timeout_s
        How long Kafka may take to connect, answer or confirm before a call fails, in seconds.
    session_timeout_s
        How long a member of a group may be silent before others take over its partitions, in seconds.

    Examples
    --------
    >>> LogSettings(bootstrap_servers="kafka:9092").address
    kafka://kafka:9092
    >>> LogSettings(log="file:/var/lib/conduit").address.rest
    '/var/lib/conduit'
    """

    log: str | None = field(default=None, repr=False)  # may hold a password
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
        if self.log is not None:
            Address.parse(self.log)
            if self.bootstrap_servers is not None:
                raise ConfigurationError(
                    f"log={str(self.address)!r} and bootstrap_servers={self.bootstrap_servers!r} both say where the "
                    "log is; give only one of them"
                )
        if self.compression not in {"none", "gzip", "lz4", "zstd"}:
            raise ConfigurationError(f"compression {self.compression!r} is not one of none, gzip, lz4, zstd")
        if self.partitions < 1 or self.replication_factor < 1:
            raise ConfigurationError("partitions and replication_factor must be at least 1")
        if not (self.timeout_s > 0.0 and self.session_timeout_s > 0.0):
            raise ConfigurationError("timeout_s and session_timeout_s must be positive")

    @property
    def address(self) -> Address:
        """The log's address, whichever setting gave it."""
        if self.log is not None:
            return Address.parse(self.log)
        if self.bootstrap_servers is not None:
            return Address("kafka", f"//{self.bootstrap_servers}")
        return Address("file", f"//{self.path}" if self.path.is_absolute() else str(self.path))

    @property
    def topics(self) -> Topics:
        """The topics' names."""
        return Topics(self.prefix)

    @classmethod
    def resolve(cls, **given: Any) -> Self:
        """Build the settings from arguments, the environment and the defaults, in this order of precedence.

        The environment is ``CONDUIT_LOG`` (an address) or ``CONDUIT_BOOTSTRAP_SERVERS``, ``CONDUIT_HOME`` (the folder
        ``path``), ``CONDUIT_TOPIC_PREFIX``, and ``CONDUIT_KAFKA_<OPTION>`` for each option of ``kafka``.

        Raises
        ------
        ConfigurationError
            When a setting is not valid. The message names the environment variable that a setting came from.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
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
        _drop_overridden(environment, chosen)
        return cls(**{**environment, **chosen})


_VARIABLES = {
    "log": "CONDUIT_LOG",
    "bootstrap_servers": "CONDUIT_BOOTSTRAP_SERVERS",
    "path": "CONDUIT_HOME",
    "prefix": "CONDUIT_TOPIC_PREFIX",
}
_KAFKA_OPTION = "CONDUIT_KAFKA_"


def _drop_overridden(environment: dict[str, Any], chosen: dict[str, Any]) -> None:
    """Remove the log's address from the environment's settings if an argument gives another one."""
    if "log" in chosen or "bootstrap_servers" in chosen:
        environment.pop("log", None)
        environment.pop("bootstrap_servers", None)
    if "log" in environment:
        try:
            address = Address.parse(environment["log"])
        except ConfigurationError as error:
            raise ConfigurationError(f"CONDUIT_LOG: {error}") from error
        if "bootstrap_servers" in environment:
            raise ConfigurationError(
                "CONDUIT_LOG and CONDUIT_BOOTSTRAP_SERVERS both say where the log is; unset one of them"
            )
        if address.scheme == "file" and "path" in chosen:  # for any other log, path only says where events wait
            del environment["log"]
