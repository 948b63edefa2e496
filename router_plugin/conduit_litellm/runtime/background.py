"""Threads with an event loop of their own. All work that may wait for a network runs in them."""

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

    It does not survive a fork, but can be started again in the child. At the end of the process it is told to stop, and
    gets a few seconds to finish.

    Parameters
    ----------
    name
        The thread's name.
    main
        The coroutine to run. Its argument is an event that is set when it should end.
    forked
        Called in a child process after a fork. The thread does not exist there.
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
        """Reset the state in a child process, so that the thread can be started there."""
        self._reset()
        if self._forked is not None:
            self._forked()

    def start(self) -> None:
        """Start the thread unless it is running or was closed."""
        if self._thread is None and not self._closed:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    thread.start()
                    self._thread = thread  # only once it runs, since another thread may join it

    def tell_to_stop(self) -> None:
        """Ask the coroutine to end, without waiting for it."""
        self._closed = True
        self._in_loop(lambda: self._stop.set() if self._stop is not None else None)

    def close(self, timeout_s: float = _FLUSH_S) -> None:
        """Ask the coroutine to end, wait up to ``timeout_s`` seconds for it, then cancel it."""
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
            with suppress(RuntimeError):  # the loop has just been closed, so the coroutine has ended
                loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        try:
            asyncio.run(self._hold())
        except Exception:
            _logger.exception("thread %s ended with an error", self._name)

    async def _hold(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(self._main_until(self._stop))
        if self._closed:  # it was told to stop before it had a loop
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

# Python closes thread pools before it runs ordinary exit functions, and the log may need one. This hook runs earlier.
# CPython's concurrent.futures uses it for the same reason. If it is missing, an ordinary exit function has to do.
getattr(threading, "_register_atexit", atexit.register)(_at_exit)
