"""Ten thousand invalid records among valid ones: each is refused once, and nothing is learned from it."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from learner_traffic import POLICY, feedback, learned, outcome, selection, traffic

from conduit_learner.core.join import MAX_EARLY_MS
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.worker.run import WorkerOptions, run_worker
from conduit_log import Message, StoredMessage
from conduit_log.memory import MemoryLog
from conduit_schemas import (
    MAX_EVENT_BYTES,
    DeadLetter,
    Event,
    LearningChange,
    LearningSettings,
    Topics,
    decode_snapshot,
    encode,
)

INPUTS = 10_500
DECISIONS = 500
STEP_MS = 100
START_MS = 1_000_000
TOPICS = Topics("fuzz")
KEY = POLICY.encode()
DEADLINE_S = 180.0
REFUSALS = frozenset({"invalid", "too_large", "unknown_kind", "newer_version", "wrong_partition"})


class Input(NamedTuple):
    """A record to send, and why it must be refused; None if it repeats a known one."""

    message: Message
    reasons: frozenset[str] | None


Maker = Callable[[random.Random, Sequence[Event]], Input]


def refused(value: bytes, *reasons: str, key: bytes = KEY) -> Input:
    return Input(Message(key, value), frozenset(reasons))


def fields_of(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode(event))
    return found


def changed(event: Event, **changes: object) -> bytes:
    return json.dumps({**fields_of(event), **changes}).encode()


def noise(rng: random.Random, sent: Sequence[Event]) -> Input:
    return refused(rng.randbytes(rng.randrange(200)), "invalid")


def other_json(rng: random.Random, sent: Sequence[Event]) -> Input:
    values = ["null", "[]", "{}", "0", '"selection"', "[[[[", "{" * 500, "[" * 20_000, '{"kind": "outcome"}', "\x00"]
    return refused(rng.choice(values).encode(), "invalid")


def cut_off(rng: random.Random, sent: Sequence[Event]) -> Input:
    value = encode(rng.choice(sent))
    return refused(value[: rng.randrange(len(value))], "invalid")


def not_utf8(rng: random.Random, sent: Sequence[Event]) -> Input:
    value = encode(rng.choice(sent))
    place = rng.randrange(len(value) + 1)
    return refused(value[:place] + b"\xff" + value[place:], "invalid")


OVERSIZED = [b" " * (MAX_EVENT_BYTES + 1 - 2) + b"{}", encode(selection("d0")).ljust(200_000), b"x" * 1_000_000]


def oversized(rng: random.Random, sent: Sequence[Event]) -> Input:
    return refused(rng.choice(OVERSIZED), "too_large")


def other_kind(rng: random.Random, sent: Sequence[Event]) -> Input:
    return refused(changed(rng.choice(sent), kind=rng.choice(["surprise", "dead_letter", "Selection"])), "unknown_kind")


def newer(rng: random.Random, sent: Sequence[Event]) -> Input:
    return refused(changed(rng.choice(sent), schema_version=rng.choice(["2.0", "11.3", "2"])), "newer_version")


def not_a_number(rng: random.Random, sent: Sequence[Event]) -> Input:
    number = rng.choice(["NaN", "Infinity", "-Infinity", "1e999", '"NaN"'])
    event = rng.choice(sent)
    name = {"selection": "time", "outcome": rng.choice(["cost_usd", "latency_s"]), "feedback": "quality"}[event.kind]
    return refused(changed(event, **{name: "?"}).replace(b'"?"', number.encode()), "invalid")


def out_of_bounds(rng: random.Random, sent: Sequence[Event]) -> Input:
    event = rng.choice(sent)
    changes: Mapping[str, list[dict[str, object]]] = {
        "selection": [
            {"chosen": 3},  # an arm that was not eligible
            {"chosen": -1},
            {"arms": []},
            {"arms": ["large", "large", "small"]},
            {"arms": ["large"] * 300},
            {"models": ["one"]},
            {"probabilities": [0.5, 0.5, 0.5]},
            {"probabilities": [-1.0, 1.0, 1.0]},
            {"predictions": {"quality": [0.5]}},
            {"context": "AAAA"},  # three bytes
            {"context": "no base64"},
            {"featurizer": "x" * 257},
        ],
        "outcome": [{"status": "fine"}, {"cost_usd": -1.0}, {"latency_s": 1e7}, {"input_tokens": 2**63}],
        "feedback": [{"quality": 1.0001}, {"quality": -0.0001}, {"quality": None}, {"source": 7}],
    }
    anyhow: list[dict[str, object]] = [
        {"time": -1.0},
        {"time": 1e12},
        {"decision_id": ""},
        {"decision_id": "a\nb"},
        {"decision_id": None},
        {"policy": ["p"]},
    ]
    return refused(changed(event, **rng.choice(changes[event.kind] + anyhow)), "invalid")


def incomplete(rng: random.Random, sent: Sequence[Event]) -> Input:
    event = rng.choice(sent)
    needed = {
        "selection": ["arms", "chosen", "featurizer", "context"],
        "outcome": ["status"],
        "feedback": ["quality"],
    }
    fields = fields_of(event)
    del fields[rng.choice(["kind", "policy", "time", "decision_id", *needed[event.kind]])]
    return refused(json.dumps(fields).encode(), "invalid")


def senseless_settings(rng: random.Random, sent: Sequence[Event]) -> Input:
    settings = LearningSettings(algorithm=rng.choice(["magic", ""]))
    return refused(encode(LearningChange(policy=POLICY, time=0.0, settings=settings)), "invalid")


def wrong_key(rng: random.Random, sent: Sequence[Event]) -> Input:
    key = rng.choice([b"", b"default/other", KEY + b" ", rng.randbytes(8), b"k" * 5_000])
    return refused(encode(rng.choice(sent)), "wrong_partition", key=key)


def damaged(rng: random.Random, sent: Sequence[Event]) -> Input:
    # Some damage leaves a valid event with other content. A key of no policy makes all of it detectable.
    value = bytearray(encode(rng.choice(sent)))
    for _ in range(rng.randrange(1, 6)):
        value[rng.randrange(len(value))] = rng.randrange(256)
    return refused(bytes(value), *REFUSALS, key=b"\xfe")


def orphan(rng: random.Random, sent: Sequence[Event]) -> Input:
    unknown = f"nobody-{rng.getrandbits(40)}"
    event = rng.choice([outcome(unknown, status="error", latency_s=9.0, cost_usd=9.0), feedback(unknown, 0.0)])
    return refused(encode(event), "orphan")


def repeated(rng: random.Random, sent: Sequence[Event]) -> Input:
    """A record sent before, by a sender with any clock, perhaps with other content."""
    event = rng.choice(sent)
    other: Mapping[str, dict[str, object]] = {
        "selection": {"chosen": rng.randrange(3)},
        "outcome": {"status": "error", "cost_usd": 1e6, "latency_s": 1e6},
        "feedback": {"quality": rng.random()},
    }
    skewed = {"time": rng.choice([0.0, 1e11, rng.random() * 1e10])}
    return Input(Message(KEY, changed(event, **skewed, **rng.choice([{}, other[event.kind]]))), None)


MAKERS: dict[Maker, int] = {
    noise: 10,
    other_json: 5,
    cut_off: 10,
    not_utf8: 8,
    oversized: 2,
    other_kind: 5,
    newer: 5,
    not_a_number: 8,
    out_of_bounds: 12,
    incomplete: 8,
    senseless_settings: 3,
    wrong_key: 8,
    damaged: 10,
    orphan: 8,
    repeated: 10,
}


class Fuzzed(NamedTuple):
    log: list[StoredMessage]
    """Everything, as in one partition."""
    honest: list[StoredMessage]
    """The part that may be learned from."""
    reasons: dict[int, frozenset[str]]
    """By offset, why each of the others is refused."""


@pytest.fixture(scope="module", params=[1, 2])
def fuzzed(request: pytest.FixtureRequest) -> Fuzzed:
    rng = random.Random(request.param)
    events = traffic(DECISIONS, seed=request.param)
    places = sorted(rng.choices(range(1, len(events)), k=INPUTS), reverse=True)
    log: list[StoredMessage] = []
    honest: list[StoredMessage] = []
    reasons: dict[int, frozenset[str]] = {}

    def store(message: Message, wait_ms: int = STEP_MS) -> StoredMessage:
        time_ms = log[-1].time_ms + wait_ms if log else START_MS
        log.append(StoredMessage(0, len(log), time_ms, *message))
        return log[-1]

    for number, event in enumerate(events):
        while places and places[-1] == number:
            places.pop()
            [make] = rng.choices(list(MAKERS), list(MAKERS.values()))
            message, expected = make(rng, events[:number])
            stored = store(message)
            if expected is not None:
                reasons[stored.offset] = expected
        honest.append(store(Message(KEY, encode(event))))
    # After this, no event waits for its selection any longer.
    honest.append(store(Message(KEY, encode(selection("the last one"))), MAX_EARLY_MS + STEP_MS))
    assert len(log) - len(honest) == INPUTS
    return Fuzzed(log, honest, reasons)


def assert_refused_as_expected(letters: Mapping[int, DeadLetter], fuzzed: Fuzzed) -> None:
    assert set(letters) == set(fuzzed.reasons)
    for offset, letter in letters.items():
        assert letter.reason in fuzzed.reasons[offset], (letter.message, fuzzed.log[offset])
        assert letter.message
        refused = fuzzed.log[offset]
        assert (letter.partition, letter.offset) == (0, offset)
        assert (letter.record_key, letter.record) == (refused.key[:1024], refused.value[:32_768])
        assert letter.record_bytes == len(refused.value)


def test_there_is_some_of_everything(fuzzed: Fuzzed) -> None:
    counts = Counter(reason for reasons in fuzzed.reasons.values() if len(reasons) == 1 for reason in reasons)
    assert set(counts) == REFUSALS | {"orphan"}
    assert min(counts.values()) > 100
    assert len(fuzzed.reasons) > 9_000


def test_the_core_refuses_each_once_and_learns_as_if_they_were_not_there(fuzzed: Fuzzed) -> None:
    rng = random.Random(0)
    learner = PartitionLearner(0)
    letters: list[DeadLetter] = []
    honest = {message.offset for message in fuzzed.honest}
    for sent in fuzzed.log:
        # Sometimes the broker's clock was set back.
        is_late = sent.offset not in honest and rng.random() < 0.2
        message = sent._replace(time_ms=rng.randrange(sent.time_ms)) if is_late else sent
        letters += learner.apply(message).dead_letters
        if rng.random() < 0.1:
            again = fuzzed.log[rng.randrange(message.offset + 1)]
            assert learner.apply(again) == (None, ())
    assert max(Counter(letter.offset for letter in letters).values()) == 1
    assert_refused_as_expected({letter.offset: letter for letter in letters}, fuzzed)
    assert set(learner.policies) == {POLICY}
    # The same bits, including counters and settings. The position is that of the last message, which is valid.
    assert learner.snapshot(POLICY).hash == learned(fuzzed.honest).snapshot(POLICY).hash
    assert learner.policies[POLICY].outcomes > 400


class CountingLog(MemoryLog):
    """Remembers everything that was appended, unlike a compacted topic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(TOPICS, clock=clock)
        self.letters: Counter[bytes] = Counter()

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        await super().append(topic, messages)
        if topic == TOPICS.dead_letters:
            self.letters.update(message.key for message in messages)


