"""Connect to the brokers: check options, set up TLS, bound the time of calls, and translate errors."""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalOperation,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from conduit_log.ports import LogUnavailableError
from conduit_log.settings import Address, LogSettings
from conduit_schemas import ConfigurationError, RecordTooLargeError

__all__ = ["Connection", "stop"]

_STOP_S = 3.0
_SERVER = re.compile(r"(\[[^\[\]/\s]+\]|[^:/\s\[\]]+)(:[0-9]{1,5})?|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*")
"""A host or ``[an IPv6 address]``, with or without a port, or a bare IPv6 address."""

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_TLS_OPTIONS = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_check_hostname")
_OPTIONS = (
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "sasl_oauth_token_provider",
    *_TLS_OPTIONS,
)


class Connection:
    """The options and the error handling that all Kafka clients of one log share.

    Parameters
    ----------
    settings
        The brokers' addresses and the Kafka options.

    Raises
    ------
    ConfigurationError
        When the address names no brokers, or an option is unknown, lacks another option that it needs, or names a
        file that cannot be used.
    """

    def __init__(self, settings: LogSettings) -> None:
        self.servers = _servers(settings.address)
        self.timeout_s = settings.timeout_s
        self.options: Mapping[str, Any] = {
            "bootstrap_servers": self.servers,
            "client_id": "conduit",
            "request_timeout_ms": int(settings.timeout_s * 1000),
            "retry_backoff_ms": 200,
            **_security(settings.kafka),
        }
        _limit_client_log()

    @asynccontextmanager
    async def attempt(self, action: str, *, extra_s: float = 0.0) -> AsyncIterator[None]:
        """Limit the enclosed block to ``timeout_s`` plus ``extra_s`` seconds, and translate its errors.

        Raises
        ------
        LogUnavailableError
            When Kafka failed or did not answer in time.
        RecordTooLargeError
            When Kafka refused a message because of its size.
        """
        try:
            async with asyncio.timeout(self.timeout_s + extra_s):
                yield
        except TimeoutError as error:
            raise self.unavailable(action, f"no answer within {self.timeout_s:g} s") from error
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise RecordTooLargeError(
                f"Kafka at {self.servers}: {action}: the broker refused a message because of its size; "
                "raise the topic's max.message.bytes to 1048588"
            ) from error
        except (KafkaError, IllegalOperation, ConsumerStoppedError, OSError) as error:
            raise self.unavailable(action, str(error) or type(error).__name__) from error

    def unavailable(self, action: str, reason: str) -> LogUnavailableError:
        """Return the error that says what failed, and what to check."""
        return LogUnavailableError(
            f"Kafka at {self.servers}: {action}: {reason}; "
            "check the address, the security settings and the broker (the call may be repeated)"
        )


async def stop(client: Any, network: Any) -> None:
    """Stop an aiokafka client in bounded time, whatever state it is in.

    Leaving a group while the broker is unreachable may never end, and a client that is stopped right after its start
    raises the cancellation of its own tasks. In these cases, at least its connections, ``network``, are closed.
    """
    for closing in (client.stop, network.close):
        task = asyncio.ensure_future(closing())
        await asyncio.wait({task}, timeout=_STOP_S)
        if task.done() and not task.cancelled() and task.exception() is None:
            return
        task.cancel()


def _servers(address: Address) -> str:
    """Return ``host:port,host:port`` from an address."""
    problem = f"log {str(address)!r} names no Kafka brokers: write kafka://HOST:PORT or bootstrap_servers='HOST:PORT'"
    if address.scheme != "kafka" or not address.rest.startswith("//"):
        raise ConfigurationError(f"{problem}, more of them separated by commas")
    servers = [part.strip() for part in address.rest.removeprefix("//").rstrip("/").split(",") if part.strip()]
    if any("@" in server for server in servers):
        raise ConfigurationError(f"{problem}; user and password are Kafka options, not part of the address")
    if wrong := [server for server in servers if not _SERVER.fullmatch(server)]:
        raise ConfigurationError(f"{problem}; {wrong[0]!r} is not HOST:PORT")
    if not servers:
        raise ConfigurationError(problem)
    return ",".join(servers)


