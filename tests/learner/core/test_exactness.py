"""The same bits, whatever the log, the batches, the crashes, and the times of snapshots and checkpoints."""

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_traffic import ARMS, checkpoint_of, feedback, learned, outcome, resumed, selection, stored, traffic

from conduit_learner.core.checkpoint import CheckpointWriter, dump, restorations
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import StoredMessage
from conduit_schemas import DeadLetter, Event, LearningChange, LearningSettings, encode

POLICIES = ("default/a", "default/b")


def fingerprint(learner: PartitionLearner) -> tuple[dict[str, bytes], dict[str, str]]:
    """Everything that can be observed of a learner."""
    return dump(learner), {policy: learner.snapshot(policy).hash for policy in learner.policies}


class Chance(random.Random):
    """Everything that can happen in a log and to a learner, drawn from one seed."""

    number = 0

    def decision_id(self) -> str:
        """A few ids at a time: of any form, or of two senders with running numbers, which stay known when closed."""
        self.number += self.random() < 0.2
        if self.random() < 0.5:
            return f"d{self.randrange(8)}"
        return f"{self.choice('ab') * 16}{max(0, self.number - self.randrange(8)):08x}"

    def event(self) -> Event:
        """Few ids and arms, so that everything is early, late, duplicated or reopened."""
        policy = self.choice(POLICIES)
        decision_id = self.decision_id()
        kind = self.choices(("selection", "outcome", "feedback", "settings"), (40, 30, 28, 2))[0]
        if kind == "selection":
            return selection(
                decision_id,
                policy=policy,
                arms=tuple(self.sample(ARMS, 2)),
                models=(),
                chosen=self.randrange(2),
                featurizer=self.choice(("tiny", "tiny", "other")),
                context=self.randbytes(8),
            )
        if kind == "outcome":
            status = self.choice(("success", "success", "error", "cancelled"))
            return outcome(decision_id, policy=policy, status=status, cost_usd=self.random(), latency_s=self.random())
        if kind == "feedback":
            return feedback(decision_id, self.random(), policy=policy, source=self.choice(("app", "judge")))
        return self.change(policy)

    def change(self, policy: str) -> LearningChange:
        settings = LearningSettings(
            algorithm=self.choice(("linucb", "linucb", "ucb1", "no such thing")),
            featurizer=self.choice(("tiny", "tiny", "other")),
            dimension=4,
            feedback_window_s=self.choice((2.0, 20.0, 1000.0)),
            max_open=self.choice((2, 5, 100)),
            window_size=self.choice((10, 100)),
        )
        return LearningChange(policy=policy, time=0.0, settings=settings)

    def log(self, length: int) -> list[StoredMessage]:
        log, time_ms = [], 10_000
        for offset in range(length):
            event = self.change(POLICIES[offset]) if offset < len(POLICIES) else self.event()
            # Mostly small steps, sometimes beyond a window, sometimes back.
            time_ms += self.choices((0, 100, 500, 3_000, 61_000, -2_000), (30, 30, 30, 5, 1, 4))[0]
            value = encode(event) if self.random() < 0.98 else self.choice((b"{}", b"\xff", b""))
            log.append(StoredMessage(0, offset, max(0, time_ms), event.policy.encode(), value))
        return log


@given(st.integers(0, 2**64), st.integers(2, 400))
@settings(max_examples=60, deadline=None)
@pytest.mark.campaign
def test_a_crash_anywhere_leaves_no_trace(seed: int, length: int) -> None:
    chance = Chance(seed)
    log = chance.log(length)
    undisturbed = PartitionLearner(0)
    expected: dict[int, DeadLetter] = {}
    for message in log:
        for letter in undisturbed.apply(message).dead_letters:
            assert letter.offset not in expected
            expected[letter.offset] = letter

    learner, writer = PartitionLearner(0), CheckpointWriter()
    records: dict[bytes, bytes] = {}
    saved = fingerprint(learner)
    letters: dict[int, DeadLetter] = {}
    crashes = 0
    while learner.offset < length or crashes < 3:
        for message in log[learner.offset : learner.offset + chance.randrange(12)]:
            letters |= {letter.offset: letter for letter in learner.apply(message).dead_letters}
        what = chance.choices(("nothing", "snapshot", "checkpoint", "crash"), (4, 3, 3, 1))[0]
        if what == "snapshot" and learner.policies:
            learner.snapshot(chance.choice(sorted(learner.policies)))
        elif what == "checkpoint":
            records |= checkpoint_of(learner, writer)
            saved = fingerprint(learner)
        elif what == "crash" and crashes < 20:
            crashes += 1
            # It may happen in the middle of the next checkpoint.
            batches = list(writer.records(learner))
            for batch in batches[: chance.randrange(len(batches))]:
                records |= dict(batch)
            if records.keys() & {b"0/0", b"0/1"}:
                restoration = next(restorations(0, learner.topic, records))
                learner, writer = resumed(restoration, log), CheckpointWriter(restoration)
            else:
                learner, writer = PartitionLearner(0), CheckpointWriter()
            assert fingerprint(learner) == saved
    assert fingerprint(learner) == fingerprint(undisturbed)
    assert letters == expected


