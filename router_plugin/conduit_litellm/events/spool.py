"""Events that wait on the disk while the log is away."""

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

_left_to_the_parent: list["SpoolFile"] = []


class SpoolError(ConduitError):
    """Raised when the disk does not take, or give back, what it should; says which file and why."""


class SpoolFile:
    """One SQLite file of events, first in, first out, that belongs to one process at a time.

    SQLite's exclusive lock says to whom. The operating system takes it back when the process dies, however it
    dies, and a forked child does not inherit it.

    Parameters
    ----------
    path
        The file; it is created where it does not exist.

    Raises
    ------
    SpoolError
        When another process has it, or when it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        try:
            # No waiting: a file that is locked belongs to a living process.
            self._sql = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _explained(path, error) from error
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
            raise _explained(path, error) from error

    def put(self, messages: Sequence[Message]) -> None:
        """Append in one transaction; on return it has reached the disk.

        Raises
        ------
        SpoolError
            When it has not: then nothing was appended.
        """
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            self._sql.executemany("INSERT INTO events (key, value) VALUES (?, ?)", messages)
            self._sql.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):  # some errors, a full disk among them, have rolled back already
                self._sql.execute("ROLLBACK")
            raise _explained(self.path, error) from error
        self.events += len(messages)

    def peek(self, count: int) -> list[Message]:
        """Return the oldest events, at most ``count``.

        Raises
        ------
        SpoolError
            When the file cannot be read.
        """
        query = "SELECT key, value FROM events WHERE id > ? ORDER BY id LIMIT ?"
        try:
            with closing(self._sql.execute(query, (self._position, count))) as rows:
                messages = [Message(key, value) for key, value in rows]
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error
        if not messages:
            self.events = 0
        return messages

    def remove(self, count: int) -> None:
        """Forget the oldest ``count`` events, which must be there.

        Where the disk is too full even for a removal, they stay on it, but not in this object; the removal of the
        whole file makes the room.

        Raises
        ------
        SpoolError
            When the file cannot be read.
        """
        query = "SELECT id FROM events WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"
        try:
            ((self._position,),) = self._sql.execute(query, (self._position, count - 1)).fetchall()
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error
        self.events -= count
        with suppress(sqlite3.Error):
            self._sql.execute("DELETE FROM events WHERE id <= ?", (self._position,))

    def used_bytes(self) -> int:
        """Return how much of the disk the events take."""
        try:
            ((used,),) = self._sql.execute(_USED).fetchall()
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error
        return int(used)

    def close(self) -> None:
        """Give the file up; one in which nothing waits any more is removed."""
        self._sql.close()
        if self.events == 0:
            for end in ("", "-wal", "-journal"):
                with suppress(OSError):
                    Path(f"{self.path}{end}").unlink()


class Spool:
    """A folder of such files: one for each process that has something to keep.

    A process writes only into a file it has made itself, and takes over the files of processes that died.
    It calls every method from one thread.

    Parameters
    ----------
    folder
        Shared by the processes of one machine that send to the same log; made when first needed.
    limit_bytes
        What all files together may take. Several processes that reach it at once may exceed it by a batch each.

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
        """How many wait in the files that belong to this process."""
        return sum(file.events for file in self._files())

    def put(self, messages: Sequence[Message]) -> SpoolFile:
        """Append to this process's own file, and return it.

        Raises
        ------
        SpoolError
            When the limit is reached or the disk refuses; nothing was appended.
        """
        file = self._own
        used = self._used_by_others() + (0 if file is None else file.used_bytes())
        if used >= self.limit_bytes:
            raise SpoolError(f"spool {self.folder}: its limit of {self.limit_bytes:,} bytes is reached")
        if file is None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SpoolError(f"spool {self.folder}: the folder cannot be made: {error.strerror}") from error
            file = SpoolFile(self.folder / f"{uuid.uuid4().hex}{_SUFFIX}")
            self._own = file
        file.put(messages)
        return file

    def oldest(self) -> SpoolFile | None:
        """Return the file to deliver from: those of dead processes come first. None when nothing waits."""
        for file in self._files():
            if file.events:
                return file
            self.let_go(file)
        return None

    def let_go(self, file: SpoolFile, *, damaged: bool = False) -> None:
        """Give one of the files up; if something waits in it, whoever adopts next gets it, unless it is damaged."""
        file.close()
        if damaged:
            _set_aside(file.path)
        if file is self._own:
            self._own = None
        else:
            self._adopted.remove(file)

    def adopt(self) -> int:
        """Take over the files of dead processes; return how many events that brings.

        Raises
        ------
        SpoolError
            When one is damaged; it is set aside.
        """
        ours = {file.path for file in self._files()}
        adopted = 0
        for path in sorted(self.folder.glob(f"*{_SUFFIX}"), key=_modified):
            # An empty file is one that its process is about to lock.
            if path in ours or _size(path) == 0:
                continue
            try:
                file = SpoolFile(path)
            except SpoolError as error:
                if getattr(error.__cause__, "sqlite_errorcode", 0) & _PRIMARY_CODE in _DAMAGED:
                    _set_aside(path)
                    raise
                continue  # a living process has it
            self._adopted.append(file)
            adopted += file.events
        return adopted

    def close(self) -> None:
        """Give all files up."""
        for file in self._files():
            self.let_go(file)

    def leave_to_parent(self) -> None:
        """In a child process after a fork: forget the files, which the parent still uses.

        The connections stay open and untouched, since SQLite forbids even to close one that a fork has copied.
        """
        _left_to_the_parent.extend(self._files())
        self._adopted = []
        self._own = None

    def _files(self) -> list[SpoolFile]:
        return self._adopted + ([] if self._own is None else [self._own])

    def _used_by_others(self) -> int:
        own = "" if self._own is None else self._own.path.name
        try:
            with os.scandir(self.folder) as entries:
                names = [entry.path for entry in entries if not own or not entry.name.startswith(own)]
        except OSError:  # no folder yet
            return 0
        return sum(_size(Path(name)) for name in names)


def spool_folder(settings: LogSettings, path: Path | None = None) -> Path:
    """Return where events for a log wait: under ``path``, by default ``spool`` beside the embedded log.

    Installations never share a folder, lest one's events reach the other's log.

    Examples
    --------
    >>> settings = LogSettings(bootstrap_servers="kafka-2:9092,kafka-1:9092", path=Path("/var/lib/conduit"))
    >>> spool_folder(settings).as_posix()
    '/var/lib/conduit/spool/conduit@kafka-1_9092,kafka-2_9092'
    """
    servers = ",".join(sorted(part.strip() for part in settings.address.location.split(",")))
    name = re.sub(r"[^A-Za-z0-9.,-]", "_", servers)[:100]
    return (path or settings.path / "spool") / f"{settings.prefix}@{name}"


def _explained(path: Path, error: sqlite3.Error) -> SpoolError:
    return SpoolError(f"spool {path}: {error}")


def _set_aside(path: Path) -> None:
    with suppress(OSError):
        path.rename(f"{path}.damaged")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # its process has just removed it
        return 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # its process has just removed it
        return 0.0
