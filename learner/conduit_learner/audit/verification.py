"""Proof: every snapshot that decisions name, built again from the events, and every decision taken again."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from conduit_learner.audit.history import TrimmedError
from conduit_learner.audit.recompute import recompute
from conduit_learner.audit.replay import LATEST, Position, Relived, before, relive
from conduit_learner.core.events import SelectionEvent, decode_event
from conduit_log import StoredMessage
from conduit_policy import Beliefs
from conduit_schemas import RecordError, Snapshot, decode_snapshot

__all__ = ["Mismatch", "Verification", "verify"]

_TOO_OLD = "they are of a time whose first events are gone"
_KEPT = 100
"""Mismatches kept in words; all are counted."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Something that does not follow from the events."""

    topic: str
    """``events`` or ``snapshots``."""
    offset: int
    """Of the record that says otherwise."""
    decision_id: str | None
    what: str


@dataclass
class Verification:
    """What follows from the events, and what does not."""

    policy: str
    snapshot: Snapshot | None = None
    """The latest; None where nothing could be built."""
    since: int = 0
    """What lies before this offset cannot be proven, because the events it followed from are gone."""
    snapshots_matched: int = 0
    """Different snapshots, named by decisions or published, whose hash came out the same."""
    published_matched: int = 0
    """Records on the snapshot topic whose hash came out the same."""
    decisions_matched: int = 0
    """Decisions whose snapshot, probabilities and draw came out the same."""
    nothing_to_prove: Counter[str] = field(default_factory=Counter)
    """Decisions that no snapshot had a part in, by reason."""
    not_provable: Counter[str] = field(default_factory=Counter)
    """What could not be checked, by reason."""
    mismatched: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    """The first :data:`_KEPT`."""
    largest_difference: float = 0.0
    """Between a recomputed and a logged probability, over all matching decisions."""

    def add_mismatch(self, mismatch: Mismatch) -> None:
        """Count a mismatch."""
        self.mismatched += 1
        if len(self.mismatches) < _KEPT:
            self.mismatches.append(mismatch)


def verify(
    messages: Iterable[StoredMessage],
    policy: str,
    *,
    until: Position = LATEST,
    published: Sequence[StoredMessage] = (),
    checkpoints: Callable[[], Mapping[bytes, bytes]] | None = None,
) -> Verification:
    """Build every snapshot of a policy again that a decision names or that was published, and compare.

    A decision is proven when the snapshot it names has the hash it names, when that snapshot gives the logged
    probabilities and predictions (see :mod:`conduit_learner.audit.recompute` for the tolerances), and when its id
    draws the logged arm from them.

    Parameters
    ----------
    messages
        The policy's partition, oldest message first. It is read twice; a plain iterator is kept in memory for that.
    policy
        Name of the policy.
    until
        Where to end.
    published
        Records of the snapshot topic, read before the messages' end was fixed.
    checkpoints
        See :func:`~conduit_learner.audit.replay.relive`.

    Raises
    ------
    CheckpointError
        When the log was cut and its checkpoint belongs to another log.
    """
    if isinstance(messages, Iterator):
        messages = list(messages)
    messages = before(messages, until)
    audit = _Audit(policy, messages, published, is_whole=until == LATEST)
    try:
        for step in relive(messages, checkpoints):
            audit.check(step)
    except TrimmedError as error:
        audit.give_up(str(error))
    return audit.result


