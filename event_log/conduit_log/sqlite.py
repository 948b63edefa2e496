"""The SQLite file of the embedded log: its tables, its transactions, its thread, and its errors in words."""

import asyncio
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from conduit_log.ports import LogUnavailableError, Message, StoredMessage
from conduit_schemas import ConfigurationError, Topics

__all__ = ["Connection", "Database", "Retention"]

_T = TypeVar("_T")

_APPLICATION_ID = 0x436F6E64  # "Cond": tells our files from any other SQLite database
_FORMAT = 1
_BUSY_S = 10.0
_READ_BYTES = 32 << 20
_PRUNE_AT_ONCE = 1000


class Retention(NamedTuple):
    """How much of one topic is kept."""

    topic: str
    age_s: float | None
    events: int


class Connection:
    """One SQLite connection and the statements it runs; used by one thread at a time.

    One table per topic holds the messages. Table ``topics`` holds each topic's next offset and newest
    time, which change in the transaction that appends: an offset is never given twice, even after the
    newest message was removed, and time never falls.
    """

    def __init__(self, file: Path, topics: Topics) -> None:
        self._topics = topics
        self._sql = sqlite3.connect(
            file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            self._prepare()
        except BaseException:
            self._sql.close()
            raise

    def close(self) -> None:
        """Close the connection; the last one of all processes also folds the write-ahead log in."""
        self._sql.close()

    def append(self, topic: str, time_ms: int, messages: Sequence[Message], retention: Retention) -> None:
        """Append in one transaction; on return it has reached the disk."""
        verb = "REPLACE" if topic in self._topics.compacted else "INSERT"
        with self._transaction():
            (offset, newest_ms), *_ = self._sql.execute(
                "SELECT next_offset, newest_ms FROM topics WHERE name = ?", (topic,)
            )
            time_ms = max(time_ms, newest_ms)
            self._sql.executemany(
                f'{verb} INTO "{topic}" VALUES (?, ?, ?, ?)',
                ((offset + index, time_ms, key, value) for index, (key, value) in enumerate(messages)),
            )
            end = offset + len(messages)
            self._sql.execute("UPDATE topics SET next_offset = ?, newest_ms = ? WHERE name = ?", (end, time_ms, topic))
            if topic == retention.topic:
                self._prune(topic, end, time_ms, retention)

    def load(self, topic: str, messages: Sequence[StoredMessage]) -> None:
        """Append messages that keep their offsets and times, in one transaction."""
        with self._transaction():
            ((end, newest_ms),) = self._sql.execute(
                "SELECT next_offset, newest_ms FROM topics WHERE name = ?", (topic,)
            ).fetchall()
            if messages[0].offset < end:
                raise ConfigurationError(
                    f"topic {topic!r} reaches to offset {end}, it has no room at {messages[0].offset}"
                )
            self._sql.executemany(
                f'INSERT INTO "{topic}" VALUES (?, ?, ?, ?)', ((m.offset, m.time_ms, m.key, m.value) for m in messages)
            )
            newest_ms = max(newest_ms, *(message.time_ms for message in messages))
            self._sql.execute(
                "UPDATE topics SET next_offset = ?, newest_ms = ? WHERE name = ?",
                (messages[-1].offset + 1, newest_ms, topic),
            )

    def read(self, topic: str, offset: int, count: int) -> list[tuple[int, int, bytes, bytes]]:
        """Return rows (offset, time_ms, key, value) from ``offset`` on: at most ``count``, about 32 MB."""
        rows: list[tuple[int, int, bytes, bytes]] = []
        size = 0
        query = f'SELECT offset, time_ms, key, value FROM "{topic}" WHERE offset >= ? ORDER BY offset LIMIT ?'
        with closing(self._sql.execute(query, (offset, count))) as cursor:
            for row in cursor:
                rows.append(row)
                size += len(row[3])
                if size >= _READ_BYTES:
                    break
        return rows

    def ends(self) -> dict[str, int]:
        """Return each topic's next offset."""
        return dict(self._sql.execute("SELECT name, next_offset FROM topics"))

    def _prune(self, topic: str, end: int, time_ms: int, retention: Retention) -> None:
        oldest_ms = -1 if retention.age_s is None else time_ms - int(retention.age_s * 1000)
        first_kept = end - retention.events
        for offset, stored_ms in self._sql.execute(
            f'SELECT offset, time_ms FROM "{topic}" ORDER BY offset LIMIT 1'
        ).fetchall():
            if offset < first_kept or stored_ms < oldest_ms:
                # A slice per append keeps transactions short; it is larger than a batch, so it keeps up.
                self._sql.execute(
                    f'DELETE FROM "{topic}" WHERE offset < ? AND (offset < ? OR time_ms < ?)',
                    (offset + _PRUNE_AT_ONCE, first_kept, oldest_ms),
                )

    def _prepare(self) -> None:
        execute = self._sql.execute
        # One statement sees one state: another process may be creating the file right now.
        ((application_id, version, tables),) = execute(
            "SELECT (SELECT application_id FROM pragma_application_id), "
            "(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master)"
        )
        if tables and application_id != _APPLICATION_ID:
            raise ConfigurationError("it is a SQLite database of another program")
        if version not in {0, _FORMAT}:
            raise ConfigurationError(f"it has format {version}, this software reads {_FORMAT}: upgrade it")
        self._use_write_ahead_log()
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA fullfsync = ON")
        execute("PRAGMA journal_size_limit = 67108864")
        # Usually everything is there, and opening needs not wait for whoever is writing.
        if not tables or not set(self._topics.all) <= set(self.ends()):
            with self._transaction():
                self._create_tables()

    def _use_write_ahead_log(self) -> None:
        # The change needs the file alone, and SQLite does not wait for that: of several that make it at the same
        # moment, each holds what the others need. It is made once in a file's life, so trying again is enough.
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                self._sql.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if _primary(error) != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.001, 0.02))
            else:
                return

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._sql.execute("COMMIT")
        except BaseException:
            # Some errors, a full disk among them, have already rolled back.
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise

    def _create_tables(self) -> None:
        execute = self._sql.execute
        execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        execute(f"PRAGMA user_version = {_FORMAT}")
        execute(
            "CREATE TABLE IF NOT EXISTS topics "
            "(name TEXT PRIMARY KEY COLLATE NOCASE, next_offset INTEGER NOT NULL, newest_ms INTEGER NOT NULL)"
        )
        for topic in self._topics.all:  # names are checked by Topics: they cannot contain a quote
            key = "key BLOB NOT NULL UNIQUE" if topic in self._topics.compacted else "key BLOB NOT NULL"
            execute(
                f'CREATE TABLE IF NOT EXISTS "{topic}" '
                f"(offset INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, {key}, value BLOB NOT NULL)"
            )
            execute("INSERT OR IGNORE INTO topics VALUES (?, 0, 0)", (topic,))
        if not set(self._topics.all) <= set(self.ends()):
            raise ConfigurationError(
                f"its folder already serves a prefix that differs from {self._topics.prefix!r} in case only"
            )


