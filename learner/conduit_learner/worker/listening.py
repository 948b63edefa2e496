"""A web application on an address of its own: the operators' and the page's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from conduit_schemas import ConfigurationError

__all__ = ["listening"]

_FAREWELL_S = 1.0


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve an application, on this event loop, for as long as the context lasts; yields the port.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one.

    Raises
    ------
    ConfigurationError
        When that is not possible.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_FAREWELL_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
