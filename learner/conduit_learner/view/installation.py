"""A whole installation, folded: every policy, the newest snapshots, the dead letters, and how far it was read."""

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
"""Policies that are followed; the events of others are only counted."""

MAX_DEAD_LETTERS = 20_000
"""Dead letters that are counted."""

_LETTERS = 30
_DELAYS = 500


@dataclass(slots=True, eq=False)
class InstallationView:
    """What the log says, in bounded memory: a pure fold, given each message of a partition in offset order.

    Parameters
    ----------
    max_open
        Decisions, over all policies, of which something may still be heard; the oldest are let go first.

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
    """Events of policies beyond the limit."""
    dead_letters: dict[tuple[str, int, int], str] = field(default_factory=dict)
    """The reason of each that has not been tried again, by topic, partition and offset; at most `MAX_DEAD_LETTERS`."""
    letters: deque[DeadLetter] = field(default_factory=lambda: deque(maxlen=_LETTERS))
    delays_s: deque[float] = field(default_factory=lambda: deque(maxlen=_DELAYS))
    """Of the newest events: from the sender's clock to the log's."""
    newest_ms: int = 0
    _open: deque[tuple[PolicyView, ShownDecision]] = field(default_factory=deque)
    """Oldest first."""

    def event(self, message: StoredMessage) -> None:
        """Take in a message of the event topic."""
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
        """Take in a message of the snapshot topic."""
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
        """Take in a message of the dead-letter topic."""
        try:
            letter = DeadLetter.model_validate_json(message.value)
        except ValidationError:
            return  # not ours: anybody may write to a topic
        place = letter.topic, letter.partition, letter.offset
        if letter.replayed_at is not None:
            self.dead_letters.pop(place, None)
            return
        if len(self.dead_letters) < MAX_DEAD_LETTERS:
            self.dead_letters[place] = letter.reason
        self.letters.append(letter)

    def _policy(self, name: str) -> PolicyView | None:
        policy = self.policies.get(name)
        if policy is None and len(self.policies) < MAX_POLICIES_SHOWN:
            policy = self.policies[name] = PolicyView(name)
        return policy