class Database:
    """A connection with a thread of its own, and its errors in words.

    A fork finds no connection open: SQLite's locks do not survive one, and a child that inherits its memory of
    locks may lose what it writes. The parent closes before and opens again after; the child starts with none.

    Parameters
    ----------
    folder
        Where ``log.sqlite3`` is; created where it does not exist.
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
        """Open, and create what is missing.

        Raises
        ------
        ConfigurationError
            When the file cannot be created, opened or understood.
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
        """Finish what is running, then close."""
        thread, self._thread = self._thread, None
        _open.discard(self)
        if thread is None:
            return
        thread.submit(self._disconnect)
        # The thread may sit in a commit; the event loop must not.
        await asyncio.to_thread(thread.shutdown)

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Run ``work`` in the thread.

        Raises
        ------
        LogUnavailableError
            When SQLite could not do it; nothing of it has happened.
        """
        if self._thread is None:
            raise LogUnavailableError(f"embedded log {self.file} is not open: use it inside 'async with'")
        try:
            done = asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)
        except RuntimeError as error:  # threads take no more work once the interpreter is shutting down
            raise LogUnavailableError(f"embedded log {self.file}: {error}") from error
        return await done

    def _guarded(self, work: Callable[[Connection], _T]) -> _T:
        if self._file_identity() != self._identity:
            raise LogUnavailableError(
                f"embedded log {self.file} was removed or replaced while in use: restart its processes"
            )
        if self._connection is None:  # this process has forked
            self._connection = self._connect()
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            raise LogUnavailableError(f"embedded log {self.file}: {_explain(error)}") from error

    def pause(self, gate: threading.Event) -> threading.Event:
        """Close the connection and let nobody open it until the gate opens; the event returned tells when."""
        closed = threading.Event()

        def close() -> None:
            self._disconnect()
            closed.set()
            gate.wait()

        try:
            if self._thread is not None:
                self._thread.submit(close)
                return closed
        except RuntimeError:  # the thread takes no more work: it is closing by itself
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
                "choose another with CONDUIT_HOME"
            ) from error
        except ConfigurationError as error:
            raise ConfigurationError(f"embedded log {self.file}: {error}") from error
        except sqlite3.Error as error:
            kind = LogUnavailableError if _is_passing(error) else ConfigurationError
            raise kind(f"embedded log {self.file}: {_explain(error)}") from error
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
        closed.wait(_BUSY_S)


def _after_fork_in_child() -> None:
    _open.clear()  # their threads stayed behind in the parent
    _gate.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_gate.set, after_in_child=_after_fork_in_child)


_HELP = {
    "SQLITE_BUSY": "another process held it for too long; it is tried again with the next call",
    "SQLITE_FULL": "free some space on its disk; nothing written so far is lost",
    "SQLITE_IOERR": "the disk reported an error; look into the system's log",
    "SQLITE_READONLY": "make the file and its folder writable, or choose another folder with CONDUIT_HOME",
    "SQLITE_CANTOPEN": "make its folder writable, or choose another folder with CONDUIT_HOME",
    "SQLITE_PERM": "make the file readable, or choose another folder with CONDUIT_HOME",
    "SQLITE_NOTADB": "it is not a SQLite file: move it away, or choose another folder with CONDUIT_HOME",
    "SQLITE_CORRUPT": "it is damaged: stop all processes, move it away, and start them again",
}


def _primary(error: sqlite3.Error) -> str:
    """Return the primary result code's name; SQLite appends the details of an extended one to it."""
    name = getattr(error, "sqlite_errorname", "")
    return next((code for code in _HELP if name == code or name.startswith(f"{code}_")), name)


def _is_passing(error: sqlite3.Error) -> bool:
    return _primary(error) in {"SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR"}


def _explain(error: sqlite3.Error) -> str:
    help_ = _HELP.get(_primary(error))
    return f"{error}; {help_}" if help_ else str(error)
