"""Events on their way to the log: a queue the request path appends to, and the task that empties it."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conduit_litellm.counters import Counters
from conduit_litellm.ledger import Decision, Ledger
from conduit_litellm.litellm_calls import Facts
from conduit_litellm.log_state import LogState
from conduit_log import EventLog, Message
from conduit_policy import SIGNALS, Beliefs, Choice, predictions
from conduit_schemas import ConduitError, Event, Feedback, Outcome, PolicySettings, RecordError, Selection, encode

__all__ = ["Emitter", "PendingFeedback", "PendingOutcome", "PendingSelection"]

_logger = logging.getLogger("conduit")

_BATCH = 500
_IDLE_S = 0.05
_YIELD_S = 2e-5
_LONGEST_PAUSE_S = 5.0
APP_OUTCOME_DELAY_S = 2.0
"""How long an outcome the application reports waits for LiteLLM's own, which knows more."""


class PendingSelection(NamedTuple):
    """What the request path notes of a selection; the event is built later, elsewhere."""

    time: float
    policy: str
    decision_id: str
    request_id: object
    arms: tuple[str, ...]
    models: tuple[str, ...]
    chosen: int
    context: NDArray[np.int16]
    featurizer: str
    objective: dict[str, float]
    choice: Choice | None
    beliefs: Beliefs | None
    fallback: str | None

    def event(self) -> Event:
        """Build the event."""
        choice, beliefs = self.choice, self.beliefs
        return Selection(
            policy=self.policy,
            time=self.time,
            decision_id=self.decision_id,
            request_id=_valid_id(self.request_id),
            arms=self.arms,
            models=self.models,
            chosen=self.chosen,
            probabilities=self._probabilities(),
            fallback=self.fallback,
            snapshot_version=None if beliefs is None else beliefs.snapshot.offset,
            snapshot_hash=None if beliefs is None else beliefs.snapshot.hash,
            featurizer=self.featurizer,
            context=self.context.astype("<i2").tobytes(),
            predictions={} if beliefs is None else self._predictions(beliefs),
            objective=self.objective,
            flags=() if choice is None else choice.flags,
        )

    def _probabilities(self) -> tuple[float, ...] | None:
        if self.choice is not None:
            return tuple(self.choice.probabilities.tolist())
        return (1.0,) if len(self.arms) == 1 else None

    def _predictions(self, beliefs: Beliefs) -> dict[str, tuple[float, ...]]:
        rows = predictions(beliefs, self.context, self.arms).tolist()
        return {signal: tuple(row) for signal, row in zip(SIGNALS, rows, strict=True)}


class PendingOutcome(NamedTuple):
    """What a callback, or the application, told of a decision."""

    time: float
    decision: Decision
    facts: Facts
    source: str

    def event(self) -> Event:
        """Build the event."""
        return Outcome(
            policy=self.decision.policy,
            time=self.time,
            decision_id=self.decision.id,
            source=self.source,
            **self.facts._asdict(),
        )


class PendingFeedback(NamedTuple):
    """What somebody thought of the answer."""

    time: float
    policy: str
    decision_id: str
    quality: float

    def event(self) -> Event:
        """Build the event."""
        return Feedback(policy=self.policy, time=self.time, decision_id=self.decision_id, quality=self.quality)


_Pending = PendingSelection | PendingOutcome | PendingFeedback | PolicySettings


class Emitter:
    """A bounded queue of events, and their delivery.

    The request path calls :meth:`put`, which appends to a deque and returns. :meth:`run`, in the background,
    builds, encodes and appends the events in order, and repeats what the log did not confirm until it does.

    Parameters
    ----------
    limit
        Events that may wait. Beyond it new ones are dropped and counted as ``events_dropped``.
    delivered
        Called with the policies of every delivered batch.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        counters: Counters,
        state: LogState,
        limit: int,
        delivered: Callable[[Iterable[str]], None],
    ) -> None:
        self._ledger = ledger
        self._counters = counters
        self._state = state
        self._limit = limit
        self._delivered = delivered
        self.reset()

    def reset(self) -> None:
        """Forget everything that waits: after a fork it is the parent's to deliver."""
        self._queue: deque[_Pending] = deque()
        self._held: deque[PendingOutcome] = deque()
        self._batch: list[Message] = []
        self._closed = False

    def put(self, pending: _Pending) -> None:
        """Queue an event; never waits, never raises. After :meth:`close` nothing is taken any more."""
        if self._closed or len(self._queue) >= self._limit:
            self._counters.add("events_dropped")
        else:
            self._queue.append(pending)

    def put_app_outcome(self, pending: PendingOutcome) -> None:
        """Queue an outcome that counts only if LiteLLM reports none in the next moments."""
        if self._closed or len(self._held) >= self._limit:
            self._counters.add("events_dropped")
        else:
            self._held.append(pending)

    @property
    def waiting(self) -> int:
        """Events not yet confirmed by the log."""
        return len(self._queue) + len(self._held) + len(self._batch)

    def close(self) -> None:
        """Take no more events."""
        self._closed = True

    async def run(self, log: EventLog, topic: str, stop: asyncio.Event) -> None:
        """Deliver until told to stop and nothing waits; a cancelled run can be started again and loses nothing."""
        pause, most = _IDLE_S, _BATCH
        while True:
            closing = stop.is_set()
            self._release_held(everything=closing)
            if not self._batch:
                self._fill_batch(gently=not closing)
            if not self._batch:
                if closing:
                    return
                await asyncio.sleep(_IDLE_S)
                continue
            part = self._batch[:most]
            try:
                await log.append(topic, part)
            except RecordError as error:
                # One of them is refused for good: halve the batch until it stands alone, and leave it out.
                if len(part) == 1:
                    self._refuse(error)
                    del self._batch[:1]
                most = max(1, len(part) // 2)
                continue
            except ConduitError as error:
                self._state.lost("delivery", error)
                await asyncio.sleep(pause)
                pause = min(2.0 * pause, _LONGEST_PAUSE_S)
                continue
            self._state.back("delivery")
            pause, most = _IDLE_S, _BATCH
            del self._batch[: len(part)]
            self._counters.add("events_delivered", len(part))
            self._delivered({message.key.decode() for message in part})

    def _release_held(self, *, everything: bool) -> None:
        due = time.time() - APP_OUTCOME_DELAY_S
        while self._held and (everything or self._held[0].time <= due):
            pending = self._held.popleft()
            if self._ledger.claim_outcome(pending.decision):
                self._queue.append(pending)

    def _fill_batch(self, *, gently: bool) -> None:
        while self._queue and len(self._batch) < _BATCH:
            if gently:
                # A thread that serves a request gets the interpreter at once, not after 5 ms (the switch interval).
                time.sleep(_YIELD_S)
            pending = self._queue.popleft()
            try:
                event = pending if isinstance(pending, PolicySettings) else pending.event()
                self._batch.append(Message(event.policy.encode(), encode(event)))
            except Exception as error:  # one bad event must not keep the others from the log
                self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self._counters.add("events_refused")
        if self._counters["events_refused"] == 1:
            _logger.warning("an event cannot be logged and is left out: %s", error)


def _valid_id(value: object) -> str | None:
    """Return a caller's id where the contract allows it."""
    return value if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable() else None
