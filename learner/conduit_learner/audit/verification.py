"""Verification: rebuild every snapshot that decisions name from the events, and recompute every decision."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from conduit_learner.audit.history import TrimmedError
from conduit_learner.audit.recompute import recompute, without_snapshot
from conduit_learner.audit.replay import LATEST, Position, ReplayStep, before, replay_partition
from conduit_learner.core.events import SelectionEvent, decode_event
from conduit_log import StoredMessage
from conduit_policy import Beliefs
from conduit_schemas import RecordError, Snapshot, decode_snapshot
from conduit_schemas.reasons import NotProvable

__all__ = ["Mismatch", "Verification", "verify"]

_MAX_LISTED = 100
"""Mismatches listed with their text; all are counted."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A record that does not agree with the events before it."""

    topic: str
    """``events`` or ``snapshots``."""
    offset: int
    """Offset of the record that disagrees."""
    decision_id: str | None
    what: str


@dataclass
class Verification:
    """Which records agree with the events, and which do not."""

    policy: str
    snapshot: Snapshot | None = None
    """The latest snapshot; None if none could be rebuilt."""
    start_offset: int = 0
    """Records before this offset cannot be verified, because the events they depend on were deleted."""
    snapshots_matched: int = 0
    """Distinct snapshots, named by decisions or published, whose rebuilt hash agrees."""
    published_matched: int = 0
    """Records on the snapshot topic whose rebuilt hash agrees."""
    decisions_matched: int = 0
    """Decisions whose snapshot, probabilities and draw agree."""
    nothing_to_prove: Counter[str] = field(default_factory=Counter)
    """Decisions that were made without a snapshot, by a code of
    :func:`~conduit_learner.audit.recompute.without_snapshot`."""
    not_provable: Counter[NotProvable] = field(default_factory=Counter)
    """Records that could not be checked, by reason."""
    mismatched: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    """The first :data:`_MAX_LISTED` mismatches."""
    largest_difference: float = 0.0
    """Largest difference between a recomputed and a logged probability, over all matching decisions."""

    def add_mismatch(self, mismatch: Mismatch) -> None:
        """Count a mismatch, and list it if there is room."""
        self.mismatched += 1
        if len(self.mismatches) < _MAX_LISTED:
            self.mismatches.append(mismatch)


def verify(
    messages: Iterable[StoredMessage],
    policy: str,
    *,
    until: Position = LATEST,
    published: Sequence[StoredMessage] = (),
    checkpoints: Callable[[], Mapping[bytes, bytes]] | None = None,
) -> Verification:
    """Rebuild every snapshot of a policy that was published or named by a decision, and compare it with the log.

    A decision is proven if three things agree: the hash of the snapshot that it names, the probabilities and
    predictions computed from that snapshot (see :mod:`conduit_learner.audit.recompute` for the tolerances), and the
    arm that the decision's id draws from the logged probabilities.

    Parameters
    ----------
    messages
        The policy's partition, oldest message first. It is read twice, so a plain iterator is copied into memory.
    policy
        Name of the policy.
    until
        Where to stop.
    published
        Records of the snapshot topic, read before the end of ``messages`` was fixed.
    checkpoints
        See :func:`~conduit_learner.audit.replay.replay_partition`.

    Raises
    ------
    CheckpointError
        When the log's oldest events were deleted and its checkpoint belongs to another log.
    """
    if isinstance(messages, Iterator):
        messages = list(messages)
    messages = before(messages, until)
    verifier = _Verifier(policy, messages, published, is_whole=until == LATEST)
    try:
        for step in replay_partition(messages, checkpoints):
            verifier.check(step)
    except TrimmedError:
        verifier.mark_unprovable(NotProvable.NO_CHECKPOINT)
    return verifier.result