@given(st.integers(0, 2**32), st.integers(1, 400), st.data())
@settings(max_examples=20, deadline=None)
def test_ordinary_traffic_survives_a_crash_to_the_bit(seed: int, decisions: int, data: st.DataObject) -> None:
    log = stored(traffic(decisions, seed=seed, policies=POLICIES))
    undisturbed, learner = PartitionLearner(0), PartitionLearner(0)
    crash = data.draw(st.integers(0, len(log) - 1))
    for message in log:
        if learner.offset == crash:
            learner = resumed(next(restorations(0, learner.topic, checkpoint_of(learner))), log)
        undisturbed.apply(message)
        learner.apply(message)
    assert fingerprint(learner) == fingerprint(undisturbed)


@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
@pytest.mark.campaign
def test_looking_changes_nothing(seed: int) -> None:
    """A block of events is learned together at its end, no matter what was read in between."""
    rng = random.Random(seed)
    log = stored(traffic(500, seed=seed, policies=POLICIES))
    undisturbed, learner = PartitionLearner(0), PartitionLearner(0)
    for message in log:
        undisturbed.apply(message)
        policy, _ = learner.apply(message)
        if policy is not None and rng.random() < 0.05:
            look = rng.choice(("snapshot", "snapshot", "arms", "checkpoint"))
            seen = learner.snapshot(policy)
            if look == "arms":
                assert learner.policies[policy].arms
            elif look == "checkpoint":
                dump(learner)
            assert learner.snapshot(policy) == seen
    assert learner.policies[POLICIES[0]].ticks > 64
    assert fingerprint(learner) == fingerprint(undisturbed)


def test_messages_delivered_again_change_nothing() -> None:
    log = stored(traffic(300))
    once, twice = PartitionLearner(0), PartitionLearner(0)
    rng = random.Random(1)
    for message in log:
        once.apply(message)
        twice.apply(message)
        for again in rng.sample(log[: message.offset + 1], 1):
            assert twice.apply(again) == (None, ())
    assert fingerprint(once) == fingerprint(twice)


def test_events_sent_again_teach_nothing_twice() -> None:
    events = traffic(300)
    doubled = [event for event in events for _ in range(2)]
    once, twice = PartitionLearner(0), PartitionLearner(0)
    for message in stored(events):
        once.apply(message)
    for message in stored(doubled, step_ms=50):
        twice.apply(message)
    ours, theirs = once.snapshot("default/chat"), twice.snapshot("default/chat")
    assert ours.arms == theirs.arms
    assert (ours.selections, ours.outcomes, ours.feedbacks) == (theirs.selections, theirs.outcomes, theirs.feedbacks)


@given(st.integers(0, 2**32), st.data())
@settings(max_examples=15, deadline=None)
def test_the_order_across_policies_makes_no_difference(seed: int, data: st.DataObject) -> None:
    events = traffic(120, seed=seed, policies=POLICIES)
    queues = [[event for event in events if event.policy == policy] for policy in POLICIES]
    rng = data.draw(st.randoms(use_true_random=False))
    other: list[Event] = []
    while any(queues):
        other.append(rng.choice([queue for queue in queues if queue]).pop(0))
    one, another = (learned(stored(order, step_ms=0)) for order in (events, other))
    for policy in POLICIES:
        ours, theirs = one.snapshot(policy), another.snapshot(policy)
        assert ours.arms == theirs.arms
        counts = [(s.selections, s.outcomes, s.feedbacks, s.censored) for s in (ours, theirs)]
        assert counts[0] == counts[1]


REPLAY = """
from learner_traffic import learned, stored, traffic

learner = learned(stored(traffic(600)))
print(learner.snapshot("default/chat").hash)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "machine",
    [
        {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"},
        {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512_SKX AVX2 FMA3"},
        {"PYTHONHASHSEED": "1"},
    ],
    ids=lambda machine: next(iter(machine.values())),
)
def test_another_machine_arrives_at_the_same_bits(machine: dict[str, str]) -> None:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPLAY],
        env={**os.environ, "PYTHONPATH": path, **machine},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == learned(stored(traffic(600))).snapshot("default/chat").hash
