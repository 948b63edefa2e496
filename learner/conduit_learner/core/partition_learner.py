"""The learner of one partition: from messages to snapshots and dead letters, without I/O, clock or randomness."""

import hashlib
from typing import NamedTuple, assert_never

from conduit_learner.core.events import Event, FeedbackEvent, OutcomeEvent, SelectionEvent, decode_event
from conduit_learner.core.join import EarlyEvent, EarlyEvents, OpenDecision
from conduit_learner.core.policy_learner import PolicyLearner
from conduit_log import StoredMessage
from conduit_policy import check_routing
from conduit_policy.algorithms import algorithm
from conduit_schemas import (
    ConfigurationError,
    DeadLetter,
    DeadLetterReason,
    LearningChange,
    RecordError,
    RoutingChange,
    Snapshot,
)

__all__ = ["MAX_POLICIES", "Applied", "PartitionLearner", "digest_of"]

MAX_POLICIES = 2_000
"""The most policies in one partition, so that events with ever new policies cannot fill the memory."""


class Applied(NamedTuple):
    """The effect of one message."""

    policy: str | None
    """The policy whose state the message changed, if any."""
    dead_letters: tuple[DeadLetter, ...]
    """Records that cannot be used: this one, or earlier ones whose selection did not arrive in time."""


_NOTHING = Applied(None, ())