def _security(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the clients' security options from the operator's."""
    unknown = sorted(set(given) - set(_OPTIONS))
    if unknown:
        raise ConfigurationError(
            f"unknown Kafka option {', '.join(map(repr, unknown))}; the known ones are {', '.join(_OPTIONS)}"
        )
    protocol = str(given.get("security_protocol", "PLAINTEXT")).upper()
    if protocol not in _PROTOCOLS:
        raise ConfigurationError(f"security_protocol {protocol!r} is not one of {', '.join(_PROTOCOLS)}")
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol.startswith("SASL"):
        options |= _sasl(given)
    elif stray := sorted(name for name in given if name.startswith("sasl")):
        raise ConfigurationError(f"{stray[0]} needs security_protocol SASL_SSL or SASL_PLAINTEXT")
    if protocol.endswith("SSL"):
        options["ssl_context"] = _tls(given)
    elif stray := sorted(name for name in given if name.startswith("ssl")):
        raise ConfigurationError(f"{stray[0]} needs security_protocol SSL or SASL_SSL")
    return options


def _sasl(given: Mapping[str, Any]) -> dict[str, Any]:
    mechanism = str(given.get("sasl_mechanism", "PLAIN")).upper()
    if mechanism not in _MECHANISMS:
        raise ConfigurationError(f"sasl_mechanism {mechanism!r} is not one of {', '.join(_MECHANISMS)}")
    needed = (
        ("sasl_oauth_token_provider",) if mechanism == "OAUTHBEARER" else ("sasl_plain_username", "sasl_plain_password")
    )
    for name in needed:
        if not given.get(name):
            raise ConfigurationError(f"sasl_mechanism {mechanism} needs {name}")
    provider = given.get("sasl_oauth_token_provider")
    if provider is not None and not isinstance(provider, AbstractTokenProvider):
        raise ConfigurationError("sasl_oauth_token_provider must be an aiokafka.abc.AbstractTokenProvider")
    return {"sasl_mechanism": mechanism} | {name: given[name] for name in needed}


def _tls(given: Mapping[str, Any]) -> ssl.SSLContext:
    files = {name: given.get(name) for name in _TLS_OPTIONS}
    try:
        context = ssl.create_default_context(cafile=files["ssl_cafile"])
        if files["ssl_certfile"]:
            context.load_cert_chain(files["ssl_certfile"], files["ssl_keyfile"], files["ssl_password"])
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        named = ", ".join(f"{name}={files[name]!r}" for name in _TLS_OPTIONS[:3] if files[name])
        raise ConfigurationError(f"TLS files {named or 'of the system'} cannot be used: {error}") from error
    if files["ssl_keyfile"] and not files["ssl_certfile"]:
        raise ConfigurationError("ssl_keyfile needs ssl_certfile")
    checked = str(files["ssl_check_hostname"] if files["ssl_check_hostname"] is not None else True).lower()
    if checked not in {"true", "false", "1", "0", "yes", "no"}:
        raise ConfigurationError(f"ssl_check_hostname {checked!r} is not true or false")
    context.check_hostname = checked in {"true", "1", "yes"}
    return context


class _OncePerMinute(logging.Filter):
    """Passes each kind of message once a minute. Without it there are ten a second while a broker is unreachable."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._last.get(str(record.msg), -60.0) < 60.0:
            return False
        self._last[str(record.msg)] = now
        return True


def _limit_client_log() -> None:
    """Limit how much the client logs. Whatever matters also reaches the caller as an error."""
    for module in ("client", "conn", "producer.sender", "consumer.fetcher", "consumer.group_coordinator"):
        logger = logging.getLogger(f"aiokafka.{module}")
        if not any(isinstance(known, _OncePerMinute) for known in logger.filters):
            logger.addFilter(_OncePerMinute())
