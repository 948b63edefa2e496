"""Runs the learner inside an application's process, for installations without a broker."""

import asyncio
import logging
from contextlib import suppress

from conduit_litellm.runtime.background import BackgroundThread
from conduit_log import LogSettings, open_log

__all__ = ["host_learner"]

_logger = logging.getLogger("conduit")

_RETRY_S = 5.0


def host_learner(settings: LogSettings) -> BackgroundThread:
    """Return the thread in which this process runs the learner. It is not started yet.

    Every process that uses the log has such a thread. The log's group lock lets exactly one of them work. When its
    process ends, for whatever reason, another one takes over.
    """

    async def learn(stop: asyncio.Event) -> None:
        try:
            from conduit_learner.worker.run import run_worker  # noqa: PLC0415 - optional, and slow to load
        except ImportError as error:
            _logger.warning(
                "this process does not learn: %s; install the learner with pip install 'conduit-litellm[learner]'. "
                "Events are still logged, so a learner that is started later learns from them",
                error,
            )
            return
        warned = False
        while not stop.is_set():
            try:
                async with open_log(settings) as log:
                    await run_worker(log, topics=settings.topics, stop=stop)
            except Exception:  # a failure to learn must not affect this process's requests
                if not warned:
                    warned = True
                    _logger.exception(
                        "the learner stopped with an error; it is restarted every %g s (logged once)", _RETRY_S
                    )
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _RETRY_S)

    return BackgroundThread("conduit-learner", learn)
