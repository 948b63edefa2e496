"""Find the adapter for an address scheme: Conduit's own, an installed package's, or one registered in this process.

An adapter is a callable that creates a log from settings, such as a class whose constructor takes them. It is imported
when an address with its scheme is opened, so using one log does not require the libraries of another.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from conduit_log.ports import EventLog
from conduit_log.settings import Address, LogSettings
from conduit_schemas import ConfigurationError

__all__ = ["LOG_ENTRY_POINTS", "Adapter", "known_schemes", "open_log", "register"]

LOG_ENTRY_POINTS = "conduit.logs"
"""The entry point group under which a package may offer its adapters, each named after its scheme."""

Adapter = Callable[[LogSettings], EventLog]
"""Creates a log from settings, without any I/O. Raises ConfigurationError if it cannot use the address."""

_OWN = {
    "file": "conduit_log.embedded:EmbeddedLog.from_settings",
    "kafka": "conduit_log.kafka:KafkaLog",
    "memory": "conduit_log.memory:MemoryLog.from_settings",
}
_registered: dict[str, Adapter] = {}


def register(scheme: str, adapter: Adapter) -> None:
    """Register an adapter in this process.

    Raises
    ------
    ConfigurationError
        When the scheme is not valid, or another adapter has it.

    Examples
    --------
    >>> from conduit_log.memory import MemoryLog
    >>> register("forgetful", lambda settings: MemoryLog(settings.topics))
    >>> open_log(LogSettings(log="forgetful:")).topics.events
    'conduit.events'
    """
    if Address.parse(f"{scheme}:").scheme != scheme:
        raise ConfigurationError(f"the scheme of a log's address must be in lower case, not {scheme!r}")
    if scheme in _OWN or _registered.get(scheme, adapter) is not adapter:
        raise ConfigurationError(f"there is already a log adapter for {scheme!r}; choose another scheme")
    _registered[scheme] = adapter


def known_schemes() -> list[str]:
    """Return the schemes that an address may have in this process.

    Examples
    --------
    >>> {"file", "kafka", "memory"} <= set(known_schemes())
    True
    """
    return sorted({*_OWN, *_registered, *(entry.name for entry in entry_points(group=LOG_ENTRY_POINTS))})


def open_log(settings: LogSettings) -> EventLog:
    """Create the log that the settings describe. Enter it before use.

    Raises
    ------
    ConfigurationError
        When there is no adapter for the address, or the adapter refuses the settings.

    Examples
    --------
    >>> open_log(LogSettings(bootstrap_servers="kafka:9092")).title
    'Kafka at kafka:9092'
    >>> open_log(LogSettings(log="pigeon://roof"))
    Traceback (most recent call last):
    conduit_schemas.errors.ConfigurationError: log 'pigeon://roof': no adapter for the scheme 'pigeon'...
    """
    return _adapter(settings.address)(settings)


def _adapter(address: Address) -> Adapter:
    scheme = address.scheme
    if scheme in _registered:
        return _registered[scheme]
    if scheme in _OWN:
        offered = EntryPoint(scheme, _OWN[scheme], LOG_ENTRY_POINTS)
    else:
        try:
            offered = entry_points(group=LOG_ENTRY_POINTS)[scheme]
        except KeyError:
            raise ConfigurationError(
                f"log {str(address)!r}: no adapter for the scheme {scheme!r}; the known ones are "
                f"{', '.join(known_schemes())}. Correct the address (brokers are kafka://HOST:PORT, a folder is "
                f"file:PATH), or install the package that offers {scheme!r} as an entry point of {LOG_ENTRY_POINTS}"
            ) from None
    try:
        adapter: Adapter = offered.load()
    except Exception as error:  # importing other people's modules may raise anything
        raise ConfigurationError(
            f"log {str(address)!r}: its adapter {offered.value} cannot be loaded: {type(error).__name__}: {error}; "
            "install its package again, with its dependencies"
        ) from error
    return adapter
