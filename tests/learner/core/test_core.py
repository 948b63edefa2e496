import itertools
import math
import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_traffic import ARMS, POLICY, context, feedback, learned, outcome, selection, stored, traffic

from conduit_learner.core.join import MAX_EARLY, MAX_EARLY_MS, MAX_FEEDBACKS
from conduit_learner.core.partition_learner import MAX_POLICIES, PartitionLearner
from conduit_learner.models.posterior import posteriors
from conduit_learner.models.regression import BLOCK, Statistics
from conduit_log import StoredMessage
from conduit_policy import Prior
from conduit_schemas import (
    MAX_ARMS,
    MAX_SNAPSHOT_BYTES,
    DeadLetter,
    Event,
    LearningChange,
    LearningSettings,
    Snapshot,
    encode,
)


def change(**fields: object) -> LearningChange:
    return LearningChange(policy=POLICY, time=0.0, settings=LearningSettings.model_validate(fields))


def at(*timed: tuple[int, Event]) -> list[StoredMessage]:
    """Return a log of events, with append times in milliseconds."""
    return [
        StoredMessage(0, offset, time_ms, event.policy.encode(), encode(event))
        for offset, (time_ms, event) in enumerate(timed)
    ]


def result(events: Iterable[Event]) -> Snapshot:
    return learned(stored(events)).snapshot(POLICY)


def letters(log: Iterable[StoredMessage], learner: PartitionLearner | None = None) -> list[DeadLetter]:
    learner = learner or PartitionLearner(0)
    return [letter for message in log for letter in learner.apply(message).dead_letters]


def counted(snapshot: Snapshot) -> tuple[int, int, int, int, int]:
    return (
        snapshot.selections,
        snapshot.outcomes,
        snapshot.feedbacks,
        snapshot.censored,
        snapshot.open_decisions,
    )


def weights(snapshot: Snapshot, arm: str) -> dict[str, float]:
    return {signal: belief.weight for signal, belief in snapshot.arms[arm].signals.items()}


