"""Checkpoints: a partition's state as records, from which the next learner resumes. They hold only numbers and names.

A checkpoint consists of one *part* per policy (see :mod:`conduit_learner.core.policy_state`), cut into chunks that a
log accepts, and a *root*, which lists the parts with their digests and is written last. Keys alternate, so that writing
never damages the previous checkpoint. The parts of a policy alternate between two slots, and the owners of a partition
between two lanes. An owner that has not noticed yet that it lost the partition therefore does not overwrite its
successor's records. If no event has changed a policy since the last checkpoint, the root refers to the existing part.

For an open decision, a checkpoint holds only the offset and flags. The rest is in the log: :class:`Restoration` reads
it there again, from ``resume_from`` on, and learns nothing twice.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from conduit_learner.core.events import AboutDecision, SelectionEvent, decode_event
from conduit_learner.core.join import EarlyEvent, OpenDecision, OpenDecisions
from conduit_learner.core.partition_learner import PartitionLearner, digest_of
from conduit_learner.core.policy_learner import PolicyLearner
from conduit_learner.core.policy_state import dump_policy, load_policy
from conduit_log import Message, StoredMessage
from conduit_policy import SIGNALS
from conduit_schemas import ConduitError, RecordError

__all__ = ["CheckpointError", "CheckpointWriter", "Restoration", "dump", "restorations", "wants"]

_LOG = logging.getLogger(__name__)
_FORMAT = [3, *SIGNALS]
"""The format, and the signals in a checkpoint. If they differ, the log is learned again from the beginning."""
_CHUNK_BYTES = 900_000
_LANES = 2


class CheckpointError(ConduitError):
    """Raised when a checkpoint is damaged or does not belong to this log."""


class _Part(NamedTuple):
    """The location of a policy's part."""

    lane: int
    slot: int
    chunks: int
    digest: str
    offset: int
    """The policy's own offset. Equal offsets mean equal parts."""


def dump(learner: PartitionLearner) -> dict[str, bytes]:
    """Return a partition's whole state as pieces by name. Equal prefixes of a log give equal bytes."""
    pieces = {name: dump_policy(policy, learner.now_ms) for name, policy in learner.policies.items()}
    return {"": json.dumps(_root(learner)).encode(), **dict(sorted(pieces.items()))}


class CheckpointWriter:
    """Turns successive states of one partition into records.

    Parameters
    ----------
    restoration
        The checkpoint that the partition's learner was restored from, if any.
    """

    def __init__(self, restoration: "Restoration | None" = None) -> None:
        self._lane = 0 if restoration is None else (restoration.lane + 1) % _LANES
        self._parts: dict[str, _Part] = {} if restoration is None else restoration.parts

    def records(self, learner: PartitionLearner) -> Iterator[list[Message]]:
        """Yield batches of records, to be appended in order. The last one makes the checkpoint valid.

        If a batch cannot be appended, stop, and start over the next time.
        """
        parts: dict[str, _Part] = {}
        for name in sorted(learner.policies):
            policy = learner.policies[name]
            part = self._parts.get(name)
            if part is None or part.offset != policy.offset:
                data = zlib.compress(dump_policy(policy, learner.now_ms), level=1)
                slot = 1 - part.slot if part is not None and part.lane == self._lane else 0
                chunks = [data[start : start + _CHUNK_BYTES] for start in range(0, len(data), _CHUNK_BYTES)]
                part = _Part(self._lane, slot, len(chunks), _digest(data), policy.offset)
                yield [
                    Message(_chunk_key(learner.partition, name, part, number), chunk)
                    for number, chunk in enumerate(chunks)
                ]
            parts[name] = part
        root = {**_root(learner), "policies": parts}
        yield [Message(_root_key(learner.partition, self._lane), json.dumps(root).encode())]
        self._parts = parts


def wants(key: bytes, partitions: Collection[int]) -> bool:
    """Return whether a record of the checkpoint topic belongs to one of the partitions."""
    number, _, _ = key.partition(b"/")
    return number.isdigit() and len(number) < 10 and int(number) in partitions


