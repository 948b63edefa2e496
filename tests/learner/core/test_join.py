"""Open and closed decisions, and events that come too late or twice."""

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_traffic import POLICY, checkpoint_of, feedback, learned, outcome, resumed, selection, stored, traffic

from conduit_learner.core.checkpoint import CheckpointWriter, dump, restorations
from conduit_learner.core.join import MAX_SENDERS, ClosedDecisions
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import StoredMessage
from conduit_schemas import Event, LearningChange, LearningSettings

SENDER = "0123456789abcdef"


def change(**changes: object) -> LearningChange:
    return LearningChange(policy=POLICY, time=0.0, settings=LearningSettings.model_validate(changes))


def ids(number: int, sender: str = SENDER) -> str:
    return f"{sender}{number:08x}"


def renamed(events: Iterable[Event], sender: str = SENDER) -> list[Event]:
    """Return the events with ids as the plugin makes them."""
    return [
        event.model_copy(update={"decision_id": ids(int(decision_id[1:]), sender)})
        if (decision_id := getattr(event, "decision_id", None))
        else event
        for event in events
    ]


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 60))
@settings(max_examples=20, deadline=None)
def test_a_batch_that_comes_again_after_its_decisions_are_closed_teaches_nothing(
    seed: int, sent: int, new: int
) -> None:
    window = change(feedback_window_s=60.0)
    batch, others = renamed(traffic(sent, seed=seed)), renamed(traffic(new, seed=seed), sender="f" * 16)
    once = [*stored([window, *batch]), *stored(others, start=100_000)]  # after more than the window
    twice = [*stored([window, *batch]), *stored([*batch, *others], start=100_000)]
    ours, theirs = learned(once), learned(twice)
    assert ours.snapshot(POLICY).arms == theirs.snapshot(POLICY).arms
    counts = [(p.selections, p.outcomes, p.feedbacks) for p in (ours.policies[POLICY], theirs.policies[POLICY])]
    assert counts[0] == counts[1]


def test_what_belongs_to_a_closed_decision_is_an_orphan_even_behind_a_repeated_selection() -> None:
    events = [change(max_open=1), selection(ids(1)), selection(ids(2)), selection(ids(1)), outcome(ids(1))]
    log = stored([*events, feedback(ids(1), 0.5)])
    log.append(StoredMessage(0, len(log), log[-1].time_ms + 61_000, *stored([selection(ids(3))])[0][3:]))
    learner = PartitionLearner(0)
    letters = [letter for message in log for letter in learner.apply(message).dead_letters]
    assert [(letter.reason, letter.offset) for letter in letters] == [("orphan", 4), ("orphan", 5)]
    policy = learner.policies[POLICY]
    assert (policy.selections, policy.outcomes, policy.duplicates) == (3, 0, 1)


def test_an_open_decision_of_a_sender_whose_later_ones_are_closed_still_counts() -> None:
    # Threads of one process send almost in order, but not exactly.
    learner = learned(stored([change(max_open=2), *(selection(ids(n)) for n in (5, 4, 7, 6)), outcome(ids(6))]))
    policy = learner.policies[POLICY]
    assert policy.outcomes == 1 and policy.duplicates == 0 and dict(policy.open.closed.numbers) == {SENDER: 5}


def test_ids_of_another_form_are_never_taken_for_repetitions() -> None:
    names = ["a", "a" * 24 + "0", SENDER.upper() + "00000001", f"{SENDER}0000000g", "x" * 24]
    events = [selection(name) for _ in range(3) for name in names]
    policy = learned(stored([change(max_open=1), *events])).policies[POLICY]
    assert policy.selections == len(events) and not policy.open.closed.numbers


def test_the_senders_longest_silent_are_forgotten_first() -> None:
    closed = ClosedDecisions()
    for number in range(MAX_SENDERS + 1):
        closed.add(ids(7, f"{number:016x}"))
        closed.add(ids(7, f"{0:016x}"))  # keeps sending
    assert len(closed.numbers) == MAX_SENDERS
    assert ids(7, f"{0:016x}") in closed and ids(7, f"{1:016x}") not in closed and ids(7, f"{2:016x}") in closed


@pytest.mark.parametrize("later_ms", [0, 30_000, 200_000])
def test_a_restored_learner_knows_what_was_closed_meanwhile(later_ms: int) -> None:
    """Also for a policy that got no event after its part was written, while time went on."""
    log = stored([change(feedback_window_s=60.0), *renamed(traffic(300))], step_ms=250)
    learner, writer, records = PartitionLearner(0), CheckpointWriter(), {}
    for message in log:
        learner.apply(message)
    records |= checkpoint_of(learner, writer)
    elsewhere = StoredMessage(0, len(log), log[-1].time_ms + later_ms, b"default/other", b"")
    other = selection("d0", policy="default/other")
    learner.apply(elsewhere._replace(value=stored([other])[0].value))
    log.append(elsewhere._replace(value=stored([other])[0].value))
    records |= checkpoint_of(learner, writer)
    restored = resumed(next(restorations(0, learner.topic, records)), log)
    assert dump(restored) == dump(learner)
    assert restored.policies[POLICY].open.closed.numbers == learner.policies[POLICY].open.closed.numbers


def test_a_flood_of_decisions_without_outcome_takes_no_more_memory_than_allowed() -> None:
    """No outcome arrives: the oldest are closed, in order, and the others stay unchanged."""
    keep, flood = 500, 6_000
    learner = PartitionLearner(0)
    learner.apply(stored([change(max_open=keep)])[0])
    log = stored((selection(ids(number)) for number in range(flood)), start=1, step_ms=1)
    tracemalloc.start()
    try:
        sizes = []
        for message in log:
            learner.apply(message)
            opened = learner.policies[POLICY].open
            assert len(opened) <= keep + 1  # closed with the next event
            if message.offset % 1_000 == 0:
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    learner.policies[POLICY].close(learner.now_ms)
    assert list(opened.decisions) == [ids(number) for number in range(flood - keep, flood)]
    assert learner.policies[POLICY].censored == flood - keep
    # An open decision takes about 1 KB. The JSON parser keeps up to 16,384 short strings, whatever they are.
    assert max(sizes) < sizes[0] + 16_384 * 90, sizes


def test_the_senders_clocks_make_no_difference() -> None:
    events = traffic(150)
    skewed = [event.model_copy(update={"time": (number * 7919) % 10**11}) for number, event in enumerate(events)]
    assert learned(stored(events)).snapshot(POLICY).hash == learned(stored(skewed)).snapshot(POLICY).hash
