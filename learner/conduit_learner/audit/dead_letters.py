"""Records that nobody could learn from: what they are, and how they get another chance."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ValidationError

from conduit_learner.audit.history import BlockingLog
from conduit_log import Message
from conduit_schemas import DeadLetter, LearningChange, RecordError, decode_event, encode

__all__ = ["Plan", "Replay", "dead_letters", "plan_replay", "replay_dead_letters"]

_BATCH = 500


def dead_letters(log: BlockingLog) -> list[DeadLetter]:
    """Return every dead letter, in the order of the refused records' partitions and offsets."""
    topic = log.topics.dead_letters
    letters = []
    newest = {message.key: message for message in log.read(topic, log.end_offsets(topic))}
    for message in newest.values():
        try:
            letters.append(DeadLetter.model_validate_json(message.value))
        except ValidationError:
            continue  # not ours: anybody may write to a topic
    return sorted(letters, key=lambda letter: (letter.topic, letter.partition, letter.offset))


class Replay(NamedTuple):
    """A dead letter that may be tried again, and the message that does it."""

    letter: DeadLetter
    message: Message


@dataclass(frozen=True)
class Plan:
    """What trying again would do."""

    replays: list[Replay] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Dead letters that are not tried again, by reason."""


def plan_replay(letters: Iterable[DeadLetter]) -> Plan:
    """Choose the dead letters that have a chance now.

    Left out is what would be refused again for the same reason, what is no longer known in full, and what
    was tried before. So are settings: appended now they would overrule newer ones; a strategy states its own
    whenever it starts.

    Examples
    --------
    >>> plan_replay([DeadLetter(topic="conduit.events", partition=0, offset=7, time_ms=0, reason="invalid",
    ...                         message="not JSON", record_key=b"p", record=b"?", record_bytes=1)]).left_out
    Counter({'still unusable: not JSON: expected value at line 1 column 1': 1})
    """
    plan = Plan()
    for letter in letters:
        reason = _objection(letter)
        if reason is not None:
            plan.left_out[reason] += 1
        else:
            # The key is what its policy asks for; the refused record may have had a wrong one.
            key = decode_event(letter.record).policy.encode()
            plan.replays.append(Replay(letter, Message(key, letter.record)))
    return plan


def replay_dead_letters(
    log: BlockingLog,
    replays: Sequence[Replay],
    *,
    now: Callable[[], float] = time.time,
    progress: Callable[[int], None] = lambda count: None,
) -> None:
    """Append the records to the event topic again, and note on their dead letters that it was done.

    The records are what they were, byte by byte. A learner takes them as if they had just come: what it has
    learned already changes nothing, and what still cannot be used comes back as a new dead letter. If this
    is interrupted, a batch may be appended again the next time, which is harmless for the same reason.
    """
    for start in range(0, len(replays), _BATCH):
        batch = replays[start : start + _BATCH]
        log.append(log.topics.events, [replay.message for replay in batch])
        noted = [replay.letter.model_copy(update={"replayed_at": now()}) for replay in batch]
        log.append(log.topics.dead_letters, [Message(_key(letter), encode(letter)) for letter in noted])
        progress(len(batch))


def _objection(letter: DeadLetter) -> str | None:
    if letter.replayed_at is not None:
        return "tried again before"
    if letter.record_bytes != len(letter.record):
        return "too long to have been kept in full"
    try:
        event = decode_event(letter.record)
    except RecordError as error:
        return f"still unusable: {error}"
    if isinstance(event, LearningChange):
        return "settings, which would overrule newer ones"
    return None


def _key(letter: DeadLetter) -> bytes:
    return f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