def restorations(partition: int, topic: str, records: Mapping[bytes, bytes]) -> Iterator["Restoration"]:
    """Yield the checkpoints from which a partition's learner can be restored, the newest first, without damaged ones.

    Parameters
    ----------
    partition, topic
        The partition of the event topic.
    records
        The newest record of every key of the checkpoint topic.
    """
    roots = []
    for lane in range(_LANES):
        record = records.get(_root_key(partition, lane))
        if record is not None:
            with suppress(ValueError, KeyError, TypeError):
                root = json.loads(record)
                if root["format"] == _FORMAT:
                    roots.append((int(root["offset"]), lane, root))
    for _, lane, root in sorted(roots, key=lambda found: found[:2], reverse=True):
        try:
            yield Restoration(partition, topic, lane, root, records)
        except CheckpointError as error:
            _LOG.warning("partition %d: %s; trying an older checkpoint", partition, error)


class Restoration:
    """A learner that is being restored: its statistics are loaded, its open decisions must still be read from the log.

    Pass every message from offset ``resume_from`` up to ``learner.offset`` to :meth:`recall`, then call :meth:`finish`.
    The learner then equals, to the bit, the one from which the checkpoint was taken.

    Raises
    ------
    CheckpointError
        When a part is missing or damaged.
    """

    def __init__(
        self, partition: int, topic: str, lane: int, root: Mapping[str, Any], records: Mapping[bytes, bytes]
    ) -> None:
        self.lane = lane
        self.learner = learner = PartitionLearner(partition, topic)
        self._decisions: dict[int, tuple[PolicyLearner, OpenDecision]] = {}
        try:
            learner.offset, learner.now_ms, learner.tail = root["offset"], root["now_ms"], root["tail"]
            self._early = dict(root["early"])
            self.parts = {name: _Part(*part) for name, part in root["policies"].items()}
            for name, part in self.parts.items():
                data = b"".join(records[_chunk_key(partition, name, part, n)] for n in range(part.chunks))
                if _digest(data) != part.digest:
                    raise ValueError(f"the part of policy {name!r} has been overwritten")
                self._add(load_policy(name, zlib.decompress(data)))
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise CheckpointError(f"the checkpoint at offset {root.get('offset')} is damaged: {error!r}") from error
        wanted = [*self._decisions, *self._early]
        if learner.offset:
            wanted.append(learner.offset - 1)  # to check that it is still the same log
        self.resume_from: int = min(wanted, default=learner.offset)

    def recall(self, message: StoredMessage) -> None:
        """Read from a message what the checkpoint does not hold.

        Raises
        ------
        CheckpointError
            When the log is not the one that the checkpoint was made from.
        """
        learner = self.learner
        if message.offset == learner.offset - 1 and digest_of(message) != learner.tail:
            raise CheckpointError(f"offset {message.offset} holds a different message, so this is a different log")
        opened, read_ms = self._decisions.pop(message.offset, None), self._early.pop(message.offset, None)
        if opened is None and read_ms is None:
            return
        try:
            event = decode_event(message.value)
        except RecordError as error:
            raise CheckpointError(f"offset {message.offset}: {error}") from error
        if opened is not None and isinstance(event, SelectionEvent):
            policy, decision = opened
            decision.describe(event)
            policy.open.add(event.decision_id, decision)
        elif read_ms is not None and isinstance(event, AboutDecision):
            learner.early.add(EarlyEvent(message, read_ms, event))
        else:
            raise CheckpointError(
                f"offset {message.offset} holds an unexpected {event.kind}, so this is a different log"
            )

    def finish(self) -> PartitionLearner:
        """Return the learner. Open decisions that the log no longer holds count as closed."""
        for policy, decision in self._decisions.values():
            policy.censored += not decision.has_outcome
        if self._decisions or self._early:
            _LOG.warning(
                "partition %d: %d open decisions are no longer in the log; keep events for longer than the "
                "feedback window",
                self.learner.partition,
                len(self._decisions) + len(self._early),
            )
        return self.learner

    def _add(self, policy: PolicyLearner) -> None:
        # Stream time may have advanced since this policy's part was written.
        policy.close(self.learner.now_ms)
        self._decisions.update({decision.offset: (policy, decision) for decision in policy.open})
        closed, policy.open = policy.open.closed, OpenDecisions()
        policy.open.closed = closed
        self.learner.policies[policy.name] = policy


def _root(learner: PartitionLearner) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "partition": learner.partition,
        "offset": learner.offset,
        "now_ms": learner.now_ms,
        "tail": learner.tail,
        "early": [[early.message.offset, early.read_ms] for early in learner.early],
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _root_key(partition: int, lane: int) -> bytes:
    return f"{partition}/{lane}".encode()


def _chunk_key(partition: int, policy: str, part: _Part, number: int) -> bytes:
    return f"{partition}/{part.lane}/{part.slot}/{number}/{policy}".encode()
