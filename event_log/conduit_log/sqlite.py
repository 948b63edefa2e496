"""The SQLite file of the embedded log: its tables, its transactions, and explanations of its errors."""

import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from conduit_log.ports import Message, StoredMessage
from conduit_schemas import ConfigurationError, Topics

__all__ = ["BUSY_S", "Connection", "Retention", "explain", "is_temporary"]

BUSY_S = 10.0
"""How long a process waits for another one's lock before it gives up, in seconds."""

_APPLICATION_ID = 0x436F6E64  # "Cond": distinguishes our files from other SQLite databases
_FORMAT = 1
_READ_BYTES = 32 << 20
_PRUNE_AT_ONCE = 1000


class Retention(NamedTuple):
    """How much of one topic is kept."""

    topic: str
    age_s: float | None
    events: int


class Connection:
    """One SQLite connection and the statements it runs. Only one thread may use it at a time.

    One table per topic holds the messages. The table ``topics`` holds each topic's next offset and newest time, which
    the appending transaction updates. An offset is therefore never used twice, even after the newest message was
    removed, and time never falls.
    """

    def __init__(self, file: Path, topics: Topics) -> None:
        self._topics = topics
        self._sql = sqlite3.connect(
            file, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            self._prepare()
        except BaseException:
            self._sql.close()
            raise

    def close(self) -> None:
        """Close the connection. When the last one of all processes closes, SQLite also merges the write-ahead log."""
        self._sql.close()

    def append(self, topic: str, time_ms: int, messages: Sequence[Message], retention: Retention) -> None:
        """Append in one transaction. When this returns, it is on the disk."""
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
        """Append messages with their original offsets and times, in one transaction."""
        with self._transaction():
            ((end, newest_ms),) = self._sql.execute(
                "SELECT next_offset, newest_ms FROM topics WHERE name = ?", (topic,)
            ).fetchall()
            if messages[0].offset < end:
                raise ConfigurationError(
                    f"topic {topic!r} already reaches offset {end}, so nothing can be loaded at {messages[0].offset}; "
                    "load into an empty log"
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
        """Return rows (offset, time_ms, key, value) from ``offset`` on: at most ``count``, and about 32 MB."""
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
                # Removing a limited number per append keeps transactions short. It exceeds a batch, so it keeps up.
                self._sql.execute(
                    f'DELETE FROM "{topic}" WHERE offset < ? AND (offset < ? OR time_ms < ?)',
                    (offset + _PRUNE_AT_ONCE, first_kept, oldest_ms),
                )

    def _prepare(self) -> None:
        execute = self._sql.execute
        # A single statement sees a consistent state, even if another process is creating the file right now.
        ((application_id, version, tables),) = execute(
            "SELECT (SELECT application_id FROM pragma_application_id), "
            "(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master)"
        )
        if tables and application_id != _APPLICATION_ID:
            raise ConfigurationError("it is a SQLite database of another program")
        if version not in {0, _FORMAT}:
            raise ConfigurationError(
                f"it has format {version}, but this software reads only format {_FORMAT}; upgrade it"
            )
        self._use_write_ahead_log()
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA fullfsync = ON")
        execute("PRAGMA journal_size_limit = 67108864")
        # Usually nothing is missing, and then opening need not wait for a process that is writing.
        if not tables or not set(self._topics.all) <= set(self.ends()):
            with self._transaction():
                self._create_tables()

    def _use_write_ahead_log(self) -> None:
        # The change needs exclusive access, and SQLite does not wait for that: of several processes that try at the
        # same moment, each holds what the others need. It happens once in a file's life, so retrying is enough.
        deadline = time.monotonic() + BUSY_S
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
            # Some errors, such as a full disk, have already rolled back.
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
                f"its folder is already used for a prefix that differs from {self._topics.prefix!r} only in case; "
                "choose another prefix or folder"
            )


_HELP = {
    "SQLITE_BUSY": "another process locked it for too long; the next call tries again",
    "SQLITE_FULL": "free some space on its disk; nothing written so far is lost",
    "SQLITE_IOERR": "the disk reported an error; check the system's log",
    "SQLITE_READONLY": "make the file and its folder writable, or choose another folder with CONDUIT_HOME",
    "SQLITE_CANTOPEN": "make its folder writable, or choose another folder with CONDUIT_HOME",
    "SQLITE_PERM": "make the file readable, or choose another folder with CONDUIT_HOME",
    "SQLITE_NOTADB": "it is not a SQLite file; move it away, or choose another folder with CONDUIT_HOME",
    "SQLITE_CORRUPT": "it is damaged; stop all processes that use it, move it away, and start them again",
}


def _primary(error: sqlite3.Error) -> str:
    """Return the name of the primary result code. An extended code's name is the primary one with a suffix."""
    name = getattr(error, "sqlite_errorname", "")
    return next((code for code in _HELP if name == code or name.startswith(f"{code}_")), name)


def is_temporary(error: sqlite3.Error) -> bool:
    """Return whether the same call may succeed later."""
    return _primary(error) in {"SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR"}


def explain(error: sqlite3.Error) -> str:
    """Return what happened and, if known, what to do about it."""
    help_ = _HELP.get(_primary(error))
    return f"{error}; {help_}" if help_ else str(error)
