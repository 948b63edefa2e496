"""Read a log into a view and keep it up to date; the rest of the view does no I/O."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from time import monotonic

from conduit_learner.view.installation import InstallationView
from conduit_log import EventLog, LogSettings, LogUnavailableError, Reader, StoredMessage
from conduit_log.reading import batches_until
from conduit_schemas import Topics

__all__ = ["Following", "follow", "spooled_bytes"]

_POLL_S = 0.5
_BATCH = 500
"""Messages added before other tasks get a chance to run."""
_RETRY_S = 2.0


@dataclass(slots=True)
class Following:
    """The progress of :func:`follow`."""

    read: int = 0
    """Number of events read."""
    to_read: int = 0
    """Number of events to read that were in the log at the start."""
    skipped: int = 0
    """Number of older events that are not read."""
    is_complete: bool = False
    """Whether everything that was in the log at the start has been read."""
    away_since: float | None = None
    """Monotonic time in seconds since which the log has been unreachable; None while it answers."""
    trouble: str = ""
    """The log's last error."""
    ends: dict[int, int] = field(default_factory=dict)
    """By partition of the event topic, the offset of the next event, when last read."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while messages are added to the view; its holder may read the view from another thread."""


async def follow(
    log: EventLog,
    topics: Topics,
    view: InstallationView,
    following: Following,
    *,
    max_events: int,
    until_complete: bool = False,
) -> None:
    """Read snapshots, dead letters and events into a view, until cancelled.

    While the log is unreachable, it waits and retries.

    Parameters
    ----------
    log
        An open log.
    topics
        The installation's topics.
    max_events
        How many of the newest events to start with.
    until_complete
        Whether to return once everything that was in the log at the start has been read, and to raise an error if the
        log is unreachable.

    Raises
    ------
    LogUnavailableError
        With ``until_complete``, when the log cannot be reached.
    """
    async with AsyncExitStack() as stack:
        snapshots = await stack.enter_async_context(log.reader(topics.snapshots))
        letters = await stack.enter_async_context(log.reader(topics.dead_letters))
        events = await stack.enter_async_context(log.reader(topics.events))
        lock = following.lock
        # Snapshots come first, because utilities need the scale of costs and latencies that they hold.
        sides = [_Side(snapshots, view.snapshot, lock), _Side(letters, view.dead_letter, lock)]
        main = _Side(events, view.event, lock)

        async def attempt(call: Awaitable[None]) -> bool:
            try:
                await call
            except LogUnavailableError as error:
                if until_complete:
                    raise
                following.trouble = str(error)
                if following.away_since is None:
                    following.away_since = monotonic()
                await asyncio.sleep(_RETRY_S)
                return False
            following.away_since = None
            return True

        while not await attempt(_catch_up(sides, main, following, max_events)):
            pass
        following.is_complete = True
        while not until_complete:
            await attempt(_advance(sides, main, following))


@dataclass(slots=True)
class _Side:
    reader: Reader
    take: Callable[[StoredMessage], None]
    lock: asyncio.Lock
    waiting: dict[int, int] = field(default_factory=dict)
    """The end of each partition whose messages, of those that were there at the start, have not all been read."""
    has_begun: bool = False

    def begin(self, ends: Mapping[int, int]) -> None:
        """Note where the partitions end at the start."""
        self.waiting = {number: end for number, end in ends.items() if end > 0}
        self.has_begun = True

    async def step(self, timeout_s: float) -> int:
        messages = await self.reader.poll(timeout_s=timeout_s, max_messages=_BATCH)
        await self._add(messages)
        return len(messages)

    async def drain(self) -> AsyncIterator[int]:
        """Read the messages that were there at the start, or what is left of them. Yields how many at a time."""
        async for messages in batches_until(self.reader, self.waiting, max_messages=_BATCH):
            await self._add(messages)
            yield len(messages)

    async def _add(self, messages: Sequence[StoredMessage]) -> None:
        async with self.lock:
            for message in messages:
                self.take(message)
        await asyncio.sleep(0)


async def _catch_up(sides: list[_Side], main: _Side, following: Following, max_events: int) -> None:
    for side in sides:
        if not side.has_begun:
            side.begin(await side.reader.end_offsets())
        async for _ in side.drain():
            pass
    if not main.has_begun:
        ends = dict(await main.reader.end_offsets())
        share = max(1, max_events // max(1, len(ends)))
        for number, end in ends.items():
            if end > share:
                await main.reader.seek(number, end - share)
        following.skipped = sum(max(0, end - share) for end in ends.values())
        following.to_read = sum(ends.values()) - following.skipped
        following.ends = ends
        main.begin(ends)
    async for count in main.drain():
        following.read += count


async def _advance(sides: list[_Side], main: _Side, following: Following) -> None:
    for side in sides:
        await side.step(0.0)
    following.read += await main.step(_POLL_S)
    following.ends = dict(await main.reader.end_offsets())


def spooled_bytes(log: EventLog, settings: LogSettings) -> int | None:
    """Return how many bytes wait for the log on this machine's disk; None if there is no spool folder.

    Only the plugin's default folder is known here, not one that was set with ``spool_path``.
    """
    folder = settings.path / "spool"
    if not log.capabilities.needs_spool or not folder.is_dir():
        return None
    total = 0
    for path in folder.glob(f"{settings.prefix}@*/*.spool"):
        with suppress(OSError):  # it was delivered and removed meanwhile
            total += path.stat().st_size
    return total
