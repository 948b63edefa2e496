"""Serves a strategy's connection to the log: delivers events and follows the snapshots."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from conduit_litellm.events.emitter import Emitter
from conduit_log import EventLog, LogSettings, open_log
from conduit_schemas import Topics

__all__ = ["serve_log"]

_logger = logging.getLogger("conduit")

_RETRY_S = 5.0

Follow = Callable[[EventLog, str], Coroutine[Any, Any, None]]
"""Follows the snapshot topic forever."""


async def serve_log(settings: LogSettings, emitter: Emitter, follow: Follow, stop: asyncio.Event) -> None:
    """Keep the log open until ``stop`` is set and all events are delivered. If opening it fails, try again."""
    try:
        await _serve_with_retries(settings, emitter, follow, stop)
    finally:
        emitter.hand_over()


async def _serve_with_retries(settings: LogSettings, emitter: Emitter, follow: Follow, stop: asyncio.Event) -> None:
    warned = False
    while True:
        try:
            async with open_log(settings) as log:
                await _serve(log, settings.topics, emitter, follow, stop)
            return
        except Exception as error:  # requests are served whatever is wrong with the log
            if not warned:
                warned = True
                _logger.warning(
                    "the event log cannot be used: %s; requests are served without it, and opening it is tried "
                    "again every %g s (logged once)",
                    error,
                    _RETRY_S,
                )
        emitter.spill()
        if await _is_set_within(stop, _RETRY_S):
            return


async def _is_set_within(stop: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()


async def _serve(log: EventLog, topics: Topics, emitter: Emitter, follow: Follow, stop: asyncio.Event) -> None:
    following = asyncio.ensure_future(follow(log, topics.snapshots))
    deliver = asyncio.ensure_future(emitter.run(log, topics.events, stop))
    try:
        await asyncio.wait({following, deliver}, return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        await deliver
    finally:
        following.cancel()
        deliver.cancel()
        await asyncio.gather(following, deliver, return_exceptions=True)
