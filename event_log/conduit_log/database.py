"""The embedded log's database for an event loop: it runs in a separate thread, explains errors, and survives forks."""

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from conduit_log.ports import LogUnavailableError
from conduit_log.sqlite import BUSY_S, Connection, explain, is_temporary
from conduit_schemas import ConfigurationError, Topics

__all__ = ["Database"]

_T = TypeVar("_T")


class Database:
    """A SQLite connection in its own thread, with errors that explain themselves.

    No connection is open during a fork: SQLite's locks do not survive one, and a child that inherits the record of them
    may lose what it writes. The parent closes its connections before the fork and reopens them when they are next used.
    The child starts without any.

    Parameters
    ----------
    folder
        Contains ``log.sqlite3``. It is created if it does not exist.
    topics
        The installation's topics.
    """

    def __init__(self, folder: Path, topics: Topics) -> None:
        self.file = folder / "log.sqlite3"
        self._topics = topics
        self._thread: ThreadPoolExecutor | None = None
        self._connection: Connection | None = None
        self._identity: tuple[int, int] | None = None

    async def open(self) -> None:
        """Open the database, and create it if it is missing.

        Raises
        ------
        ConfigurationError
            When the file cannot be created or opened, or is not an embedded log of this version.
        LogUnavailableError
            When another process kept it locked for too long.
        """
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="conduit-log")
        _open.add(self)
        try:
            self._connection = await asyncio.get_running_loop().run_in_executor(self._thread, self._connect)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish the running work, then close."""
        thread, self._thread = self._thread, None
        _open.discard(self)
        if thread is None:
            return
        thread.submit(self._disconnect)
        # The thread may be waiting for a commit; the event loop must not wait.
        await asyncio.to_thread(thread.shutdown)

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Run ``work`` in the thread.

        Raises
        ------
        LogUnavailableError
            When SQLite failed. Nothing was changed.
        """
        if self._thread is None:
            raise LogUnavailableError(f"embedded log {self.file} is not open; use it inside 'async with'")
        try:
            done = asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)
        except RuntimeError as error:  # executors accept no work while the interpreter shuts down
            raise LogUnavailableError(f"embedded log {self.file}: {error}") from error
        return await done

    def _guarded(self, work: Callable[[Connection], _T]) -> _T:
        if self._file_identity() != self._identity:
            raise LogUnavailableError(
                f"embedded log {self.file} was removed or replaced while in use; restart the processes that use it"
            )
        if self._connection is None:  # this process has forked
            self._connection = self._connect()
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            raise LogUnavailableError(f"embedded log {self.file}: {explain(error)}") from error

    def pause(self, gate: threading.Event) -> threading.Event:
        """Close the connection and keep it closed until the gate is set. The returned event says when it is closed."""
        closed = threading.Event()

        def close() -> None:
            self._disconnect()
            closed.set()
            gate.wait()

        try:
            if self._thread is not None:
                self._thread.submit(close)
                return closed
        except RuntimeError:  # the executor accepts no more work: it is already closing
            pass
        closed.set()
        return closed

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> Connection:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            connection = Connection(self.file, self._topics)
        except OSError as error:
            raise ConfigurationError(
                f"embedded log: folder {self.file.parent} cannot be created: {error.strerror or error}; "
                "choose another one with CONDUIT_HOME"
            ) from error
        except ConfigurationError as error:
            raise ConfigurationError(f"embedded log {self.file}: {error}") from error
        except sqlite3.Error as error:
            kind = LogUnavailableError if is_temporary(error) else ConfigurationError
            raise kind(f"embedded log {self.file}: {explain(error)}") from error
        self._identity = self._file_identity()
        return connection

    def _file_identity(self) -> tuple[int, int] | None:
        try:
            status = self.file.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


_open: "weakref.WeakSet[Database]" = weakref.WeakSet()
_gate = threading.Event()


def _before_fork() -> None:
    _gate.clear()
    pauses = [database.pause(_gate) for database in tuple(_open)]
    for closed in pauses:
        closed.wait(BUSY_S)


def _after_fork_in_child() -> None:
    _open.clear()  # their threads stayed behind in the parent
    _gate.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_gate.set, after_in_child=_after_fork_in_child)