class PartitionLearner:
    """The state that follows from a prefix of one partition of the event topic.

    Apply every message in offset order. No content of a message makes it raise an error, and a repeated message changes
    nothing. Two learners that have applied the same prefix are equal to the bit, no matter whether snapshots were taken
    or checkpoints were written and restored in between.

    Parameters
    ----------
    partition
        Number of the partition.
    topic
        The event topic's name, for dead letters.

    Examples
    --------
    >>> from conduit_schemas import Outcome, Selection, encode
    >>> selection = Selection(policy="default/chat", time=0.0, decision_id="d1", arms=("a", "b"), chosen=0,
    ...                       featurizer="text64-v2", context=bytes(128))
    >>> outcome = Outcome(policy="default/chat", time=1.0, decision_id="d1", status="success", cost_usd=0.01)
    >>> learner = PartitionLearner(0)
    >>> for offset, event in enumerate([selection, outcome]):
    ...     _ = learner.apply(StoredMessage(0, offset, 1000 + offset, b"default/chat", encode(event)))
    >>> snapshot = learner.snapshot("default/chat")
    >>> snapshot.offset, snapshot.outcomes, snapshot.arms["a"].signals["success"].average
    (2, 1, 1.0)
    """

    def __init__(self, partition: int, topic: str = "conduit.events") -> None:
        self.partition = partition
        self.topic = topic
        self.offset = 0
        """The next offset to apply."""
        self.now_ms = 0
        """Stream time: the latest append time so far, milliseconds since 1970."""
        self._last: StoredMessage | None = None
        self._tail = ""
        self._applied = _NOTHING
        self.policies: dict[str, PolicyLearner] = {}
        self.early = EarlyEvents()

    def apply(self, message: StoredMessage) -> Applied:
        """Apply the next message.

        Outcomes and feedback that precede their selection wait for it; see
        :class:`~conduit_learner.core.join.EarlyEvents`. If it does not arrive in time, they are refused as ``orphan``.
        """
        _, offset, time_ms, key, value = message
        if offset < self.offset:
            return _NOTHING
        self.offset = offset + 1
        self._last = message
        self.now_ms = max(self.now_ms, time_ms)
        dead_letters = self._orphans() if self.early.waiting else []
        policy = None
        try:
            event = decode_event(value)
            policy = self.policies.get(event.policy)
            if key != (event.policy.encode() if policy is None else policy.key):
                raise _WrongPartitionError(
                    f"the key must be the policy {event.policy!r}, or the order of its events is not guaranteed"
                )
            policy = self._apply(event, policy, message)
        except RecordError as error:
            policy = None
            dead_letters.append(self._dead_letter(message, error.reason, str(error)))
        except ConfigurationError as error:
            policy = None
            dead_letters.append(self._dead_letter(message, DeadLetterReason.INVALID, str(error)))
        if self.early.waiting:
            dead_letters += self._orphans()
        name = None if policy is None else policy.name
        if dead_letters:
            return Applied(name, tuple(dead_letters))
        if self._applied.policy != name:
            self._applied = Applied(name, ())
        return self._applied

    def snapshot(self, policy: str) -> Snapshot:
        """Return a policy's snapshot after everything applied so far, with its hash.

        Raises
        ------
        KeyError
            When the partition has no event of this policy.
        """
        return self.policies[policy].snapshot(partition=self.partition, offset=self.offset, now_ms=self.now_ms)

    @property
    def tail(self) -> str:
        """Digest of the latest message applied. It distinguishes this log from another one with the same name."""
        if self._last is not None:
            self._tail, self._last = digest_of(self._last), None
        return self._tail

    @tail.setter
    def tail(self, digest: str) -> None:
        self._tail = digest

    def _apply(self, event: Event, policy: PolicyLearner | None, message: StoredMessage) -> PolicyLearner | None:
        """Return the policy whose state has changed, if any."""
        now_ms = self.now_ms
        match event:  # the frequent kinds first, because this runs for every event
            case SelectionEvent():
                policy = policy or self._add_policy(event.policy)
                policy.close(now_ms)
                decision = OpenDecision.of(event, message.offset, now_ms)
                if policy.select(event, decision) and self.early.waiting:
                    for early in self.early.take(event):
                        policy.resolve(early.event, decision, now_ms)
            case OutcomeEvent() | FeedbackEvent():
                if policy is not None:
                    policy.close(now_ms)
                known = None if policy is None else policy.open.decisions.get(event.decision_id)
                if policy is None or known is None:
                    self.early.add(EarlyEvent(message, now_ms, event))
                    return None
                policy.resolve(event, known, now_ms)
            case LearningChange():
                algorithm(event.settings)  # raises before anything is changed
                policy = policy or self._add_policy(event.policy)
                policy.close(now_ms)
                policy.change(event.settings)
            case RoutingChange():
                if event.routing is not None:
                    check_routing(event.routing)
                policy = policy or self._add_policy(event.policy)
                policy.close(now_ms)
                policy.routing.change(event)
            case _:
                assert_never(event)
        policy.offset = self.offset
        return policy

    def _add_policy(self, name: str) -> PolicyLearner:
        if len(self.policies) >= MAX_POLICIES:
            raise _TooManyError(f"the partition already holds {MAX_POLICIES} policies; use fewer policies")
        policy = self.policies[name] = PolicyLearner(name)
        return policy

    def _orphans(self) -> list[DeadLetter]:
        return [self._orphan(early) for early in self.early.expire(self.now_ms)]

    def _orphan(self, early: EarlyEvent) -> DeadLetter:
        return self._dead_letter(
            early.message,
            DeadLetterReason.ORPHAN,
            f"{early.event.kind} of decision {early.event.decision_id!r} of policy {early.event.policy!r}: no such "
            "decision is open; its selection never arrived, or its feedback window is over",
        )

    def _dead_letter(self, message: StoredMessage, reason: DeadLetterReason, text: str) -> DeadLetter:
        return DeadLetter(
            topic=self.topic,
            partition=self.partition,
            offset=message.offset,
            time_ms=max(0, message.time_ms),
            reason=reason,
            message=text[:1000],
            record_key=message.key[:1024],
            record=message.value[:32_768],
            record_bytes=len(message.value),
        )


class _WrongPartitionError(RecordError):
    """Raised when a record's key does not name its policy."""

    reason = DeadLetterReason.WRONG_PARTITION


class _TooManyError(RecordError):
    """Raised when a record would add more policies than a partition may hold."""

    reason = DeadLetterReason.TOO_MANY


def digest_of(message: StoredMessage) -> str:
    """Return a digest of a message, its offset and its append time."""
    content = b"%d/%d/%d/%b%b" % (message.offset, message.time_ms, len(message.key), message.key, message.value)
    return hashlib.sha256(content).hexdigest()[:32]
