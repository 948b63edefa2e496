"""Replay: the snapshots of a policy built again from its events, and compared with those that were in force."""

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

__all__ = ["LATEST", "Position", "Relived", "before", "rebuild", "relive", "snapshots_at"]


@dataclass(frozen=True, slots=True)
class Position:
    """A moment in the past of a partition: before an offset, before a time, or now."""

    offset: int | None = None
    time_ms: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what ``latest``, an offset or an ISO 8601 time means; without a zone the time is UTC.

        Raises
        ------
        ConfigurationError
            When it is none of them.

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
                f"{text!r} is no position: give an offset (1200), a time (2026-03-01T12:00:00Z) or 'latest'"
            ) from error
        return cls(time_ms=round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))

    def is_before(self, message: StoredMessage) -> bool:
        """Tell whether a message lies after this moment."""
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
    """Return the messages before a position; what is returned can be read as often as the messages."""
    return messages if position == LATEST else _Before(messages, position)


class _Before(Iterable[StoredMessage]):
    def __init__(self, messages: Iterable[StoredMessage], position: Position) -> None:
        self._messages = messages
        self._position = position

    def __iter__(self) -> Iterator[StoredMessage]:
        return takewhile(lambda message: not self._position.is_before(message), self._messages)


class Relived(NamedTuple):
    """A learner just before one more message."""

    learner: PartitionLearner
    message: StoredMessage | None
    """None at the end."""
    since: int
    """Where this learner's life began: 0, or the offset of the checkpoint it started from. What lies before
    is not known."""


def relive(
    messages: Iterable[StoredMessage],
    checkpoints: Callable[[], Mapping[bytes, bytes]] | None = None,
    *,
    until_end: bool = False,
) -> Iterator[Relived]:
    """Live through a partition again; whoever looks on may take snapshots at any step.

    Parameters
    ----------
    messages
        A partition from its oldest message on, all policies: their messages move the clock they share.
    checkpoints
        Where the oldest messages are gone, returns the records to start from; see
        :mod:`conduit_learner.core.checkpoint`.
    until_end
        Whether to pause only at the end, which is faster.

    Raises
    ------
    TrimmedError
        When the oldest messages are gone and no checkpoint covers them.
    CheckpointError
        When the checkpoint belongs to another log.

    Examples
    --------
    >>> [(step.learner.offset, step.message) for step in relive([])]
    []
    """
    waiting = iter(messages)
    message = next(waiting, None)
    if message is None:
        return
    learner, since = PartitionLearner(message.partition), 0
    if message.offset > 0:
        learner, message = _from_checkpoint(message, waiting, checkpoints() if checkpoints is not None else {})
        since = learner.offset
    for following in () if message is None else chain([message], waiting):
        if not until_end:
            yield Relived(learner, following, since)
        learner.apply(following)
    yield Relived(learner, None, since)


def snapshots_at(
    messages: Iterable[StoredMessage],
    policy: str,
    positions: Sequence[Position],
    *,
    checkpoints: Callable[[], Mapping[bytes, bytes]] | None = None,
) -> list[Snapshot]:
    """Return a policy's snapshots at several positions, in the order asked for; one pass over the messages.

    Raises
    ------
    ConfigurationError
        When the messages end before a position, or hold nothing of the policy before it.
    TrimmedError
        When the oldest messages are gone and no checkpoint covers them.
    """
    found: dict[Position, Snapshot] = {}
    pending = set(positions)
    since = offset = 0
    for step in relive(messages, checkpoints, until_end=pending == {LATEST}):
        since, offset = step.since, step.learner.offset
        for position in [position for position in pending if _is_reached(position, step)]:
            pending.remove(position)
            if _is_known(position, step) and policy in step.learner.policies:
                found[position] = step.learner.snapshot(policy)
        if not pending:
            break
    for position in positions:
        if position not in found:
            raise ConfigurationError(_why_not(position, policy, since, offset))
    return [found[position] for position in positions]


def rebuild(
    messages: Iterable[StoredMessage],
    policy: str,
    *,
    until: Position = LATEST,
    checkpoints: Callable[[], Mapping[bytes, bytes]] | None = None,
) -> Snapshot:
    """Return the snapshot that follows from the messages before a position; see :func:`snapshots_at`.

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
    """Return the learner of the oldest usable checkpoint, and the first message that it does not know."""
    usable = [found for found in restorations(first.partition, "", records) if found.resume_from >= first.offset]
    if not usable:
        raise TrimmedError(
            f"partition {first.partition}: the events before offset {first.offset} are gone, and no checkpoint covers "
            "them, so its snapshots cannot be built again; use an archive that was begun earlier"
        )
    restoration = min(usable, key=lambda found: found.learner.offset)
    since, last = restoration.learner.offset, -1
    for message in chain([first], rest):
        if message.offset >= since:
            return restoration.finish(), message
        restoration.recall(message)
        last = message.offset
    if last + 1 < since:
        raise TrimmedError(
            f"partition {first.partition}: the oldest usable checkpoint, at offset {since}, lies after the last event, "
            f"at {last}; read further"
        )
    return restoration.finish(), None


def _is_reached(position: Position, step: Relived) -> bool:
    if step.message is not None:
        return position.is_before(step.message)
    return position.offset is None or position.offset == step.learner.offset


def _is_known(position: Position, step: Relived) -> bool:
    """Tell whether a life that began late had begun at a position."""
    if position.offset is not None:
        return position.offset >= step.since
    return position.time_ms is None or step.since == 0 or step.learner.now_ms < position.time_ms


def _why_not(position: Position, policy: str, since: int, offset: int) -> str:
    if position.offset is not None and position.offset > offset:
        return f"the events end at offset {offset}, before offset {position.offset}"
    if since:
        return f"the oldest state that can be known is that of the checkpoint at offset {since}, after {position}"
    return f"policy {policy!r} has no event before {position}"