@pytest.mark.parametrize("interruptions", [0, 3])
async def test_the_worker_goes_on_and_leaves_one_dead_letter_each(fuzzed: Fuzzed, interruptions: int) -> None:
    now_s = 0.0
    log = CountingLog(lambda: now_s)
    options = WorkerOptions(snapshot_every_s=0.05, checkpoint_every_events=1_000)
    stop = asyncio.Event()
    worker = asyncio.create_task(run_worker(log, topics=TOPICS, stop=stop, options=options))
    pauses = {len(fuzzed.log) * (number + 1) // (interruptions + 1) for number in range(interruptions)}
    for message in fuzzed.log:
        if message.offset in pauses:
            # Killed at any point: with some records applied, or written, or not even read.
            await asyncio.sleep(0.05)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
            worker = asyncio.create_task(run_worker(log, topics=TOPICS, stop=stop, options=options))
        now_s = (message.time_ms + 0.5) / 1000.0
        await log.append(TOPICS.events, [Message(message.key, message.value)])
    await _until_learned(log, fuzzed.log[-1].offset + 1, worker)
    stop.set()
    await asyncio.wait_for(worker, DEADLINE_S)
    async with log.reader(TOPICS.dead_letters) as reader:
        letters = [DeadLetter.model_validate_json(message.value) for message in await _everything(reader)]
    assert_refused_as_expected({letter.offset: letter for letter in letters}, fuzzed)
    assert len(letters) == len(fuzzed.reasons)
    # A learner killed between a dead letter and its checkpoint writes it again, under the same key.
    assert interruptions or max(log.letters.values()) == 1
    async with log.reader(TOPICS.snapshots) as reader:
        [snapshot] = [decode_snapshot(message.value) for message in await _everything(reader)]
    assert snapshot.hash == learned(fuzzed.honest).snapshot(POLICY).hash


async def _everything(reader: Any) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    while more := await reader.poll(timeout_s=0.0):
        found += more
    return found


async def _until_learned(log: MemoryLog, offset: int, worker: asyncio.Task[None]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    async with log.reader(TOPICS.snapshots) as reader:
        while True:
            for message in await reader.poll(timeout_s=0.05):
                if decode_snapshot(message.value).offset == offset:
                    return
            assert not worker.done() and time.monotonic() < deadline
