"""Threads with an event loop of their own, in which everything that may wait for a network happens."""

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress

__all__ = ["BackgroundThread"]

_logger = logging.getLogger("conduit")

_FLUSH_S = 5.0
_CANCEL_S = 1.0


class BackgroundThread:
    """A daemon thread that runs one coroutine until it is told to stop.

    It is started when first used, knows that a fork leaves it behind, and stops in good order at the end of
    the process.

    Parameters
    ----------
    name
        The thread's name.
    main
        What to run; it gets an event that is set when it is to end.
    forked
        Called in a child process after a fork, where the thread does not exist.
    """

    def __init__(
        self,
        name: str,
        main: Callable[[asyncio.Event], Awaitable[None]],
        *,
        forked: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._main = main
        self._forked = forked
        self._closed = False
        self._reset()
        _living.add(self)

    def _reset(self) -> None:
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def after_fork(self) -> None:
        """Start anew in a child process."""
        self._reset()
        if self._forked is not None:
            self._forked()

    def start(self) -> None:
        """Start the thread unless it runs or was closed."""
        if self._thread is None and not self._closed:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    thread.start()
                    self._thread = thread  # not before it runs: another thread may want to wait for its end

    def tell_to_stop(self) -> None:
        """Ask for the end without waiting for it."""
        self._closed = True
        self._in_loop(lambda: self._stop.set() if self._stop is not None else None)

    def close(self, timeout_s: float = _FLUSH_S) -> None:
        """Ask for the end, wait for it for ``timeout_s`` seconds, then insist."""
        self.tell_to_stop()
        with self._starting:
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(timeout_s)
        if thread.is_alive():
            self._in_loop(lambda: self._task.cancel() if self._task is not None else None)
            thread.join(_CANCEL_S)

    def _in_loop(self, action: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has just been closed: there is nothing left to ask for
                loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        try:
            asyncio.run(self._hold())
        except Exception:
            _logger.exception("thread %s ended on an error", self._name)

    async def _hold(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(self._main_until(self._stop))
        if self._closed:  # told so before there was a loop to tell
            self._stop.set()
        try:
            await self._task
        except asyncio.CancelledError:
            _logger.debug("thread %s was cancelled", self._name)

    async def _main_until(self, stop: asyncio.Event) -> None:
        await self._main(stop)


_living: "weakref.WeakSet[BackgroundThread]" = weakref.WeakSet()


def _after_fork() -> None:
    for thread in tuple(_living):
        thread.after_fork()


def _at_exit() -> None:
    deadline = time.monotonic() + _FLUSH_S
    for thread in tuple(_living):
        thread.tell_to_stop()
    for thread in tuple(_living):
        thread.close(max(0.0, deadline - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

# Thread pools are closed before ordinary exit functions run, and the log may need one. CPython's own
# concurrent.futures uses this hook for the same reason; where it is missing, the ordinary one is the best there is.
getattr(threading, "_register_atexit", atexit.register)(_at_exit)
