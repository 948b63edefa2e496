"""Keeps events on the disk while the log is unavailable."""

import os
import re
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from conduit_log import LogSettings, Message
from conduit_schemas import ConduitError

__all__ = ["Spool", "SpoolError", "SpoolFile", "spool_folder"]

_SUFFIX = ".spool"
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY_CODE = 0xFF
_USED = (
    "SELECT (page_count - freelist_count) * page_size "
    "FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
)

_owned_by_parent: list["SpoolFile"] = []


class SpoolError(ConduitError):
    """Raised when events cannot be written to or read from the disk. The message names the file and the reason."""


class SpoolFile:
    """A queue of events in one SQLite file. It belongs to one process at a time.

    The process that owns the file holds SQLite's exclusive lock on it. The operating system releases the lock when the
    process dies, whatever the cause, and a forked child does not inherit it.

    Parameters
    ----------
    path
        The file. It is created if it does not exist.

    Raises
    ------
    SpoolError
        If another process owns the file, or if it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        try:
            # Do not wait: a locked file belongs to a living process.
            self._sql = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _spool_error(path, error) from error
        try:
            self._sql.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = FULL")
            self._sql.execute(
                "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB NOT NULL)"
            )
            ((self.events,),) = self._sql.execute("SELECT count(*) FROM events").fetchall()
        except sqlite3.Error as error:
            self._sql.close()
            raise _spool_error(path, error) from error

    def put(self, messages: Sequence[Message]) -> None:
        """Append events in one transaction. When this returns, they are on the disk.

        Raises
        ------
        SpoolError
            If they cannot be written; then none was appended.
        """
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            self._sql.executemany("INSERT INTO events (key, value) VALUES (?, ?)", messages)
            self._sql.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):  # some errors, a full disk among them, have rolled back already
                self._sql.execute("ROLLBACK")
            raise _spool_error(self.path, error) from error
        self.events += len(messages)

    def peek(self, count: int) -> list[Message]:
        """Return the oldest events, at most ``count``, without removing them.

        Raises
        ------
        SpoolError
            If the file cannot be read.
        """
        query = "SELECT key, value FROM events WHERE id > ? ORDER BY id LIMIT ?"
        try:
            with closing(self._sql.execute(query, (self._position, count))) as rows:
                messages = [Message(key, value) for key, value in rows]
        except sqlite3.Error as error:
            raise _spool_error(self.path, error) from error
        if not messages:
            self.events = 0
        return messages

    def remove(self, count: int) -> None:
        """Remove the oldest ``count`` events. There must be that many.

        If the disk is too full even to remove them from the file, this object skips them. Their space is freed when the
        file as a whole is removed.

        Raises
        ------
        SpoolError
            If the file cannot be read.
        """
        query = "SELECT id FROM events WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"
        try:
            ((self._position,),) = self._sql.execute(query, (self._position, count - 1)).fetchall()
        except sqlite3.Error as error:
            raise _spool_error(self.path, error) from error
        self.events -= count
        with suppress(sqlite3.Error):
            self._sql.execute("DELETE FROM events WHERE id <= ?", (self._position,))

    def used_bytes(self) -> int:
        """Return the size of the events on the disk, in bytes."""
        try:
            ((used,),) = self._sql.execute(_USED).fetchall()
        except sqlite3.Error as error:
            raise _spool_error(self.path, error) from error
        return int(used)

    def close(self) -> None:
        """Close the file. If it holds no more events, remove it."""
        self._sql.close()
        if self.events == 0:
            for end in ("", "-wal", "-journal"):
                with suppress(OSError):
                    Path(f"{self.path}{end}").unlink()


class Spool:
    """A folder of spool files, one per process that has events waiting.

    A process writes only into a file that it created itself, and takes over the files of processes that died.
    It must call all methods from one thread.

    Parameters
    ----------
    folder
        The folder, shared by the processes of one machine that send to the same log. It is created when needed.
    limit_bytes
        Maximum size of all files together. Processes that reach it at the same moment may exceed it by one batch each.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     spool = Spool(Path(folder), limit_bytes=1_000_000)
    ...     file = spool.put([Message(b"policy", b"first"), Message(b"policy", b"second")])
    ...     spool.close()  # or the process dies
    ...     heir = Spool(Path(folder), limit_bytes=1_000_000)
    ...     heir.adopt(), [message.value for message in heir.oldest().peek(10)]
    (2, [b'first', b'second'])
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._adopted: list[SpoolFile] = []
        self._own: SpoolFile | None = None

    @property
    def events(self) -> int:
        """Number of events in the files that this process owns."""
        return sum(file.events for file in self._files())

    def put(self, messages: Sequence[Message]) -> SpoolFile:
        """Append events to this process's own file, and return that file.

        Raises
        ------
        SpoolError
            If the limit is reached or the disk refuses; then none was appended.
        """
        file = self._own
        used = self._used_by_others() + (0 if file is None else file.used_bytes())
        if used >= self.limit_bytes:
            raise SpoolError(f"spool {self.folder}: the limit of {self.limit_bytes:,} bytes is reached")
        if file is None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SpoolError(f"spool {self.folder}: the folder cannot be created: {error.strerror}") from error
            file = SpoolFile(self.folder / f"{uuid.uuid4().hex}{_SUFFIX}")
            self._own = file
        file.put(messages)
        return file

    def oldest(self) -> SpoolFile | None:
        """Return the next file to deliver from, or None if none has events. Files of dead processes come first."""
        for file in self._files():
            if file.events:
                return file
            self.release(file)
        return None

    def release(self, file: SpoolFile, *, damaged: bool = False) -> None:
        """Close one of the files and stop owning it.

        If it still holds events, another process may adopt it. A damaged file is renamed, so that none does.
        """
        file.close()
        if damaged:
            _set_aside(file.path)
        if file is self._own:
            self._own = None
        else:
            self._adopted.remove(file)

    def adopt(self) -> int:
        """Take over the files of dead processes, and return the number of events in them.

        Raises
        ------
        SpoolError
            If a file is damaged. It is set aside: ``.damaged`` is appended to its name.
        """
        ours = {file.path for file in self._files()}
        adopted = 0
        for path in sorted(self.folder.glob(f"*{_SUFFIX}"), key=_modified):
            # A file of size 0 is new: its process has created it and is about to lock it.
            if path in ours or _size(path) == 0:
                continue
            try:
                file = SpoolFile(path)
            except SpoolError as error:
                if getattr(error.__cause__, "sqlite_errorcode", 0) & _PRIMARY_CODE in _DAMAGED:
                    _set_aside(path)
                    raise
                continue  # it belongs to a living process
            self._adopted.append(file)
            adopted += file.events
        return adopted

    def close(self) -> None:
        """Close all files, and stop owning them."""
        for file in self._files():
            self.release(file)

    def leave_to_parent(self) -> None:
        """Forget the files, in a child process after a fork: the parent still uses them.

        The connections stay open and referenced: SQLite forbids using a connection after a fork, even to close it.
        """
        _owned_by_parent.extend(self._files())
        self._adopted = []
        self._own = None

    def _files(self) -> list[SpoolFile]:
        return self._adopted + ([] if self._own is None else [self._own])

    def _used_by_others(self) -> int:
        own = "" if self._own is None else self._own.path.name
        try:
            with os.scandir(self.folder) as entries:
                names = [entry.path for entry in entries if not own or not entry.name.startswith(own)]
        except OSError:  # the folder does not exist yet
            return 0
        return sum(_size(Path(name)) for name in names)


def spool_folder(settings: LogSettings, path: Path | None = None) -> Path:
    """Return the spool folder for a log, inside ``path``. By default, ``path`` is ``spool`` beside the embedded log.

    Each installation has a folder of its own, so that no event reaches the log of another one.

    Examples
    --------
    >>> settings = LogSettings(bootstrap_servers="kafka-2:9092,kafka-1:9092", path=Path("/var/lib/conduit"))
    >>> spool_folder(settings).as_posix()
    '/var/lib/conduit/spool/conduit@kafka-1_9092,kafka-2_9092'
    """
    servers = ",".join(sorted(part.strip() for part in settings.address.location.split(",")))
    name = re.sub(r"[^A-Za-z0-9.,-]", "_", servers)[:100]
    return (path or settings.path / "spool") / f"{settings.prefix}@{name}"


def _spool_error(path: Path, error: sqlite3.Error) -> SpoolError:
    return SpoolError(f"spool {path}: {error}")


def _set_aside(path: Path) -> None:
    with suppress(OSError):
        path.rename(f"{path}.damaged")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # its owner has just removed it
        return 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # its owner has just removed it
        return 0.0
