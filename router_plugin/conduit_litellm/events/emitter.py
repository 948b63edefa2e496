"""Events on their way to the log: a queue the request path appends to, and the task that empties it."""

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
_PATIENCE_S = 1.0
_ADOPTION_S = 10.0
_SPOOL_RETRY_S = 5.0
_SET_ASIDE = "%s; the file is set aside, with .damaged after its name"
APP_OUTCOME_DELAY_S = 2.0
"""How long an outcome the application reports waits for LiteLLM's own, which knows more."""


class Emitter:
    """A bounded queue of events, and their delivery.

    The request path calls :meth:`put`, which appends to a deque and returns. :meth:`run`, in the background,
    builds, encodes and appends the events in order, and repeats what the log did not confirm until it does.

    As soon as the log fails, or takes longer than a second, everything that waits moves on into the spool and
    outlives this process there. What the spool holds is delivered before anything newer. It may be delivered twice:
    when a confirmation got lost, or when the process died between confirmation and removal. Only where the spool,
    too, takes no more do events wait in memory, and only when that is full as well are new ones dropped: the newest,
    because what an outcome is worth depends on the selection before it.

    Parameters
    ----------
    limit
        Events that may wait in memory. Beyond it new ones are dropped and counted as ``events_dropped``.
    delivered
        Called with the policies of every delivered batch.
    spool
        Where events wait while the log is away; None for memory alone.
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
        """Forget everything that waits: after a fork it is the parent's to deliver."""
        self._queue: deque[Draft] = deque()
        self._held: deque[OutcomeDraft] = deque()
        # In the order of their making: what is being appended, what is encoded, what is queued.
        self._batch: list[Message] = []
        self._encoded: list[Message] = []
        self._origin: SpoolFile | None = None  # the file that the batch heads, if it is on the disk
        self._closed = False
        self._away = False
        self._next_adoption = 0.0
        self._next_spooling = 0.0
        self._spool_failed = False
        if self._spool is not None:
            self._spool.leave_to_parent()

    def put(self, pending: Draft, *, even_if_full: bool = False) -> None:
        """Queue an event; never waits, never raises. After :meth:`close` nothing is taken any more.

        Parameters
        ----------
        even_if_full
            Take it beyond the limit, too: for the few without which the others would be misunderstood.
        """
        if self._closed or (len(self._queue) >= self._limit and not even_if_full):
            self._count(EventFate.DROPPED)
        else:
            self._queue.append(pending)

    def put_app_outcome(self, pending: OutcomeDraft) -> None:
        """Queue an outcome that counts only if LiteLLM reports none in the next moments."""
        if self._closed or len(self._held) >= self._limit:
            self._count(EventFate.DROPPED)
        else:
            self._held.append(pending)

    @property
    def waiting(self) -> int:
        """Events not yet confirmed by the log, in memory and in this process's part of the spool."""
        in_memory = len(self._queue) + len(self._held) + len(self._encoded)
        if self._origin is None:
            in_memory += len(self._batch)
        return in_memory + self.spooled

    @property
    def spooled(self) -> int:
        """How many of them are in the spool."""
        return 0 if self._spool is None else self._spool.events

    def close(self) -> None:
        """Take no more events."""
        self._closed = True

    async def run(self, log: EventLog, topic: str, stop: asyncio.Event) -> None:
        """Deliver until told to stop and nothing waits; a cancelled run can be started again and loses nothing."""
        try:
            await self._run(log, topic, stop)
        finally:
            self.spill()

    def spill(self) -> None:
        """Move everything that waits in memory into the spool, if there is one and it takes it."""
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
                    "%s; events wait in memory meanwhile, at most %d of them: make room, or choose another folder "
                    "with spool_path",
                    error,
                    self._limit,
                )

    def hand_over(self) -> None:
        """Move what waits into the spool, and leave the spool to whichever process comes next."""
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
            _logger.warning("%d events could be neither delivered nor kept and are lost", lost)

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
                self._next_batch(gently=not closing)
            if not self._batch:
                if closing:
                    return
                await asyncio.sleep(_IDLE_S)
                continue
            part = self._batch[:most]
            try:
                await self._spilling_meanwhile(log.append(topic, part), stop)
            except RecordError as error:
                # One of them is refused for good: halve the batch until it stands alone, and leave it out.
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
        """Do something that may take long; once it does, bring what waits to safety meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                hurry = self._away or stop.is_set()
                await asyncio.wait({task}, timeout=_IDLE_S if hurry else _PATIENCE_S)
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
            pending = self._held.popleft()
            if self._ledger.claim_outcome(pending.decision):
                self._queue.append(pending)

    def _next_batch(self, *, gently: bool) -> None:
        """Take the oldest events there are: of dead processes, of the spool, of the memory."""
        if self._spool is not None:
            self._adopt(self._spool)
            while not self._batch and (file := self._spool.oldest()) is not None:
                try:
                    self._batch, self._origin = file.peek(_BATCH), file
                except SpoolError as error:
                    self._set_aside(file, error)
            if len(self._batch) == _BATCH:
                self.spill()  # more follow: what is newer waits there rather than here
        if not self._batch:
            self._origin = None
            self._batch, self._encoded = self._encode(gently=gently), []

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
                _logger.info("%d events that ended processes left in %s are delivered now", adopted, spool.folder)

    def _forget(self, count: int) -> None:
        """Forget the first events of the batch: they are delivered, or never will be."""
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
            self._spool.let_go(file, damaged=True)

    def _encode(self, *, gently: bool = True) -> list[Message]:
        """Fill up the list of encoded events from the queue, and return it."""
        while self._queue and len(self._encoded) < _BATCH:
            if gently:
                # A thread that serves a request gets the interpreter at once, not after 5 ms (the switch interval).
                time.sleep(_YIELD_S)
            pending = self._queue.popleft()
            try:
                event = pending.event()
                self._encoded.append(Message(event.policy.encode(), encode(event)))
            except Exception as error:  # one bad event must not keep the others from the log
                self._refuse(error)
        return self._encoded

    def _refuse(self, error: Exception) -> None:
        self._count(EventFate.REFUSED)
        if self._counters[f"events_{EventFate.REFUSED}"] == 1:
            _logger.warning("an event cannot be logged and is left out: %s", error)

    def _count(self, fate: EventFate, number: int = 1) -> None:
        self._counters.add(f"events_{fate}", number)
