"""Hosts the learner inside an application's process, for installations without a broker."""

import asyncio
import logging
from contextlib import suppress

from conduit_litellm.runtime.background import BackgroundThread
from conduit_log import LogSettings, open_log

__all__ = ["host_learner"]

_logger = logging.getLogger("conduit")

_RETRY_S = 5.0


def host_learner(settings: LogSettings) -> BackgroundThread:
    """Return the thread in which a process learns, not started yet.

    Every process that uses the log has one. The log's group lock lets exactly one of them work; when its
    process ends, however it ends, another one takes over.
    """

    async def learn(stop: asyncio.Event) -> None:
        try:
            from conduit_learner.worker.run import run_worker  # noqa: PLC0415 - an optional part, and slow to load
        except ImportError as error:
            _logger.warning(
                "nothing is learned in this process: %s; install the learner with "
                "pip install 'conduit-litellm[learner]'. Events are logged, and whoever learns later can use them",
                error,
            )
            return
        said = False
        while not stop.is_set():
            try:
                async with open_log(settings) as log:
                    await run_worker(log, topics=settings.topics, stop=stop)
            except Exception:  # learning may fail; serving, which happens elsewhere in this process, may not
                if not said:
                    said = True
                    _logger.exception("the learner stopped on an error; it is started again every %g s", _RETRY_S)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _RETRY_S)

    return BackgroundThread("conduit-learner", learn)