class TestLearning:
    def test_each_signal_learns_its_own_numbers(self) -> None:
        snapshot = result(
            [
                selection("d1", chosen=0),
                outcome("d1", cost_usd=math.exp(-5.0), latency_s=math.exp(0.5)),
                feedback("d1", 0.75),
                selection("d2", chosen=0),
                outcome("d2", status="error", cost_usd=1.0, latency_s=1.0),
            ]
        )
        arm = snapshot.arms["large"]
        averages = {signal: belief.average for signal, belief in arm.signals.items()}
        assert averages == pytest.approx({"quality": 0.75, "success": 0.5, "cost": -5.0, "latency": 0.5}, abs=1e-5)
        assert weights(snapshot, "large") == {"quality": 1.0, "success": 2.0, "cost": 1.0, "latency": 1.0}
        assert (arm.selections, arm.outcomes, arm.errors, arm.feedbacks, arm.model) == (2, 2, 1, 1, "vendor/large")

    def test_never_chosen_arms_are_there_and_cold(self) -> None:
        snapshot = result([selection("d1", chosen=0), outcome("d1")])
        assert set(snapshot.arms) == set(ARMS)
        assert weights(snapshot, "small") == dict.fromkeys(("quality", "success", "cost", "latency"), 0.0)
        assert snapshot.arms["small"].selections == 0

    def test_the_posterior_is_that_of_the_contexts_behind_the_outcomes(self) -> None:
        events: list[Event] = []
        contexts = []
        for number in range(BLOCK - 1):  # nothing fades until a block is full
            chosen = selection(f"d{number}", chosen=number % 2)
            events += [chosen, feedback(f"d{number}", (number % 7) / 8.0)]
            contexts.append(np.frombuffer(chosen.context, "<i2") / 1024.0)
        x, y = np.array(contexts), np.arange(BLOCK - 1) % 7 / 8.0
        parts = [Statistics(x[a::2].T @ x[a::2], x[a::2].T @ y[a::2], float(y[a::2] @ y[a::2])) for a in range(2)]
        nothing = Statistics(np.zeros((64, 64)), np.zeros(64), 0.0)
        expected = posteriors({"quality": [*parts, nothing]}, prior=Prior.of(LearningSettings()))["quality"]
        snapshot = result(events)
        assert [snapshot.arms[arm].signals["quality"] for arm in ARMS[:2]] == expected[:2]

    def test_a_block_of_events_fades_what_came_before(self) -> None:
        events: list[Event] = [change(window_size=100)]
        for number in range(BLOCK + 1):
            events += [selection(f"d{number}", chosen=number % 3), feedback(f"d{number}", 0.5)]
        faded = 1.0 - BLOCK / (100 * len(ARMS))
        first = len(range(0, BLOCK, 3))
        assert weights(result(events[:-2]), "large")["quality"] == pytest.approx(first * faded)
        # The 65th event is the second arm's and belongs to the next block.
        assert weights(result(events), "medium")["quality"] == pytest.approx(len(range(1, BLOCK, 3)) * faded + 1.0)

    def test_a_small_window_fades_to_half_a_block_at_most(self) -> None:
        events: list[Event] = [change(window_size=10)]
        for number in range(BLOCK):
            events += [selection(f"d{number}", chosen=0), feedback(f"d{number}", 0.5)]
        assert weights(result(events), "large")["quality"] == pytest.approx(BLOCK / 2)

    def test_without_context_one_mean_per_arm_is_learned(self) -> None:
        events = [change(algorithm="ucb1"), *traffic(50)]
        for arm in result(events).arms.values():
            for belief in arm.signals.values():
                assert not np.frombuffer(belief.mean, "<f4")[1:].any()
                assert len(belief.mean) == 4 * 64

    def test_the_intercept_is_one_whatever_the_sender_wrote(self) -> None:
        honest = selection("d1", chosen=0)
        forged = honest.model_copy(update={"context": b"\x00\x70" + honest.context[2:]})
        assert result([forged, outcome("d1", cost_usd=1.0)]).arms == result([honest, outcome("d1", cost_usd=1.0)]).arms

    def test_the_order_of_keys_in_a_record_does_not_matter(self) -> None:
        events = traffic(200)
        shuffled = []
        for event in events:
            fields = event.model_dump()
            shuffled.append(type(event).model_validate(dict(reversed(fields.items()))))
        assert result(shuffled).hash == result(events).hash


class TestSettings:
    def test_repeating_the_settings_in_force_changes_nothing(self) -> None:
        events = traffic(100)
        plain = result([change(), *events])
        repeated = result(itertools.chain([change()], *([event, change()] for event in events)))
        assert repeated.arms == plain.arms
        assert repeated.settings == plain.settings

    def test_other_weights_of_the_same_models_keep_what_was_learned(self) -> None:
        events = [*traffic(100), change(algorithm="linucb", lambda_reg=7.0, params={"alpha": 2.0})]
        snapshot = result(events)
        assert weights(snapshot, "large") == weights(result(events[:-1]), "large")
        assert snapshot.rule.name == "ucb"
        assert snapshot.rule.params == {"alpha": 2.0}

    @pytest.mark.parametrize(
        "fields",
        [{"featurizer": "other"}, {"dimension": 5}, {"algorithm": "thompson"}],
        ids=lambda fields: next(iter(fields)),
    )
    def test_contexts_of_another_meaning_start_afresh(self, fields: dict[str, object]) -> None:
        events = traffic(100)
        before, after = result(events), result([*events, change(**fields)])
        kept = weights(after, "large")
        assert kept.pop("success") == weights(before, "large")["success"] > 0.0
        assert set(kept.values()) == {0.0}
        assert after.arms["large"].outcomes == before.arms["large"].outcomes

    def test_without_context_another_featurizer_is_no_reason_to_forget(self) -> None:
        events = [change(algorithm="ucb1"), *traffic(100)]
        after = result([*events, change(algorithm="ucb1", featurizer="other")])
        assert weights(after, "large") == weights(result(events), "large")

    def test_contexts_the_models_do_not_understand_teach_only_what_needs_none(self) -> None:
        for wrong in ({"featurizer": "other"}, {"context": bytes(10)}):
            snapshot = result(
                [selection("d1", chosen=0, **wrong), outcome("d1", cost_usd=1.0, latency_s=1.0), feedback("d1", 1.0)]
            )
            assert counted(snapshot) == (1, 1, 1, 0, 0)
            assert weights(snapshot, "large") == {"quality": 0.0, "success": 1.0, "cost": 0.0, "latency": 0.0}

    def test_settings_that_name_nothing_are_refused_and_leave_no_trace(self) -> None:
        learner = PartitionLearner(0)
        [letter] = letters(stored([change(algorithm="magic")]), learner)
        assert letter.reason == "invalid"
        assert "no algorithm 'magic'" in letter.message
        assert learner.policies == {}


