"""Any log, any batches, any crash, any schedule of snapshots and checkpoints: the same bits."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from learner_traffic import ARMS, feedback, outcome, selection, stored, traffic

from conduit_learner.checkpoint import CheckpointWriter, dump, restorations
from conduit_learner.core import PartitionLearner
from conduit_log import StoredMessage
from conduit_schemas import DeadLetter, Event, LearningSettings, PolicySettings, encode

POLICIES = ("default/a", "default/b")


def fingerprint(learner: PartitionLearner) -> tuple[dict[str, bytes], dict[str, str]]:
    """Everything that may be observed of a learner."""
    return dump(learner), {policy: learner.snapshot(policy).hash for policy in learner.policies}


def restored(learner: PartitionLearner, log: list[StoredMessage], records: dict[bytes, bytes]) -> PartitionLearner:
    restoration = next(restorations(0, learner.topic, records))
    for message in log[restoration.resume_from : restoration.learner.offset]:
        restoration.recall(message)
    return restoration.finish()


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Logs full of what goes wrong: few ids, so that everything is early, late, doubled or reopened."""
    ids = st.sampled_from([f"d{number}" for number in range(6)])
    policy = draw(st.sampled_from(POLICIES))
    kind = st.one_of(
        st.builds(
            lambda d, arms, featurizer: selection(
                d, policy=policy, arms=arms, models=(), chosen=0, featurizer=featurizer, context=bytes(range(1, 9))
            ),
            ids,
            st.permutations(ARMS).map(lambda order: tuple(order[:2])),
            st.sampled_from(("tiny", "other")),
        ),
        st.builds(
            lambda d, status, cost: outcome(d, policy=policy, status=status, cost_usd=cost),
            ids,
            st.sampled_from(("success", "error", "cancelled")),
            st.floats(0.0, 1.0),
        ),
        st.builds(
            lambda d, quality, source: feedback(d, quality, policy=policy, source=source),
            ids,
            st.floats(0.0, 1.0),
            st.sampled_from(("app", "judge")),
        ),
        st.builds(
            lambda **fields: PolicySettings(policy=policy, time=0.0, settings=LearningSettings(**fields)),
            algorithm=st.sampled_from(("linucb", "ucb1", "no such thing")),
            featurizer=st.sampled_from(("tiny", "other")),
            dimension=st.sampled_from((4, 5)),
            feedback_window_s=st.sampled_from((5.0, 1000.0)),
            max_open=st.sampled_from((1, 2, 100)),
            window_size=st.just(10),
        ),
    )
    weighted = st.one_of(kind, kind.filter(lambda event: event.kind != "settings"))
    return draw(st.lists(weighted, max_size=12))


@st.composite
def logs(draw: st.DrawFn) -> list[StoredMessage]:
    chosen = [
        PolicySettings(
            policy=policy,
            time=0.0,
            settings=LearningSettings(featurizer="tiny", dimension=4, max_open=3, window_size=10),
        )
        for policy in POLICIES
    ]
    sequence = [*chosen, *(event for part in draw(st.lists(events(), max_size=8)) for event in part)]
    log, time_ms = [], 0
    for event in sequence:
        # Mostly small steps, sometimes far beyond every window, sometimes back.
        time_ms = max(0, time_ms + draw(st.sampled_from((0, 1, 500, 500, 4_000, 61_000, -2_000))))
        value = draw(st.sampled_from((encode(event),) * 20 + (b"{}", b"\xff")))
        log.append(StoredMessage(0, len(log), time_ms, event.policy.encode(), value))
    return log


@given(logs(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_crash_anywhere_leaves_no_trace(log: list[StoredMessage], data: st.DataObject) -> None:
    undisturbed = PartitionLearner(0)
    learner = PartitionLearner(0)
    writer = CheckpointWriter()
    records: dict[bytes, bytes] = {}
    letters: dict[int, DeadLetter] = {}
    expected: dict[int, DeadLetter] = {}
    steps = data.draw(st.lists(st.integers(0, 6), max_size=30))
    crashes = 0
    while learner.offset < len(log):
        step = steps.pop() if steps else 1
        if step == 0:
            learner.snapshot(next(iter(learner.policies))) if learner.policies else None
        elif step == 1:
            for messages in writer.records(learner):
                records |= dict(messages)
        elif step == 2 and records and crashes < 8:
            # A crash in the middle of writing a checkpoint, then back to the last whole one.
            batches = list(writer.records(learner))
            for messages in batches[: data.draw(st.integers(0, len(batches) - 1))]:
                records |= dict(messages)
            restoration = next(restorations(0, learner.topic, records))
            for message in log[restoration.resume_from : restoration.learner.offset]:
                restoration.recall(message)
            learner, writer = restoration.finish(), CheckpointWriter(restoration)
            crashes += 1
        for message in log[learner.offset : learner.offset + step + 1]:
            letters |= {letter.offset: letter for letter in learner.apply(message).dead_letters}
        while undisturbed.offset < learner.offset:
            for letter in undisturbed.apply(log[undisturbed.offset]).dead_letters:
                assert letter.offset not in expected
                expected[letter.offset] = letter
    assert fingerprint(learner) == fingerprint(undisturbed)
    assert letters == expected


@given(st.integers(0, 2**32), st.integers(1, 400), st.data())
@settings(max_examples=20, deadline=None)
def test_ordinary_traffic_survives_crashes_to_the_bit(seed: int, decisions: int, data: st.DataObject) -> None:
    log = stored(traffic(decisions, seed=seed, policies=POLICIES))
    undisturbed, learner = PartitionLearner(0), PartitionLearner(0)
    crash = data.draw(st.integers(0, len(log)))
    writer, records = CheckpointWriter(), {}
    for message in log:
        if learner.offset == crash:
            records = {key: value for batch in writer.records(learner) for key, value in batch}
            learner = restored(learner, log, records)
        undisturbed.apply(message)
        learner.apply(message)
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


def test_policies_do_not_disturb_each_other() -> None:
    mixed = traffic(400, policies=POLICIES)
    alone = [event for event in mixed if event.policy == "default/a"]
    both, single = PartitionLearner(0), PartitionLearner(0)
    for message in stored(mixed):
        both.apply(message)
    for message in stored(alone):
        single.apply(message)
    assert both.snapshot("default/a").arms == single.snapshot("default/a").arms
