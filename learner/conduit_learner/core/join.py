"""Join outcomes and feedback to their selections: open decisions, closed ones, and events that came too early."""

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
"""The most feedbacks of different sources and keys that one decision accepts."""

MAX_SENDERS = 1_000
"""The most senders per policy whose closed decisions are remembered."""

MAX_EARLY = 1_000
"""The most events per partition that may wait for their selection."""

MAX_EARLY_MS = 60_000
"""The longest time that they wait, in milliseconds of stream time."""


class OpenDecision(Struct, gc=False):
    """A selection for which outcomes and feedback still count."""

    offset: int
    opened_ms: int
    """Stream time at which it was read."""
    arm: str = ""
    featurizer: str = ""
    context: bytes = b""
    scope: str = ""
    """The team or key whose own goal applied; see :class:`conduit_schemas.RoutingSettings`."""
    group: str = ""
    """Its group in a canary: ``conduit`` or ``control``. Empty if it is in none."""
    has_outcome: bool = False
    is_rated: bool = False
    """Whether its quality was rated."""
    feedbacks: tuple[tuple[str, str], ...] = ()
    """Source and key of every feedback that counted."""

    @classmethod
    def of(cls, selection: SelectionEvent, offset: int, now_ms: int) -> Self:
        """Create the decision that a selection at an offset opens."""
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
        """Fill in what only the selection's record holds."""
        described = self.of(selection, self.offset, self.opened_ms)
        self.arm, self.featurizer, self.context = described.arm, described.featurizer, described.context
        self.scope, self.group = described.scope, described.group


def _group(selection: SelectionEvent) -> str:
    if len(selection.arms) < 2:
        return ""
    if selection.fallback == Fallback.CONTROL:
        return "control"
    return "conduit" if selection.fallback is None and selection.probabilities is not None else ""


class ClosedDecisions:
    """Remembers how far each sender's decisions are closed, so that repeated events of closed decisions are recognised.

    A sender's ids are 16 hexadecimal digits of its own and a running number in 8 more; see
    :attr:`conduit_schemas.Selection.decision_id`. It sends them nearly in order, so one number per sender represents
    all closed decisions. Ids of another form are not remembered. If there are too many senders, those whose decisions
    were closed longest ago are forgotten.

    Examples
    --------
    >>> closed = ClosedDecisions()
    >>> closed.add("00112233445566770000000a")
    >>> "00112233445566770000000a" in closed, "00112233445566770000000b" in closed, "my own id" in closed
    (True, False, False)
    """

    def __init__(self, numbers: Iterable[tuple[str, int]] = ()) -> None:
        self.numbers = OrderedDict(numbers)
        """Largest closed number by sender, in order of the latest closing."""

    def __contains__(self, decision_id: str) -> bool:
        closed = self.numbers.get(decision_id[:_SENDER_DIGITS])
        if closed is None:
            return False
        known = sender(decision_id)
        return known is not None and known[1] <= closed

    def add(self, decision_id: str) -> None:
        """Remember that a decision is closed, together with all earlier ones of its sender."""
        known = sender(decision_id)
        if known is not None:
            name, number = known
            self.numbers[name] = max(number, self.numbers.get(name, 0))
            self.numbers.move_to_end(name)
            if len(self.numbers) > MAX_SENDERS:
                self.numbers.popitem(last=False)


def sender(decision_id: str) -> tuple[str, int] | None:
    """Return an id's sender and running number. None if it does not have that form."""
    if _SENDERS_ID.match(decision_id) is None:
        return None
    return decision_id[:_SENDER_DIGITS], int(decision_id[_SENDER_DIGITS:], 16)


_SENDER_DIGITS = 16
_SENDERS_ID = re.compile(r"[0-9a-f]{24}\Z")


class OpenDecisions:
    """The open decisions of one policy: always its latest selections, without gaps.

    A decision is closed because of its age or because too many are open, never because of its outcome, since feedback
    may follow. A checkpoint therefore stores only offsets and flags of open decisions. The rest is in the log.
    """

    def __init__(self) -> None:
        self.awaiting = 0
        """Number of decisions without an outcome."""
        self.closed = ClosedDecisions()
        self.oldest_ms = 0
        """A lower bound for the time at which the oldest was opened. Meaningless if none is open."""
        self.decisions: OrderedDict[str, OpenDecision] = OrderedDict()
        """By id, in order of opening."""

    def __len__(self) -> int:
        return len(self.decisions)

    def __iter__(self) -> Iterator[OpenDecision]:
        return iter(self.decisions.values())

    def add(self, decision_id: str, decision: OpenDecision) -> None:
        """Open a decision, which must be newer than all open ones."""
        if not self.decisions:
            self.oldest_ms = decision.opened_ms
        self.decisions[decision_id] = decision
        self.awaiting += not decision.has_outcome

    def add_outcome(self, decision: OpenDecision) -> None:
        """Record that a decision has its outcome."""
        decision.has_outcome = True
        self.awaiting -= 1

    def close(self, *, opened_before_ms: int, keep: int) -> int:
        """Close decisions opened before a time and, oldest first, those in excess of ``keep``.

        Returns
        -------
        How many of the closed ones never got an outcome.
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
    """Events of one partition whose selection has not been read yet, limited in number and time.

    Different processes may append a selection and its outcome, so their order in the log is only approximately that in
    which they happened.
    """

    def __init__(self) -> None:
        self.waiting: OrderedDict[int, EarlyEvent] = OrderedDict()
        """By offset, in order of offset."""
        self._by_decision: dict[tuple[str, str], list[int]] = {}

    def __iter__(self) -> Iterator[EarlyEvent]:
        return iter(self.waiting.values())

    def add(self, early: EarlyEvent) -> None:
        """Keep an event until its selection arrives."""
        offset = early.message.offset
        self.waiting[offset] = early
        self._by_decision.setdefault(_decision(early.event), []).append(offset)

    def take(self, selection: SelectionEvent) -> list[EarlyEvent]:
        """Remove and return the events of this selection, in the order in which they came."""
        offsets = self._by_decision.pop((selection.policy, selection.decision_id), ())
        return [self.waiting.pop(offset) for offset in offsets]

    def expire(self, now_ms: int) -> list[EarlyEvent]:
        """Remove and return the events that have waited too long, and the oldest if too many wait."""
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
