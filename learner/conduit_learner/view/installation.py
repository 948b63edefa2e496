"""The view of a whole installation: its policies, newest snapshots and dead letters."""

from collections import deque
from dataclasses import dataclass, field

from pydantic import ValidationError

from conduit_learner.core.events import decode_event
from conduit_learner.view.decision import ShownDecision
from conduit_learner.view.policy import PolicyView, Published
from conduit_log import StoredMessage
from conduit_policy import Beliefs
from conduit_schemas import DeadLetter, RecordError, decode_snapshot

__all__ = ["MAX_DEAD_LETTERS", "MAX_POLICIES_SHOWN", "InstallationView"]

MAX_POLICIES_SHOWN = 40
"""Maximum number of policies that are tracked; the events of others are only counted."""

MAX_DEAD_LETTERS = 20_000
"""Maximum number of dead letters that are counted."""

_LETTERS = 30
_DELAYS = 500


@dataclass(slots=True, eq=False)
class InstallationView:
    """A pure fold of the log in bounded memory. It takes each partition's messages in offset order.

    Parameters
    ----------
    max_open
        Maximum number of decisions, over all policies, that still accept outcomes and ratings; the oldest are dropped
        first.

    Examples
    --------
    >>> from conduit_schemas import Feedback, encode
    >>> view = InstallationView()
    >>> feedback = Feedback(policy="default/chat", time=0.0, decision_id="d1", quality=0.9)
    >>> view.event(StoredMessage(0, 0, 0, b"default/chat", encode(feedback)))
    >>> view.policies["default/chat"].unmatched
    1
    """

    max_open: int = 60_000
    policies: dict[str, PolicyView] = field(default_factory=dict)
    events: int = 0
    undecodable: int = 0
    events_not_shown: int = 0
    """Number of events of policies beyond the limit."""
    dead_letters: dict[str, str] = field(default_factory=dict)
    """Reason of each dead letter that was not retried, by the refused record's place; at most `MAX_DEAD_LETTERS`."""
    letters: deque[DeadLetter] = field(default_factory=lambda: deque(maxlen=_LETTERS))
    delays_s: deque[float] = field(default_factory=lambda: deque(maxlen=_DELAYS))
    """The newest events' append times minus their senders' times, seconds."""
    newest_ms: int = 0
    _open: deque[tuple[PolicyView, ShownDecision]] = field(default_factory=deque)
    """Open decisions, oldest first."""

    def event(self, message: StoredMessage) -> None:
        """Add a message of the event topic."""
        self.events += 1
        self.newest_ms = max(self.newest_ms, message.time_ms)
        try:
            event = decode_event(message.value)
        except RecordError:
            self.undecodable += 1
            return
        self.delays_s.append(message.time_ms / 1000.0 - event.time)
        policy = self._policy(event.policy)
        if policy is None:
            self.events_not_shown += 1
            return
        policy.partition = message.partition
        opened = policy.apply(event, time_ms=message.time_ms, offset=message.offset)
        if opened is not None:
            self._open.append((policy, opened))
            if len(self._open) > self.max_open:
                oldest, decision = self._open.popleft()
                oldest.forget(decision)

    def snapshot(self, message: StoredMessage) -> None:
        """Add a message of the snapshot topic."""
        try:
            snapshot = decode_snapshot(message.value)
        except RecordError:
            self.undecodable += 1
            return
        policy = self._policy(snapshot.policy)
        if policy is None or (policy.published and policy.published.snapshot.offset > snapshot.offset):
            return
        policy.partition = snapshot.partition
        policy.published = Published(snapshot, Beliefs(snapshot), message.time_ms)

    def dead_letter(self, message: StoredMessage) -> None:
        """Add a message of the dead-letter topic."""
        try:
            letter = DeadLetter.model_validate_json(message.value)
        except ValidationError:
            return  # not a dead letter: anything may write to the topic
        if letter.replayed_at is not None:
            self.dead_letters.pop(letter.place, None)
            return
        if len(self.dead_letters) < MAX_DEAD_LETTERS:
            self.dead_letters[letter.place] = letter.reason
        self.letters.append(letter)

    def _policy(self, name: str) -> PolicyView | None:
        policy = self.policies.get(name)
        if policy is None and len(self.policies) < MAX_POLICIES_SHOWN:
            policy = self.policies[name] = PolicyView(name)
        return policy
