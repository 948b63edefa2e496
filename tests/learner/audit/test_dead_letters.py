"""Dead letters: listed with all details, and retried if that may help and cannot harm."""

import asyncio

import pytest
from learner_traffic import POLICY, feedback, messages, outcome, selection

from conduit_learner.audit.dead_letters import dead_letters, plan_replay, replay_dead_letters
from conduit_learner.audit.history import BlockingLog
from conduit_learner.audit.replay import rebuild
from conduit_learner.worker.run import run_worker
from conduit_log import Message
from conduit_log.memory import MemoryLog
from conduit_schemas import DeadLetter, LearningChange, LearningSettings, RoutingChange, Topics, encode
from conduit_schemas.reasons import NotRetried

TOPICS = Topics()
KEY = POLICY.encode()


class Clock:
    seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def learn(log: BlockingLog) -> None:
    """Let a worker read everything, then stop it."""

    async def work() -> None:
        stop = asyncio.Event()
        worker = asyncio.create_task(run_worker(log.log, topics=TOPICS, stop=stop))
        await asyncio.sleep(0.3)
        stop.set()
        await worker

    log.run(work)


def letter(record: bytes, **changes: object) -> DeadLetter:
    fields: dict[str, object] = {"topic": TOPICS.events, "partition": 0, "offset": 3, "time_ms": 5, "reason": "invalid"}
    fields |= {"message": "?", "record_key": KEY, "record": record, "record_bytes": len(record)}
    return DeadLetter.model_validate({**fields, **changes})


def test_what_a_worker_refuses_is_listed_and_what_was_put_right_is_learned_once() -> None:
    clock = Clock()
    with BlockingLog(MemoryLog(TOPICS, clock=clock), TOPICS) as log:
        # An outcome and a rating more than a minute before their selection, and a wrong key.
        early = messages([outcome("d1", cost_usd=0.01), feedback("d1", 0.9)])
        wrong_key = Message(b"default/other", messages([selection("d2")])[0].value)
        log.append(TOPICS.events, [*early, wrong_key, Message(KEY, b"junk")])
        clock.seconds += 100.0
        log.append(TOPICS.events, messages([selection("d1")]))
        learn(log)
        found = dead_letters(log)
        assert [(known.offset, known.reason) for known in found] == [
            (0, "orphan"),
            (1, "orphan"),
            (2, "wrong_partition"),
            (3, "invalid"),
        ]
        plan = plan_replay(found)
        assert [replay.message for replay in plan.replays] == [*early, Message(KEY, wrong_key.value)]
        assert plan.left_out == {NotRetried.STILL_UNUSABLE: 1}
        before = rebuild(log.partition(0), POLICY)
        done: list[int] = []
        replay_dead_letters(log, plan.replays, now=clock, progress=done.append)
        assert done == [3]
        after = rebuild(log.partition(0), POLICY)
        assert (before.selections, before.outcomes, before.feedbacks) == (1, 0, 0)
        assert (after.selections, after.outcomes, after.feedbacks) == (2, 1, 1)
        # Each is retried once. If it were retried again, nothing would be learned twice.
        again = plan_replay(dead_letters(log))
        assert again.replays == [] and again.left_out[NotRetried.ALREADY_RETRIED] == 3
        assert [known.replayed_at for known in dead_letters(log)] == [clock.seconds] * 3 + [None]
        replay_dead_letters(log, plan.replays[:2], now=clock)
        repeated = rebuild(log.partition(0), POLICY)
        assert (repeated.outcomes, repeated.feedbacks, repeated.arms) == (1, 1, after.arms)
        learn(log)
        assert len(dead_letters(log)) == 4


def test_outcomes_of_decisions_long_closed_come_back() -> None:
    clock = Clock()
    with BlockingLog(MemoryLog(TOPICS, clock=clock), TOPICS) as log:
        log.append(TOPICS.events, messages([outcome("never chosen")]))
        clock.seconds += 100.0
        log.append(TOPICS.events, messages([selection("d1")]))
        learn(log)
        replay_dead_letters(log, plan_replay(dead_letters(log)).replays, now=clock)
        clock.seconds += 100.0
        log.append(TOPICS.events, messages([selection("d2")]))
        learn(log)
        assert [(known.offset, known.replayed_at is None) for known in dead_letters(log)] == [(0, False), (2, True)]


@pytest.mark.parametrize(
    ("record", "changes", "reason"),
    [
        (encode(outcome("d1")), {"replayed_at": 7.0}, NotRetried.ALREADY_RETRIED),
        (encode(outcome("d1"))[:-1], {"record_bytes": 40_000}, NotRetried.CUT),
        (b'{"schema_version": "2.0"}', {}, NotRetried.STILL_UNUSABLE),
        (encode(LearningChange(policy=POLICY, time=0.0, settings=LearningSettings())), {}, NotRetried.SETTINGS),
        (encode(RoutingChange(policy=POLICY, time=0.0)), {}, NotRetried.SETTINGS),
    ],
)
def test_what_is_not_tried_again(record: bytes, changes: dict[str, object], reason: NotRetried) -> None:
    plan = plan_replay([letter(record, **changes)])
    assert plan.replays == []
    assert plan.left_out == {reason: 1}


def test_foreign_records_are_passed_over_and_the_order_is_the_logs() -> None:
    with BlockingLog(MemoryLog(TOPICS), TOPICS) as log:
        assert dead_letters(log) == []
        letters = [letter(b"x", offset=offset, partition=partition) for offset, partition in ((9, 0), (10, 0), (1, 1))]
        log.append(
            TOPICS.dead_letters,
            [Message(b"k%d" % n, encode(known)) for n, known in enumerate(reversed(letters))] + [Message(b"?", b"{}")],
        )
        assert dead_letters(log) == letters


def test_many_are_appended_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conduit_learner.audit.dead_letters._BATCH", 4)
    with BlockingLog(MemoryLog(TOPICS), TOPICS) as log:
        letters = [letter(encode(outcome(f"d{n}")), offset=n) for n in range(10)]
        done: list[int] = []
        replay_dead_letters(log, plan_replay(letters).replays, progress=done.append)
        assert done == [4, 4, 2]
        assert [message.value for message in log.partition(0)] == [known.record for known in letters]
