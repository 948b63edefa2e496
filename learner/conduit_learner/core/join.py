"""Which outcome belongs to which selection: decisions that are open, and events that came too early."""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from msgspec import Struct

from conduit_learner.core.events import AboutDecision, SelectionEvent
from conduit_log import StoredMessage
from conduit_schemas import Fallback

__all__ = [
    "MAX_EARLY",
    "MAX_EARLY_MS",
    "MAX_FEEDBACKS",
    "MAX_SENDERS",
    "ClosedDecisions",
    "EarlyEvents",
    "OpenDecision",
    "OpenDecisions",
    "sender",
]

MAX_FEEDBACKS = 32
"""Feedbacks of different sources and keys that one decision takes."""

MAX_SENDERS = 1_000
"""Senders per policy of whom it is remembered how far their decisions are closed."""

MAX_EARLY = 1_000
"""Events per partition that may wait for their selection."""

MAX_EARLY_MS = 60_000
"""How long they wait, in stream time."""


class OpenDecision(Struct, gc=False):
    """One selection that may still be taught about."""

    offset: int
    opened_ms: int
    """Stream time at which it was read."""
    arm: str = ""
    featurizer: str = ""
    context: bytes = b""
    scope: str = ""
    """The team or key whose own goal was in force; see :class:`conduit_schemas.RoutingSettings`."""
    group: str = ""
    """Its side of a roll-out; ``conduit``, ``control`` or, without one, nothing."""
    has_outcome: bool = False
    is_rated: bool = False
    """Whether somebody judged its quality."""
    feedbacks: tuple[tuple[str, str], ...] = ()
    """Source and key of every feedback that counted."""

    @classmethod
    def of(cls, selection: SelectionEvent, offset: int, now_ms: int) -> Self:
        """Return the decision that a selection at an offset opens."""
        return cls(
            offset,
            now_ms,
            selection.arms[selection.chosen],
            selection.featurizer,
            selection.context,
            selection.scope or "",
            _group(selection) if selection.mode == "canary" else "",
        )

    def describe(self, selection: SelectionEvent) -> None:
        """Fill in what the selection's own record says."""
        told = self.of(selection, self.offset, self.opened_ms)
        self.arm, self.featurizer, self.context = told.arm, told.featurizer, told.context
        self.scope, self.group = told.scope, told.group


def _group(selection: SelectionEvent) -> str:
    if len(selection.arms) < 2:
        return ""
    if selection.fallback == Fallback.CONTROL:
        return "control"
    return "conduit" if selection.fallback is None and selection.probabilities is not None else ""


class ClosedDecisions:
    """How far each sender's decisions are closed: what comes again after that is known, and teaches nothing.

    A sender's ids are its own sixteen hexadecimal digits and a running number in eight, see
    :attr:`conduit_schemas.SelectionEvent.decision_id`, and it sends them nearly in order. So one number per sender
    stands for all that are closed. Ids of another form are not remembered. Of too many senders those whose
    decisions were closed longest ago are forgotten.

    Examples
    --------
    >>> closed = ClosedDecisions()
    >>> closed.add("00112233445566770000000a")
    >>> "00112233445566770000000a" in closed, "00112233445566770000000b" in closed, "my own id" in closed
    (True, False, False)
    """

    def __init__(self, numbers: Iterable[tuple[str, int]] = ()) -> None:
        self.numbers = OrderedDict(numbers)
        """Largest number closed, by sender; in the order of the latest closing."""

    def __contains__(self, decision_id: str) -> bool:
        closed = self.numbers.get(decision_id[:_SENDER_DIGITS])
        if closed is None:
            return False
        known = sender(decision_id)
        return known is not None and known[1] <= closed

    def add(self, decision_id: str) -> None:
        """Remember that a decision is closed, and all that its sender made before."""
        known = sender(decision_id)
        if known is not None:
            name, number = known
            self.numbers[name] = max(number, self.numbers.get(name, 0))
            self.numbers.move_to_end(name)
            if len(self.numbers) > MAX_SENDERS:
                self.numbers.popitem(last=False)


