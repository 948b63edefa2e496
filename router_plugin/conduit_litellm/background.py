"""The one thread in which everything that may wait for a network happens."""

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable

from conduit_log import EventLog, LogSettings, open_log

__all__ = ["Background"]

_logger = logging.getLogger("conduit")

_RETRY_OPEN_S = 5.0
_GRACE_S = 1.0

Job = Callable[[EventLog], Awaitable[None]]


class Background:
    """A daemon thread with an event loop that holds the log and runs jobs on it.

    Parameters
    ----------
    settings
        Which log.
    deliver
        The job that ends when told to (see ``finish``); leaving waits for it.
    follow
        The job that runs for ever; leaving cancels it.
    finish
        Tells ``deliver`` to end; called from another thread.
    forked
        Called in a child process after a fork, where the thread does not exist.
    """

    def __init__(
        self,
        settings: LogSettings,
        *,
        deliver: Job,
        follow: Job,
        finish: Callable[[], None],
        forked: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._deliver = deliver
        self._follow = follow
        self._finish = finish
        self._forked = forked
        self._closed = False
        self._reset()
        _living.add(self)

    def _reset(self) -> None:
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None

    def after_fork(self) -> None:
        """Start anew in a child process; the log and what waits for it are the parent's."""
        self._reset()
        self._forked()

    def start(self) -> None:
        """Start the thread unless it runs or was closed."""
        if self._thread is not None or self._closed:
            return
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="conduit", daemon=True)
                self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what waits, for at most ``timeout_s`` seconds, and end the thread."""
        self._closed = True
        thread = self._thread
        if thread is None or not thread.is_alive():
            return
        deadline = time.monotonic() + timeout_s
        self._finish()
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            loop, main = self._loop, self._main
            if loop is not None and main is not None:
                loop.call_soon_threadsafe(main.cancel)
            thread.join(_GRACE_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._hold_log())
        except asyncio.CancelledError:
            pass
        except Exception:
            _logger.exception("the background thread ended: nothing more is delivered or learned here")

    async def _hold_log(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        while True:
            try:
                async with open_log(self._settings) as log:
                    await self._work(log)
                    return
            except Exception as error:
                if self._closed:
                    return
                _logger.warning(
                    "the event log cannot be used (%s): requests are served without learning, next try in %g s",
                    error,
                    _RETRY_OPEN_S,
                )
                await asyncio.sleep(_RETRY_OPEN_S)

    async def _work(self, log: EventLog) -> None:
        follow = asyncio.ensure_future(self._follow(log))
        deliver = asyncio.ensure_future(self._deliver(log))
        try:
            await asyncio.wait({follow, deliver}, return_when=asyncio.FIRST_COMPLETED)
            if follow.done():
                await follow
            await deliver
        finally:
            follow.cancel()
            deliver.cancel()
            await asyncio.gather(follow, deliver, return_exceptions=True)


_living: "weakref.WeakSet[Background]" = weakref.WeakSet()


def _after_fork() -> None:
    for background in tuple(_living):
        background.after_fork()


def _at_exit() -> None:
    for background in tuple(_living):
        background.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

# Thread pools are closed before ordinary exit functions run, and the log may need one. CPython's own
# concurrent.futures uses the same hook; where it is missing, the ordinary one is the best there is.
getattr(threading, "_register_atexit", atexit.register)(_at_exit)
