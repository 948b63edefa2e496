"""Serve a web application on an address: the operators' endpoints or the web page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from conduit_schemas import ConfigurationError

__all__ = ["listening"]

_SHUTDOWN_TIMEOUT_S = 1.0


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve an application on this event loop while the context is open; yields the port.

    Parameters
    ----------
    host, port
        Address to listen on; port 0 picks a free port.

    Raises
    ------
    ConfigurationError
        When it cannot listen on the address.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
