"""Delivers events to the log: the request path appends to a queue, and a background task empties it."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from conduit_litellm.decisions.drafts import Draft, OutcomeDraft
from conduit_litellm.decisions.ledger import Ledger
from conduit_litellm.events.connectivity import LogState
from conduit_litellm.events.counters import Counters
from conduit_litellm.events.spool import Spool, SpoolError, SpoolFile
from conduit_log import EventLog, Message
from conduit_schemas import ConduitError, EventFate, RecordError, encode

__all__ = ["Emitter"]

_logger = logging.getLogger("conduit")

_BATCH = 500
_IDLE_S = 0.05
_YIELD_S = 2e-5
_LONGEST_PAUSE_S = 5.0
_SLOW_S = 1.0
_ADOPTION_S = 10.0
_SPOOL_RETRY_S = 5.0
_SET_ASIDE = "%s; the file is set aside: .damaged is appended to its name"
APP_OUTCOME_DELAY_S = 2.0
"""How long an outcome reported by the application waits, in case LiteLLM reports a more detailed one."""


class Emitter:
    """A bounded queue of events, and their delivery.

    The request path calls :meth:`put`, which appends to a deque and returns. In the background, :meth:`run` builds
    and encodes the events, appends them to the log in order, and repeats each batch until the log confirms it.

    If the log fails, or takes longer than a second, all waiting events move into the spool, where they survive the
    end of this process. Spooled events are delivered before newer ones. They may be delivered twice: if a confirmation
    is lost, or if the process dies between the confirmation and the removal from the spool.

    If the spool takes no more events, they wait in memory. If the memory's limit is reached too, the newest events are
    dropped. The older ones are kept because an outcome is useless without the selection before it.

    Parameters
    ----------
    limit
        Maximum number of events in memory. Further events are dropped and counted as ``events_dropped``.
    delivered
        Called with the policies of each delivered batch.
    spool
        Where events wait while the log is unavailable. None keeps them in memory.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        counters: Counters,
        state: LogState,
        limit: int,
        delivered: Callable[[Iterable[str]], None],
        spool: Spool | None = None,
    ) -> None:
        self._ledger = ledger
        self._counters = counters
        self._state = state
        self._limit = limit
        self._delivered = delivered
        self._spool = spool
        self.reset()

    def reset(self) -> None:
        """Forget all waiting events. A forked child calls this, since the parent delivers them."""
        self._queue: deque[Draft] = deque()
        self._held: deque[OutcomeDraft] = deque()
        # From oldest to newest: the batch being appended, the encoded events, the queue.
        self._batch: list[Message] = []
        self._encoded: list[Message] = []
        self._origin: SpoolFile | None = None  # the spool file that the batch was read from or written to, if any
        self._closed = False
        self._away = False
        self._next_adoption = 0.0
        self._next_spooling = 0.0
        self._spool_failed = False
        if self._spool is not None:
            self._spool.leave_to_parent()

    def put(self, draft: Draft, *, even_if_full: bool = False) -> None:
        """Queue an event. Never waits and never raises. After :meth:`close`, events are dropped.

        Parameters
        ----------
        even_if_full
            Ignore the limit. For the few events that the meaning of all others depends on.
        """
        if self._closed or (len(self._queue) >= self._limit and not even_if_full):
            self._count(EventFate.DROPPED)
        else:
            self._queue.append(draft)

    def put_app_outcome(self, draft: OutcomeDraft) -> None:
        """Queue an outcome that is used only if LiteLLM reports none within :data:`APP_OUTCOME_DELAY_S`."""
        if self._closed or len(self._held) >= self._limit:
            self._count(EventFate.DROPPED)
        else:
            self._held.append(draft)

    @property
    def waiting(self) -> int:
        """Number of events that the log has not confirmed yet, in memory and in this process's spool files."""
        in_memory = len(self._queue) + len(self._held) + len(self._encoded)
        if self._origin is None:
            in_memory += len(self._batch)
        return in_memory + self.spooled

    @property
    def spooled(self) -> int:
        """Number of events in this process's spool files."""
        return 0 if self._spool is None else self._spool.events

    def close(self) -> None:
        """Stop accepting events."""
        self._closed = True

    async def run(self, log: EventLog, topic: str, stop: asyncio.Event) -> None:
        """Deliver events until ``stop`` is set and none waits. A cancelled run can be restarted without loss."""
        try:
            await self._run(log, topic, stop)
        finally:
            self.spill()

    def spill(self) -> None:
        """Move all events from memory into the spool, if there is one. Events that it refuses stay in memory."""
        if self._spool is None or time.monotonic() < self._next_spooling:
            return
        try:
            if self._batch and self._origin is None:
                self._origin = self._put(self._spool, self._batch)
            while self._encode():
                self._put(self._spool, self._encoded)
                self._encoded = []
        except SpoolError as error:
            self._next_spooling = time.monotonic() + _SPOOL_RETRY_S
            if not self._spool_failed:
                self._spool_failed = True
                _logger.warning(
                    "%s; events wait in memory until the spool works again, at most %d of them: free disk space, "
                    "raise spool_limit_bytes, or choose another folder with spool_path",
                    error,
                    self._limit,
                )

    def hand_over(self) -> None:
        """Move all waiting events into the spool, and release its files so that another process can deliver them."""
        self._release_held(everything=True)
        self._next_spooling = 0.0
        self.spill()
        if self._spool is not None:
            if self._origin is not None:
                self._batch, self._origin = [], None
            self._spool.close()
            self._next_adoption = 0.0
        lost = self.waiting
        if lost:
            self._queue.clear()
            self._batch, self._encoded = [], []
            self._count(EventFate.DROPPED, lost)
            _logger.warning("%d events are lost: they could be neither delivered to the log nor saved in a spool", lost)

    def _put(self, spool: Spool, messages: list[Message]) -> SpoolFile:
        file = spool.put(messages)
        self._spool_failed = False
        self._count(EventFate.SPOOLED, len(messages))
        return file

    async def _run(self, log: EventLog, topic: str, stop: asyncio.Event) -> None:
        pause, most = _IDLE_S, _BATCH
        while True:
            closing = stop.is_set()
            self._release_held(everything=closing)
            if not self._batch:
                self._next_batch(yielding=not closing)
            if not self._batch:
                if closing:
                    return
                await asyncio.sleep(_IDLE_S)
                continue
            part = self._batch[:most]
            try:
                await self._spilling_meanwhile(log.append(topic, part), stop)
            except RecordError as error:
                # The log will never take one of these events. Halve the batch until that event is alone, then skip it.
                if len(part) == 1:
                    self._refuse(error)
                    self._forget(1)
                most = max(1, len(part) // 2)
                continue
            except ConduitError as error:
                self._away = True
                self._state.lost("delivery", error)
                await self._spilling_meanwhile(asyncio.sleep(pause), stop)
                pause = min(2.0 * pause, _LONGEST_PAUSE_S)
                continue
            self._away = False
            self._state.back("delivery")
            pause, most = _IDLE_S, _BATCH
            self._forget(len(part))
            self._count(EventFate.DELIVERED, len(part))
            self._delivered({message.key.decode() for message in part})

    async def _spilling_meanwhile(self, work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
        """Await work that may take long. While it does, move waiting events into the spool."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                urgent = self._away or stop.is_set()
                await asyncio.wait({task}, timeout=_IDLE_S if urgent else _SLOW_S)
                if task.done():
                    break
                self._release_held(everything=stop.is_set())
                self.spill()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        task.result()

    def _release_held(self, *, everything: bool) -> None:
        due = time.time() - APP_OUTCOME_DELAY_S
        while self._held and (everything or self._held[0].time <= due):
            draft = self._held.popleft()
            if self._ledger.claim_outcome(draft.decision):
                self._queue.append(draft)

    def _next_batch(self, *, yielding: bool) -> None:
        """Take the oldest waiting events: first those of dead processes, then the spool's own, then those in memory."""
        if self._spool is not None:
            self._adopt(self._spool)
            while not self._batch and (file := self._spool.oldest()) is not None:
                try:
                    self._batch, self._origin = file.peek(_BATCH), file
                except SpoolError as error:
                    self._set_aside(file, error)
            if len(self._batch) == _BATCH:
                self.spill()  # more spooled events follow, so newer ones join them there
        if not self._batch:
            self._origin = None
            self._batch, self._encoded = self._encode(yielding=yielding), []

    def _adopt(self, spool: Spool) -> None:
        if time.monotonic() < self._next_adoption:
            return
        self._next_adoption = time.monotonic() + _ADOPTION_S
        try:
            adopted = spool.adopt()
        except SpoolError as error:
            _logger.warning(_SET_ASIDE, error)
        else:
            if adopted:
                self._count(EventFate.ADOPTED, adopted)
                _logger.info(
                    "delivering %d events that other processes left in %s when they ended", adopted, spool.folder
                )

    def _forget(self, count: int) -> None:
        """Remove the first events of the batch, which were delivered or refused."""
        del self._batch[:count]
        if self._origin is not None:
            try:
                self._origin.remove(count)
            except SpoolError as error:
                self._set_aside(self._origin, error)

    def _set_aside(self, file: SpoolFile, error: SpoolError) -> None:
        _logger.warning(_SET_ASIDE, error)
        self._origin = None
        if self._spool is not None:
            self._spool.release(file, damaged=True)

    def _encode(self, *, yielding: bool = True) -> list[Message]:
        """Fill the list of encoded events from the queue, up to one batch, and return it."""
        while self._queue and len(self._encoded) < _BATCH:
            if yielding:
                # Lets a thread that serves a request run at once, instead of after 5 ms (the switch interval).
                time.sleep(_YIELD_S)
            draft = self._queue.popleft()
            try:
                event = draft.event()
                self._encoded.append(Message(event.policy.encode(), encode(event)))
            except Exception as error:  # one bad event must not block the others
                self._refuse(error)
        return self._encoded

    def _refuse(self, error: Exception) -> None:
        self._count(EventFate.REFUSED)
        if self._counters[f"events_{EventFate.REFUSED}"] == 1:
            _logger.warning(
                "an event cannot be logged and is left out: %s (counted as events_refused, logged once)", error
            )

    def _count(self, fate: EventFate, number: int = 1) -> None:
        self._counters.add(f"events_{fate}", number)