class TestJoin:
    def test_the_first_outcome_counts_and_each_feedback_once(self) -> None:
        snapshot = result(
            [
                selection("d1", chosen=0),
                outcome("d1"),
                outcome("d1", status="error"),
                feedback("d1", 1.0, source="app"),
                feedback("d1", 0.0, source="app"),
                feedback("d1", 0.5, source="judge"),
                feedback("d1", 0.5, source="app", key="style"),
            ]
        )
        assert counted(snapshot) == (1, 1, 3, 0, 0)
        assert snapshot.arms["large"].signals["quality"].average == pytest.approx(2.0 / 3.0, abs=1e-5)
        assert snapshot.arms["large"].signals["success"].average == 1.0

    def test_a_selection_sent_twice_counts_once(self) -> None:
        assert counted(result([selection("d1"), selection("d1"), outcome("d1"), selection("d1")])) == (1, 1, 0, 0, 0)

    def test_feedback_needs_no_outcome(self) -> None:
        snapshot = result([selection("d1", chosen=0), feedback("d1", 1.0)])
        assert counted(snapshot) == (1, 0, 1, 0, 1)
        assert weights(snapshot, "large")["quality"] == 1.0

    def test_one_decision_takes_a_bounded_number_of_feedbacks(self) -> None:
        events = [selection("d1"), *(feedback("d1", 1.0, key=str(number)) for number in range(MAX_FEEDBACKS + 5))]
        assert result(events).feedbacks == MAX_FEEDBACKS

    def test_a_choice_of_litellm_teaches_as_well(self) -> None:
        chosen = selection("d1", chosen=2, fallback="no_snapshot")
        assert weights(result([chosen, outcome("d1")]), "small")["success"] == 1.0

    def test_time_closes_decisions_and_those_without_outcome_are_censored(self) -> None:
        window = change(feedback_window_s=10.0)
        log = at(
            (0, window),
            (1_000, selection("d1")),
            (1_000, selection("d2")),
            (2_000, outcome("d1")),
            (11_000, feedback("d1", 1.0)),
            (11_001, feedback("d2", 1.0)),
        )
        assert counted(learned(log[:5]).snapshot(POLICY)) == (2, 1, 1, 0, 1)
        learner = learned(log)
        assert counted(learner.snapshot(POLICY)) == (2, 1, 1, 1, 0)
        [letter] = learner.apply(log[0]._replace(offset=6, time_ms=11_002 + MAX_EARLY_MS)).dead_letters
        assert (letter.reason, letter.offset) == ("orphan", 5)

    def test_time_goes_by_for_policies_that_hear_nothing(self) -> None:
        log = at(
            (0, change(feedback_window_s=10.0)),
            (0, selection("d1")),
            (20_000, selection("x1", policy="default/other")),
        )
        assert counted(learned(log).snapshot(POLICY)) == (1, 0, 0, 1, 0)

    def test_a_clock_set_back_reopens_nothing(self) -> None:
        log = at(
            (0, change(feedback_window_s=10.0)),
            (0, selection("d1")),
            (20_000, selection("d2")),
            (1, outcome("d1")),
        )
        snapshot = learned(log).snapshot(POLICY)
        assert counted(snapshot) == (2, 0, 0, 1, 1)
        assert snapshot.stream_time_ms == 20_000

    def test_number_closes_decisions_oldest_first(self) -> None:
        events = [change(max_open=2), *(selection(f"d{number}") for number in range(5))]
        assert counted(result(events)) == (5, 0, 0, 3, 2)
        assert counted(result([*events, outcome("d3"), outcome("d2")])) == (5, 1, 0, 3, 1)

    def test_an_early_outcome_waits_for_its_selection(self) -> None:
        snapshot = result([outcome("d1", status="error"), feedback("d1", 0.5), selection("d1"), outcome("d1")])
        assert counted(snapshot) == (1, 1, 1, 0, 0)
        assert sum(arm.errors for arm in snapshot.arms.values()) == 1

    def test_early_events_of_different_policies_do_not_meet(self) -> None:
        events = [outcome("d1", policy="default/other"), selection("d1")]
        assert counted(result(events)) == (1, 0, 0, 0, 1)

    def test_early_events_wait_a_bounded_time(self) -> None:
        just, late = MAX_EARLY_MS, MAX_EARLY_MS + 1
        assert letters(at((0, outcome("d1")), (just, selection("d1")))) == []
        [letter] = letters(at((0, outcome("d1")), (late, selection("d1"))))
        assert (letter.reason, letter.offset, letter.time_ms) == ("orphan", 0, 0)
        assert "'d1'" in letter.message

    def test_early_events_wait_in_a_bounded_queue(self) -> None:
        events = [outcome(f"d{number}") for number in range(MAX_EARLY + 3)]
        assert [letter.offset for letter in letters(stored(events, step_ms=0))] == [0, 1, 2]

    @given(st.permutations(range(6)))
    @pytest.mark.campaign
    def test_what_is_learned_does_not_depend_on_who_was_faster(self, order: list[int]) -> None:
        events = [
            selection("d1", chosen=0),
            outcome("d1", cost_usd=0.5, latency_s=2.0),
            feedback("d1", 0.25),
            selection("d2", chosen=0),
            outcome("d2", cost_usd=0.1, latency_s=1.0),
            feedback("d2", 0.5),
        ]
        shuffled = result([events[index] for index in order])
        assert shuffled.arms == result(events).arms


