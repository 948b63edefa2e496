"""``conduit learner``: run a learner until it is told to stop."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import click

from conduit_learner.commands.dashboard import page_beside
from conduit_learner.commands.log_format import configure_logging
from conduit_learner.commands.options import address_option, log_options
from conduit_log import LogSettings, open_log

if TYPE_CHECKING:
    from conduit_learner.worker.status import WorkerStatus

__all__ = ["learner"]

_LOG = logging.getLogger(__name__)
_STOPPING = (signal.SIGTERM, signal.SIGINT)


@click.command()
@log_options
@click.option("--snapshot-every-events", type=click.IntRange(1), default=100, show_default=True)
@click.option("--snapshot-every-seconds", type=click.FloatRange(0.01), default=1.0, show_default=True)
@click.option("--checkpoint-every-events", type=click.IntRange(1), default=5_000, show_default=True)
@click.option("--checkpoint-every-seconds", type=click.FloatRange(0.01), default=30.0, show_default=True)
@address_option("--http", "address", help="Serve /healthz, /readyz and /metrics (Prometheus) on this address.")
@address_option(
    "--web", "web", help="Serve the web page on this address, from a separate process; see conduit dashboard."
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Write log lines as text or as JSON objects.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log every snapshot and checkpoint.")
def learner(
    *,
    settings: LogSettings,
    snapshot_every_events: int,
    snapshot_every_seconds: float,
    checkpoint_every_events: int,
    checkpoint_every_seconds: float,
    address: tuple[str, int] | None,
    web: tuple[str, int] | None,
    log_format: str,
    verbose: bool,
) -> None:
    """Learn from the event log and publish snapshots, until SIGTERM or Ctrl-C.

    Start as many as you like: they share the work, and when one dies the others take over. It is safe to kill a
    learner at any time. While the brokers are unreachable, it waits for them.

    \b
    Example:  conduit learner --bootstrap-servers kafka:9092 --http 127.0.0.1:9464
              conduit learner --web 127.0.0.1:8787
    """
    for number in _STOPPING:
        # Until the event loop installs its own handlers, there is nothing to finish.
        signal.signal(number, lambda *_: sys.exit(0))
    configure_logging(log_format, verbose=verbose)
    _LOG.info("starting")
    # Importing takes a second or two, and an application server does not have all dependencies.
    worker = import_module("conduit_learner.worker.run")
    gc.freeze()  # imported modules are never freed, so the garbage collector need not scan them again and again

    options = worker.WorkerOptions(
        snapshot_every_events=snapshot_every_events,
        snapshot_every_s=snapshot_every_seconds,
        checkpoint_every_events=checkpoint_every_events,
        checkpoint_every_s=checkpoint_every_seconds,
    )

    async def learn() -> None:
        stop = asyncio.Event()
        for number in _STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with _serving_status(address) as status, open_log(settings) as log:
            await worker.run_worker(log, topics=settings.topics, stop=stop, options=options, status=status)

    with page_beside(settings, web):
        asyncio.run(learn())


@asynccontextmanager
async def _serving_status(address: tuple[str, int] | None) -> "AsyncIterator[WorkerStatus | None]":
    """Serve a worker's status over HTTP; without an address there is no status."""
    if address is None:
        yield None
        return
    status: WorkerStatus = import_module("conduit_learner.worker.status").WorkerStatus()
    async with import_module("conduit_learner.worker.operations").serve(status, *address) as port:
        _LOG.info("serving health and metrics on http://%s:%d", address[0], port)
        yield status