class _Verifier:
    """Compares each step of a replay with the log's snapshots and decisions."""

    def __init__(
        self, policy: str, messages: Iterable[StoredMessage], published: Sequence[StoredMessage], *, is_whole: bool
    ) -> None:
        self._is_whole = is_whole
        self.result = Verification(policy)
        self._key = policy.encode()
        self._published: dict[int, list[tuple[int, Snapshot]]] = {}
        self._last_use: dict[int, int] = {}
        self._built: dict[int, tuple[str, Beliefs | None]] = {}
        self._matched: set[int] = set()
        self._unchecked = 0
        for message in published:
            self._add_published(message)
        for message, selection in self._decisions(messages):
            version = selection.snapshot_version
            self._unchecked += version is not None
            if version is not None and version <= message.offset:
                self._last_use[version] = message.offset
        self._pending = sorted(self._last_use.keys() | self._published.keys(), reverse=True)

    def check(self, step: ReplayStep) -> None:
        """Build the snapshots that are due at this step, and check the next message against those already built."""
        self.result.start_offset = step.start_offset
        offset = step.learner.offset if step.message is None else step.message.offset
        while self._pending and self._pending[-1] <= offset:
            self._build_snapshot(self._pending.pop(), step)
        if step.message is None:
            self._finish(step)
            return
        for message, selection in self._decisions([step.message]):
            self._check_decision(message, selection)
        for version in [version for version in self._built if self._last_use[version] <= offset]:
            del self._built[version]

    def mark_unprovable(self, reason: NotProvable) -> None:
        """Record that no snapshot can be rebuilt."""
        published = sum(len(records) for records in self._published.values())
        self.result.not_provable[reason] += published + self._unchecked

    def _add_published(self, message: StoredMessage) -> None:
        try:
            snapshot = decode_snapshot(message.value)
        except RecordError as error:
            self._mismatch("snapshots", message.offset, None, str(error))
            return
        if snapshot.policy.encode() != self._key:
            self._mismatch("snapshots", message.offset, None, f"it belongs to policy {snapshot.policy!r}")
            return
        self._published.setdefault(snapshot.offset, []).append((message.offset, snapshot))

    def _build_snapshot(self, version: int, step: ReplayStep) -> None:
        built: Snapshot | None = None
        if version >= step.start_offset and self.result.policy in step.learner.policies:
            built = step.learner.snapshot(self.result.policy)
        known = "" if built is None else built.hash
        if version in self._last_use:
            self._built[version] = known, None if built is None else Beliefs(built)
        for offset, snapshot in self._published.pop(version, ()):
            if version < step.start_offset:
                self.result.not_provable[NotProvable.EVENTS_DELETED] += 1
            elif snapshot.hash == known:
                self._matched.add(version)
                self.result.published_matched += 1
            else:
                self._mismatch("snapshots", offset, None, _differing_hash(version, snapshot.hash, known))

    def _check_decision(self, message: StoredMessage, selection: SelectionEvent) -> None:
        result, version = self.result, selection.snapshot_version
        if version is None:
            result.nothing_to_prove[without_snapshot(selection)] += 1
            return
        self._unchecked -= 1
        if version > message.offset:
            wrong: Sequence[str] = [f"it names the snapshot at offset {version}, which did not exist yet"]
        elif version < result.start_offset:
            result.not_provable[NotProvable.EVENTS_DELETED] += 1
            return
        else:
            wrong = self._disagreements(selection, version)
        if wrong:
            self._mismatch("events", message.offset, selection.decision_id, "; ".join(wrong))
        else:
            result.decisions_matched += 1

    def _disagreements(self, selection: SelectionEvent, version: int) -> Sequence[str]:
        known, beliefs = self._built[version]
        if beliefs is None or selection.snapshot_hash != known:
            return [_differing_hash(version, selection.snapshot_hash, known)]
        self._matched.add(version)
        again = recompute(selection, beliefs)
        if isinstance(again, str):
            return [again]
        if not again.disagreements:
            self.result.largest_difference = max(self.result.largest_difference, again.largest_difference)
        return again.disagreements

    def _finish(self, step: ReplayStep) -> None:
        self.result.snapshots_matched = len(self._matched)
        if self._unchecked:  # these decisions lie before the checkpoint that the replay started from
            self.result.not_provable[NotProvable.EVENTS_DELETED] += self._unchecked
        for version, records in self._published.items() if self._is_whole else ():
            for offset, _ in records:
                self._mismatch("snapshots", offset, None, f"it claims offset {version}, but the events end before that")
        if self.result.policy in step.learner.policies:
            self.result.snapshot = step.learner.snapshot(self.result.policy)

    def _decisions(self, messages: Iterable[StoredMessage]) -> Iterator[tuple[StoredMessage, SelectionEvent]]:
        for message in messages:
            # Decoding is the slow part. Only a record with JSON escapes can be a selection without saying so literally.
            is_likely = b"selection" in message.value or b"\\" in message.value
            if message.key == self._key and is_likely:
                try:
                    event = decode_event(message.value)
                except RecordError:
                    continue  # the learner did not use it either
                if isinstance(event, SelectionEvent) and event.policy == self.result.policy:
                    yield message, event

    def _mismatch(self, topic: str, offset: int, decision_id: str | None, what: str) -> None:
        self.result.add_mismatch(Mismatch(topic, offset, decision_id, what))


def _differing_hash(version: int, claimed: str | None, known: str) -> str:
    if not known:
        return f"it names the snapshot at offset {version}, before any event of the policy"
    return f"the snapshot at offset {version} has hash {known[:16]}..., not {str(claimed)[:16]}..."
