"""Dead letters, the records that the learner could not use: list them and retry them."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ValidationError

from conduit_learner.audit.history import BlockingLog
from conduit_log import Message
from conduit_schemas import DeadLetter, PolicyChange, RecordError, decode_event, encode
from conduit_schemas.reasons import NotRetried

__all__ = ["Plan", "Replay", "dead_letters", "plan_replay", "replay_dead_letters"]

_BATCH = 500


def dead_letters(log: BlockingLog) -> list[DeadLetter]:
    """Return every dead letter, sorted by the refused record's topic, partition and offset."""
    topic = log.topics.dead_letters
    letters = []
    newest = {message.key: message for message in log.read(topic, log.end_offsets(topic))}
    for message in newest.values():
        try:
            letters.append(DeadLetter.model_validate_json(message.value))
        except ValidationError:
            continue  # not a dead letter: anything may write to the topic
    return sorted(letters, key=lambda letter: (letter.topic, letter.partition, letter.offset))


class Replay(NamedTuple):
    """A dead letter that can be retried, and the message to append for it."""

    letter: DeadLetter
    message: Message


@dataclass(frozen=True)
class Plan:
    """What a retry would do."""

    replays: list[Replay] = field(default_factory=list)
    left_out: Counter[NotRetried] = field(default_factory=Counter)
    """Number of dead letters that will not be retried, by reason."""


def plan_replay(letters: Iterable[DeadLetter]) -> Plan:
    """Choose the dead letters that may succeed now.

    A dead letter is left out if it would be refused again for the same reason, if its record was cut, or if it was
    retried before. Learning settings are left out too: appended now, they would override newer ones, and every
    strategy sends its own settings when it starts.

    Examples
    --------
    >>> plan = plan_replay([DeadLetter(topic="conduit.events", partition=0, offset=7, time_ms=0, reason="invalid",
    ...                                message="not JSON", record_key=b"p", record=b"?", record_bytes=1)])
    >>> {str(reason): count for reason, count in plan.left_out.items()}
    {'still_unusable': 1}
    """
    plan = Plan()
    for letter in letters:
        reason = _objection(letter)
        if reason is not None:
            plan.left_out[reason] += 1
        else:
            # The key comes from the event's policy, because the refused record's own key may have been wrong.
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
    """Append the original records to the event topic again, and mark their dead letters as retried.

    The records are unchanged, byte for byte. The learner treats them as new: records that it has already learned
    from have no effect, and records that it still cannot use become new dead letters. After an interruption a batch
    may be appended a second time, which has no effect either.
    """
    for start in range(0, len(replays), _BATCH):
        batch = replays[start : start + _BATCH]
        log.append(log.topics.events, [replay.message for replay in batch])
        marked = [replay.letter.model_copy(update={"replayed_at": now()}) for replay in batch]
        log.append(log.topics.dead_letters, [Message(letter.place.encode(), encode(letter)) for letter in marked])
        progress(len(batch))


def _objection(letter: DeadLetter) -> NotRetried | None:
    if letter.replayed_at is not None:
        return NotRetried.ALREADY_RETRIED
    if letter.record_bytes != len(letter.record):
        return NotRetried.CUT
    try:
        event = decode_event(letter.record)
    except RecordError:
        return NotRetried.STILL_UNUSABLE
    if isinstance(event, PolicyChange):
        return NotRetried.SETTINGS
    return None