def sender(decision_id: str) -> tuple[str, int] | None:
    """Return who made an id, and its running number; None when it is not of that form."""
    if _SENDERS_ID.match(decision_id) is None:
        return None
    return decision_id[:_SENDER_DIGITS], int(decision_id[_SENDER_DIGITS:], 16)


_SENDER_DIGITS = 16
_SENDERS_ID = re.compile(r"[0-9a-f]{24}\Z")


class OpenDecisions:
    """The open decisions of one policy: always its latest selections, without a gap.

    A decision is closed by time or by number, never by its outcome, because feedback may follow. What is
    open is thus known from offsets and flags alone; the rest of a decision stands in the log.
    """

    def __init__(self) -> None:
        self.awaiting = 0
        """Decisions that have no outcome yet."""
        self.closed = ClosedDecisions()
        self.oldest_ms = 0
        """When the oldest was opened, or before; where none is open it means nothing."""
        self.decisions: OrderedDict[str, OpenDecision] = OrderedDict()
        """By id, in the order of their opening."""

    def __len__(self) -> int:
        return len(self.decisions)

    def __iter__(self) -> Iterator[OpenDecision]:
        return iter(self.decisions.values())

    def add(self, decision_id: str, decision: OpenDecision) -> None:
        """Open a decision, later than all that are open."""
        if not self.decisions:
            self.oldest_ms = decision.opened_ms
        self.decisions[decision_id] = decision
        self.awaiting += not decision.has_outcome

    def settle(self, decision: OpenDecision) -> None:
        """Note that a decision has its outcome."""
        decision.has_outcome = True
        self.awaiting -= 1

    def close(self, *, opened_before_ms: int, keep: int) -> int:
        """Close what is older than a time and, oldest first, what is above a number.

        Returns
        -------
        How many of them never got an outcome.
        """
        censored = 0
        while self.decisions:
            decision_id, oldest = next(iter(self.decisions.items()))
            self.oldest_ms = oldest.opened_ms
            if oldest.opened_ms >= opened_before_ms and len(self.decisions) <= keep:
                break
            self.decisions.popitem(last=False)
            self.closed.add(decision_id)
            censored += not oldest.has_outcome
        self.awaiting -= censored
        return censored


class EarlyEvent(NamedTuple):
    """An event that was read before its selection."""

    message: StoredMessage
    read_ms: int
    """Stream time at which it was read."""
    event: AboutDecision


class EarlyEvents:
    """Events of one partition whose selection has not been read yet: bounded in number and in time.

    A selection and its outcome may be appended by different processes, so their order in the log is only
    nearly that of their making.
    """

    def __init__(self) -> None:
        self.waiting: OrderedDict[int, EarlyEvent] = OrderedDict()
        """By offset, in that order."""
        self._by_decision: dict[tuple[str, str], list[int]] = {}

    def __iter__(self) -> Iterator[EarlyEvent]:
        return iter(self.waiting.values())

    def add(self, early: EarlyEvent) -> None:
        """Let an event wait."""
        offset = early.message.offset
        self.waiting[offset] = early
        self._by_decision.setdefault(_decision(early.event), []).append(offset)

    def take(self, selection: SelectionEvent) -> list[EarlyEvent]:
        """Remove and return what waited for this selection, in the order it came."""
        offsets = self._by_decision.pop((selection.policy, selection.decision_id), ())
        return [self.waiting.pop(offset) for offset in offsets]

    def expire(self, now_ms: int) -> list[EarlyEvent]:
        """Remove and return what has waited too long, or in too long a queue."""
        expired: list[EarlyEvent] = []
        while self.waiting:
            oldest = next(iter(self.waiting.values()))
            if now_ms - oldest.read_ms <= MAX_EARLY_MS and len(self.waiting) <= MAX_EARLY:
                break
            self.waiting.popitem(last=False)
            decision = _decision(oldest.event)
            offsets = self._by_decision[decision]
            offsets.pop(0)
            if not offsets:
                del self._by_decision[decision]
            expired.append(oldest)
        return expired


def _decision(event: AboutDecision) -> tuple[str, str]:
    return event.policy, event.decision_id