class TestLimits:
    def test_arms_that_left_make_room_for_new_ones(self) -> None:
        learner = PartitionLearner(0)
        events = [
            selection(f"d{number}", arms=(f"arm{number:03}", "always"), models=(), chosen=number % 2)
            for number in range(MAX_ARMS + 10)
        ]
        for message in stored(events):
            learner.apply(message)
        arms = learner.policies[POLICY].arms
        assert len(arms) == MAX_ARMS
        assert "always" in arms
        assert f"arm{MAX_ARMS + 9:03}" in arms
        assert "arm010" not in arms
        assert "arm011" in arms
        learner.apply(stored([outcome("d0")], start=learner.offset)[0])  # its arm is forgotten, its outcome counts
        assert learner.snapshot(POLICY).outcomes == 1

    def test_a_snapshot_of_many_large_arms_fits_into_a_record(self) -> None:
        names = tuple(f"{number:03}" + "é" * 200 for number in range(MAX_ARMS))
        events: list[Event] = [change(dimension=256)]
        for start in range(0, MAX_ARMS, 8):
            part = names[start : start + 8]
            events.append(selection(f"d{start}", arms=part, models=part, chosen=0, context=bytes(512)))
        snapshot = result(events)
        assert len(encode(snapshot)) <= MAX_SNAPSHOT_BYTES
        assert set(snapshot.arms) >= set(names[-8:])
        assert 40 < len(snapshot.arms) < MAX_ARMS

    def test_a_partition_holds_a_bounded_number_of_policies(self) -> None:
        learner = PartitionLearner(0)
        for number in range(MAX_POLICIES):
            learner._add_policy(f"p{number}")
        [letter] = letters(stored([selection("d1", policy="one/more")]), learner)
        assert letter.reason == "too_many"


