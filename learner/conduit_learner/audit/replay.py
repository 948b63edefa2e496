"""Replay: rebuild a policy's snapshots from its events."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, takewhile
from typing import NamedTuple, Self

from conduit_learner.audit.history import TrimmedError
from conduit_learner.core.checkpoint import restorations
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import StoredMessage
from conduit_schemas import ConfigurationError, Snapshot

__all__ = ["LATEST", "Position", "ReplayStep", "before", "rebuild", "replay_partition", "snapshots_at"]


@dataclass(frozen=True, slots=True)
class Position:
    """A point in a partition's history: just before an offset, just before a time, or the end."""

    offset: int | None = None
    time_ms: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the position for ``latest``, an offset or an ISO 8601 time; a time without a zone is UTC.

        Raises
        ------
        ConfigurationError
            When the text is none of these.

        Examples
        --------
        >>> Position.parse("1200"), Position.parse("1970-01-01T00:00:01Z").time_ms
        (Position(offset=1200, time_ms=None), 1000)
        """
        if text == "latest":
            return cls()
        if text.isascii() and text.isdigit():
            return cls(offset=int(text))
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise ConfigurationError(
                f"{text!r} is not a position: give an offset (1200), a time (2026-03-01T12:00:00Z) or 'latest'"
            ) from error
        return cls(time_ms=round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))

    def is_before(self, message: StoredMessage) -> bool:
        """Return whether this position lies before a message."""
        if self.offset is not None:
            return message.offset >= self.offset
        return self.time_ms is not None and message.time_ms >= self.time_ms

    def __str__(self) -> str:
        if self.offset is not None:
            return f"offset {self.offset}"
        if self.time_ms is not None:
            return datetime.fromtimestamp(self.time_ms / 1000, UTC).isoformat()
        return "the end"


LATEST = Position()


def before(messages: Iterable[StoredMessage], position: Position) -> Iterable[StoredMessage]:
    """Return the messages before a position; the result can be iterated as often as ``messages``."""
    return messages if position == LATEST else _Before(messages, position)


class _Before(Iterable[StoredMessage]):
    def __init__(self, messages: Iterable[StoredMessage], position: Position) -> None:
        self._messages = messages
        self._position = position

    def __iter__(self) -> Iterator[StoredMessage]:
        return takewhile(lambda message: not self._position.is_before(message), self._messages)


class ReplayStep(NamedTuple):
    """A learner and the message that it will apply next."""

    learner: PartitionLearner
    message: StoredMessage | None
    """The next message; None at the end."""
    start_offset: int
    """Offset at which the replay started: 0, or that of a checkpoint. States before it cannot be rebuilt."""


def replay_partition(
    messages: Iterable[StoredMessage],
    checkpoints: Callable[[], Mapping[bytes, bytes]] | None = None,
    *,
    until_end: bool = False,
) -> Iterator[ReplayStep]:
    """Learn a partition again, message by message. The caller may take snapshots at every step.

    Parameters
    ----------
    messages
        A partition from its oldest message on, with all its policies, because they share a clock.
    checkpoints
        Returns the checkpoint records to start from when the oldest messages were deleted; see
        :mod:`conduit_learner.core.checkpoint`.
    until_end
        Whether to yield only one step, at the end, which is faster.

    Raises
    ------
    TrimmedError
        When the oldest messages were deleted and no checkpoint covers them.
    CheckpointError
        When the checkpoint belongs to another log.

    Examples
    --------
    >>> [(step.learner.offset, step.message) for step in replay_partition([])]
    []
    """
    waiting = iter(messages)
    message = next(waiting, None)
    if message is None:
        return
    learner, start_offset = PartitionLearner(message.partition), 0
    if message.offset > 0:
        learner, message = _from_checkpoint(message, waiting, checkpoints() if checkpoints is not None else {})
        start_offset = learner.offset
    for following in () if message is None else chain([message], waiting):
        if not until_end:
            yield ReplayStep(learner, following, start_offset)
        learner.apply(following)
    yield ReplayStep(learner, None, start_offset)


def snapshots_at(
    messages: Iterable[StoredMessage],
    policy: str,
    positions: Sequence[Position],
    *,
    checkpoints: Callable[[], Mapping[bytes, bytes]] | None = None,
) -> list[Snapshot]:
    """Return a policy's snapshots at several positions, in the given order, in one pass over the messages.

    Raises
    ------
    ConfigurationError
        When the messages end before a position, or hold no event of the policy before it.
    TrimmedError
        When the oldest messages were deleted and no checkpoint covers them.
    """
    found: dict[Position, Snapshot] = {}
    pending = set(positions)
    start_offset = offset = 0
    for step in replay_partition(messages, checkpoints, until_end=pending == {LATEST}):
        start_offset, offset = step.start_offset, step.learner.offset
        for position in [position for position in pending if _is_reached(position, step)]:
            pending.remove(position)
            if _is_known(position, step) and policy in step.learner.policies:
                found[position] = step.learner.snapshot(policy)
        if not pending:
            break
    for position in positions:
        if position not in found:
            raise ConfigurationError(_explain_missing(position, policy, start_offset, offset))
    return [found[position] for position in positions]


def rebuild(
    messages: Iterable[StoredMessage],
    policy: str,
    *,
    until: Position = LATEST,
    checkpoints: Callable[[], Mapping[bytes, bytes]] | None = None,
) -> Snapshot:
    """Return the snapshot learned from the messages before a position; see :func:`snapshots_at`.

    Examples
    --------
    >>> from conduit_schemas import Feedback, Selection, encode
    >>> selection = Selection(policy="p", time=0.0, decision_id="d1", arms=("a", "b"), chosen=0,
    ...                       featurizer="text64-v2", context=bytes(128))
    >>> feedback = Feedback(policy="p", time=0.0, decision_id="d1", quality=1.0)
    >>> log = [StoredMessage(0, n, n, b"p", encode(event)) for n, event in enumerate([selection, feedback])]
    >>> rebuild(log, "p").feedbacks, rebuild(log, "p", until=Position(offset=1)).feedbacks
    (1, 0)
    """
    return snapshots_at(messages, policy, [until], checkpoints=checkpoints)[0]


def _from_checkpoint(
    first: StoredMessage, rest: Iterator[StoredMessage], records: Mapping[bytes, bytes]
) -> tuple[PartitionLearner, StoredMessage | None]:
    """Return the learner restored from the oldest usable checkpoint, and the first message it has not applied."""
    usable = [found for found in restorations(first.partition, "", records) if found.resume_from >= first.offset]
    if not usable:
        raise TrimmedError(
            f"partition {first.partition}: the events before offset {first.offset} were deleted and no checkpoint "
            "covers them, so its snapshots cannot be rebuilt; use an archive that was started earlier"
        )
    restoration = min(usable, key=lambda found: found.learner.offset)
    start_offset, last = restoration.learner.offset, -1
    for message in chain([first], rest):
        if message.offset >= start_offset:
            return restoration.finish(), message
        restoration.recall(message)
        last = message.offset
    if last + 1 < start_offset:
        raise TrimmedError(
            f"partition {first.partition}: the oldest usable checkpoint is at offset {start_offset}, after the last "
            f"event read, at offset {last}; read up to a later position"
        )
    return restoration.finish(), None


def _is_reached(position: Position, step: ReplayStep) -> bool:
    if step.message is not None:
        return position.is_before(step.message)
    return position.offset is None or position.offset == step.learner.offset


def _is_known(position: Position, step: ReplayStep) -> bool:
    """Return whether a replay that started from a checkpoint covers a position."""
    if position.offset is not None:
        return position.offset >= step.start_offset
    return position.time_ms is None or step.start_offset == 0 or step.learner.now_ms < position.time_ms


def _explain_missing(position: Position, policy: str, start_offset: int, offset: int) -> str:
    if position.offset is not None and position.offset > offset:
        return f"the events end at offset {offset}, before offset {position.offset}"
    if start_offset:
        return f"the oldest state that can be rebuilt is the checkpoint at offset {start_offset}, after {position}"
    return f"policy {policy!r} has no event before {position}"
