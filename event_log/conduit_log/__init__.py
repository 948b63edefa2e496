"""How events travel: the ports of a log, and the adapters that implement them, chosen by address."""

from conduit_log.ports import (
    Capabilities,
    EventLog,
    GroupReader,
    LoadableLog,
    LogUnavailableError,
    Message,
    Reader,
    StoredMessage,
    TopicDescription,
)
from conduit_log.registry import known_schemes, open_log, register
from conduit_log.settings import Address, LogSettings

__all__ = [
    "Address",
    "Capabilities",
    "EventLog",
    "GroupReader",
    "LoadableLog",
    "LogSettings",
    "LogUnavailableError",
    "Message",
    "Reader",
    "StoredMessage",
    "TopicDescription",
    "known_schemes",
    "open_log",
    "register",
]