class TestRefusals:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (b"", "invalid"),
            (b"\xff\xfe", "invalid"),
            (b"[]", "invalid"),
            (b"{}", "invalid"),
            (b'{"kind": "selection"}', "invalid"),
            (b'{"kind": "surprise", "policy": "p", "time": 0}', "unknown_kind"),
            (encode(selection("d1")).replace(b'"1.0"', b'"2.0"'), "newer_version"),
            (encode(outcome("d1", latency_s=1.0)).replace(b'"latency_s":1.0', b'"latency_s":NaN'), "invalid"),
            (b"[" * 60_000, "invalid"),
            (b" " * 70_000, "too_large"),
            (b'{"policy": "\\ud800"}', "invalid"),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_unusable_records_are_kept_with_reason_and_position(self, value: bytes, reason: str) -> None:
        learner = learned(stored(traffic(30)))
        before, offset = learner.snapshot(POLICY), learner.offset
        policy, [letter] = learner.apply(StoredMessage(0, offset, learner.now_ms, b"key", value))
        assert policy is None
        assert (letter.reason, letter.partition, letter.offset, letter.topic) == (reason, 0, offset, "conduit.events")
        assert (letter.record_key, letter.record, letter.record_bytes) == (b"key", value[:32_768], len(value))
        assert letter.message
        encode(letter)
        after = learner.snapshot(POLICY)
        assert after.offset == before.offset + 1
        assert after.model_copy(update={"offset": before.offset}).digest() == before.hash

    def test_a_record_under_another_key_is_refused(self) -> None:
        message = stored([selection("d1")])[0]._replace(key=b"default/other")
        [letter] = letters([message])
        assert letter.reason == "wrong_partition"
        assert "default/chat" in letter.message

    @given(st.lists(st.binary(max_size=200), max_size=20), st.integers(-(2**63), 2**63 - 1))
    @settings(deadline=None)
    @pytest.mark.campaign
    def test_no_bytes_stop_the_learner_or_change_a_model(self, records: list[bytes], time_ms: int) -> None:
        learner = learned(stored(traffic(5)))
        arms = learner.snapshot(POLICY).arms
        for record in records:
            learner.apply(StoredMessage(0, learner.offset, min(time_ms, 2**60), record, record))
        assert learner.snapshot(POLICY).arms == arms

    @given(st.data())
    @settings(deadline=None, max_examples=200)
    @pytest.mark.campaign
    def test_no_damaged_event_stops_the_learner(self, data: st.DataObject) -> None:
        log = stored(traffic(10))
        learner = PartitionLearner(0)
        for message in log:
            value = bytearray(message.value)
            for _ in range(data.draw(st.integers(0, 2))):
                value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
            for letter in learner.apply(message._replace(value=bytes(value))).dead_letters:
                encode(letter)
        for policy in learner.policies:
            encode(learner.snapshot(policy))


def test_extreme_numbers_give_a_valid_snapshot() -> None:
    corner = np.full(64, -32768, "<i2").tobytes()
    events: list[Event] = [change(lambda_reg=1e-300)]
    for number in range(300):
        vector = corner if number % 2 else context(random.Random(number))
        events += [
            selection(f"d{number}", context=vector),
            outcome(f"d{number}", cost_usd=5e-324 if number % 3 else 1e6, latency_s=1e6),
        ]
    assert isinstance(result(events), Snapshot)
    assert encode(result(events))
