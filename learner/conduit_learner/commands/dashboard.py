"""``conduit dashboard``: the web page, either alone or next to a learner."""

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from multiprocessing.process import BaseProcess

import click

from conduit_learner.commands.log_format import configure_logging
from conduit_learner.commands.options import MAX_EVENTS, address_option, events_option, existing_log, log_options
from conduit_log import EventLog, LogSettings, open_log

__all__ = ["dashboard", "page_beside"]

_LOG = logging.getLogger(__name__)

_ADDRESS = "127.0.0.1:8787"


@click.command()
@log_options
@address_option("--http", "address", default=_ADDRESS, show_default=True, help="Address to serve the page on.")
@events_option
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
def dashboard(*, settings: LogSettings, address: tuple[str, int], max_events: int, is_opened: bool) -> None:
    """Serve a web page that shows Conduit's traffic, savings and health, until Ctrl-C.

    The page reads the log and needs no learner. It has no login. The default address is reachable from this machine
    only; put an authenticating proxy in front of any other address. The page is read-only unless CONDUIT_WEB_TOKEN is
    set in its environment; anyone who has that token can then change a policy's objective and mode.

    \b
    Example:  conduit dashboard --open
              conduit dashboard --bootstrap-servers kafka:9092
    """
    log = existing_log(settings)
    configure_logging("text", verbose=False)
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(log, settings, address, max_events, is_opened=is_opened))


async def _serve(
    log: EventLog, settings: LogSettings, address: tuple[str, int], max_events: int, *, is_opened: bool
) -> None:
    server = import_module("conduit_learner.web.server")
    follow = import_module("conduit_learner.view.follow")
    view = import_module("conduit_learner.view.installation").InstallationView()
    following = follow.Following()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(log)
        token = os.environ.get("CONDUIT_WEB_TOKEN")
        append = partial(log.append, settings.topics.events)
        changes = import_module("conduit_learner.web.routing_changes").RoutingChanges(token, append) if token else None
        page = server.Page(view, following, log.title, lambda: follow.spooled_bytes(log, settings), changes)
        port = await stack.enter_async_context(server.serve_page(page, *address))
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        url = f"http://{host}:{port}/"
        _LOG.info("the page is at %s", url)
        if not server.is_loopback(address[0]):
            _LOG.warning("the page at %s has no login: anyone who can reach this address can read it", url)
        if is_opened:
            webbrowser.open(url)
        reading = asyncio.create_task(
            follow.follow(log, settings.topics, view, following, max_events=max_events), name="follow"
        )
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            for task in (reading, stopping):
                task.cancel()
            await asyncio.gather(reading, stopping, return_exceptions=True)


@contextmanager
def page_beside(settings: LogSettings, address: tuple[str, int] | None) -> Iterator[None]:
    """Serve the page from a separate process while the context is open; without an address, do nothing.

    A separate process keeps the page's work from slowing the learner down. It ends when its parent ends, even if the
    parent is killed.
    """
    if address is None:
        yield
        return
    process: BaseProcess = multiprocessing.get_context("spawn").Process(
        target=_serve_beside, args=(settings, address), name="conduit page", daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join(timeout=5.0)


def _serve_beside(settings: LogSettings, address: tuple[str, int]) -> None:
    configure_logging("text", verbose=False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        asyncio.run(_serve(open_log(settings), settings, address, MAX_EVENTS, is_opened=False))
    except Exception:
        _LOG.exception("the web page has stopped; the learner continues")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        signal.raise_signal(signal.SIGTERM)