class _Audit:
    """Looks on while the learner lives through the events again."""

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
        self._wanted = sorted(self._last_use.keys() | self._published.keys(), reverse=True)

    def check(self, step: Relived) -> None:
        """Take the snapshots that are wanted here, and check the next message against those taken before."""
        self.result.since = step.since
        offset = step.learner.offset if step.message is None else step.message.offset
        while self._wanted and self._wanted[-1] <= offset:
            self._build(self._wanted.pop(), step)
        if step.message is None:
            self._finish(step)
            return
        for message, selection in self._decisions([step.message]):
            self._check(message, selection)
        for version in [version for version in self._built if self._last_use[version] <= offset]:
            del self._built[version]

    def give_up(self, reason: str) -> None:
        """Note that nothing can be built."""
        published = sum(len(records) for records in self._published.values())
        self.result.not_provable[reason] += published + self._unchecked

    def _add_published(self, message: StoredMessage) -> None:
        try:
            snapshot = decode_snapshot(message.value)
        except RecordError as error:
            self._mismatch("snapshots", message.offset, None, str(error))
            return
        if snapshot.policy.encode() != self._key:
            self._mismatch("snapshots", message.offset, None, f"it is of policy {snapshot.policy!r}")
            return
        self._published.setdefault(snapshot.offset, []).append((message.offset, snapshot))

    def _build(self, version: int, step: Relived) -> None:
        built: Snapshot | None = None
        if version >= step.since and self.result.policy in step.learner.policies:
            built = step.learner.snapshot(self.result.policy)
        known = "" if built is None else built.hash
        if version in self._last_use:
            self._built[version] = known, None if built is None else Beliefs(built)
        for offset, snapshot in self._published.pop(version, ()):
            if version < step.since:
                self.result.not_provable[_TOO_OLD] += 1
            elif snapshot.hash == known:
                self._matched.add(version)
                self.result.published_matched += 1
            else:
                self._mismatch("snapshots", offset, None, _other(version, snapshot.hash, known))

    def _check(self, message: StoredMessage, selection: SelectionEvent) -> None:
        result, version = self.result, selection.snapshot_version
        if version is None:
            result.nothing_to_prove[_without_snapshot(selection)] += 1
            return
        self._unchecked -= 1
        if version > message.offset:
            wrong: Sequence[str] = [f"it names the snapshot at offset {version}, which did not exist yet"]
        elif version < result.since:
            result.not_provable[_TOO_OLD] += 1
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
            return [_other(version, selection.snapshot_hash, known)]
        self._matched.add(version)
        again = recompute(selection, beliefs)
        if isinstance(again, str):
            return [again]
        if not again.disagreements:
            self.result.largest_difference = max(self.result.largest_difference, again.largest_difference)
        return again.disagreements

    def _finish(self, step: Relived) -> None:
        self.result.snapshots_matched = len(self._matched)
        if self._unchecked:  # they stand before the checkpoint that the learner started from
            self.result.not_provable[_TOO_OLD] += self._unchecked
        for version, records in self._published.items() if self._is_whole else ():
            for offset, _ in records:
                self._mismatch("snapshots", offset, None, f"it claims offset {version}, the events end before it")
        if self.result.policy in step.learner.policies:
            self.result.snapshot = step.learner.snapshot(self.result.policy)

    def _decisions(self, messages: Iterable[StoredMessage]) -> Iterator[tuple[StoredMessage, SelectionEvent]]:
        for message in messages:
            # Decoding is the slow part; a kind that is not spelled out can only stand in a record with escapes.
            is_likely = b"selection" in message.value or b"\\" in message.value
            if message.key == self._key and is_likely:
                try:
                    event = decode_event(message.value)
                except RecordError:
                    continue  # nobody learned from it
                if isinstance(event, SelectionEvent) and event.policy == self.result.policy:
                    yield message, event

    def _mismatch(self, topic: str, offset: int, decision_id: str | None, what: str) -> None:
        self.result.add_mismatch(Mismatch(topic, offset, decision_id, what))


def _without_snapshot(selection: SelectionEvent) -> str:
    if selection.fallback is not None:
        return f"LiteLLM chose: {selection.fallback}"
    return "there was one candidate only" if len(selection.arms) == 1 else "no snapshot is named"


def _other(version: int, claimed: str | None, known: str) -> str:
    if not known:
        return f"it names the snapshot at offset {version}, before any event of the policy"
    return f"the snapshot at offset {version} has hash {known[:16]}..., not {str(claimed)[:16]}..."
