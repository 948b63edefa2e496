"""Every forgery that changes what was learned or chosen is found, and nothing else is reported."""

import pytest
from audit_traffic import ARMS, POLICY, Installation

from conduit_learner.audit.replay import Position, replay_partition
from conduit_learner.audit.verification import Mismatch, verify
from conduit_log import StoredMessage
from conduit_schemas import Fallback, Selection, decode_event, decode_snapshot, encode
from conduit_schemas.reasons import NothingToProve, NotProvable

OTHER = "default/code"


@pytest.fixture(scope="module")
def installation() -> Installation:
    return Installation(policies=(POLICY, OTHER)).run(200)


def decisions(log: list[StoredMessage], policy: str = POLICY) -> list[Selection]:
    events = [decode_event(message.value) for message in log]
    return [event for event in events if isinstance(event, Selection) and event.policy == policy]


def only_mismatch(log: list[StoredMessage]) -> Mismatch:
    result = verify(log, POLICY)
    (mismatch,) = result.mismatches
    assert result.mismatched == 1
    return mismatch


def test_an_honest_log_is_proven_in_full(installation: Installation) -> None:
    made = decisions(installation.log)
    named = {selection.snapshot_version for selection in made} - {None}
    own = [m for m in installation.stored_published() if m.key == POLICY.encode()]
    result = verify(iter(installation.log), POLICY, published=own)
    assert result.mismatches == [] and result.not_provable == {} and result.start_offset == 0
    assert result.nothing_to_prove == {Fallback.NO_SNAPSHOT: 10}
    assert result.decisions_matched == len(made) - 10 == 90
    assert result.published_matched == len(own)
    assert result.snapshots_matched == len(named | {decode_snapshot(m.value).offset for m in own}) == 10
    assert result.largest_difference == 0.0
    assert result.snapshot == installation.learner.snapshot(POLICY)


def test_a_changed_outcome_breaks_every_snapshot_after_it(installation: Installation) -> None:
    offset = installation.offset_of("d44", "outcome")
    result = verify(installation.tampered(offset, cost_usd=3.0), POLICY)
    stale = [s for s in decisions(installation.log) if (s.snapshot_version or 0) > offset]
    assert 0 < len(stale) < 90
    assert result.mismatched == len(stale)
    assert [mismatch.decision_id for mismatch in result.mismatches] == [s.decision_id for s in stale]
    assert result.mismatches[0].offset == installation.offset_of(stale[0].decision_id)
    assert "has hash" in result.mismatches[0].what
    assert result.decisions_matched == 90 - len(stale)


def test_another_policys_events_do_not_matter_but_their_time_does(installation: Installation) -> None:
    offset = installation.offset_of("d45", "outcome")
    assert verify(installation.tampered(offset, cost_usd=3.0), POLICY).mismatched == 0
    moved = [m._replace(time_ms=2_000_000) if m.offset == offset else m for m in installation.log]
    assert verify(moved, POLICY).mismatched > 0


def test_a_missing_event_is_found(installation: Installation) -> None:
    offset = installation.offset_of("d44", "outcome")
    cut = [m for m in installation.log if m.offset != offset]
    assert verify(cut, POLICY).mismatched > 0


class TestOneForgedDecision:
    """Only the record itself is wrong. What was learned stays the same, up to the last decision."""

    def forged(self, installation: Installation, **changes: object) -> Mismatch:
        last = decisions(installation.log)[-1]
        found = only_mismatch(installation.tampered(installation.offset_of(last.decision_id), **changes))
        assert (found.topic, found.decision_id) == ("events", last.decision_id)
        return found

    def test_a_probability(self, installation: Installation) -> None:
        last = decisions(installation.log)[-1]
        assert last.probabilities is not None
        other = (last.chosen + 1) % 3
        lied = list(last.probabilities)
        lied[last.chosen], lied[other] = lied[last.chosen] - 0.002, lied[other] + 0.002
        assert "has probability" in self.forged(installation, probabilities=tuple(lied)).what

    def test_a_difference_within_the_tolerance_is_none(self, installation: Installation) -> None:
        last = decisions(installation.log)[-1]
        assert last.probabilities is not None
        lied = list(last.probabilities)
        lied[last.chosen] += 4e-7
        log = installation.tampered(installation.offset_of(last.decision_id), probabilities=tuple(lied))
        result = verify(log, POLICY)
        assert result.mismatched == 0
        assert result.largest_difference == pytest.approx(4e-7, rel=1e-3)

    def test_the_chosen_arm(self, installation: Installation) -> None:
        chosen = (decisions(installation.log)[-1].chosen + 1) % 3
        what = self.forged(installation, chosen=chosen).what
        assert f"{ARMS[chosen]!r} was logged" in what and "decision's id draws" in what

    def test_the_hash(self, installation: Installation) -> None:
        assert "not 0000" in self.forged(installation, snapshot_hash="0" * 64).what

    def test_a_missing_hash(self, installation: Installation) -> None:
        assert "not None" in self.forged(installation, snapshot_hash=None).what

    def test_a_snapshot_of_the_future(self, installation: Installation) -> None:
        assert "did not exist yet" in self.forged(installation, snapshot_version=len(installation.log)).what

    def test_a_snapshot_before_the_policy(self, installation: Installation) -> None:
        assert "before any event of the policy" in self.forged(installation, snapshot_version=0).what

    def test_the_flags(self, installation: Installation) -> None:
        assert "the flags are" in self.forged(installation, flags=("invented",)).what

    def test_a_prediction(self, installation: Installation) -> None:
        predicted = {**decisions(installation.log)[-1].predictions, "quality": (0.1, 0.2, 0.3)}
        assert "predicted quality" in self.forged(installation, predictions=predicted).what

    def test_an_invalid_objective(self, installation: Installation) -> None:
        assert "is invalid" in self.forged(installation, objective={"quality": -1.0}).what

    def test_another_objective(self, installation: Installation) -> None:
        objective = {"quality": 0.0, "cost": 1.0, "latency": 0.0}
        assert "has probability" in self.forged(installation, objective=objective).what

    def test_features_of_another_length(self, installation: Installation) -> None:
        assert "has 4 features" in self.forged(installation, context=bytes(8)).what

    def test_no_probabilities(self, installation: Installation) -> None:
        assert "no probabilities" in self.forged(installation, probabilities=None).what


def test_many_mismatches_are_all_counted_and_some_are_kept() -> None:
    log = Installation().run(160, publish_every=10)
    result = verify(log.tampered(0, settings=log.learner.policies[POLICY].settings, changed_by="me", time=2.0), POLICY)
    assert result.mismatched == 0  # the author of a change, and the time on their clock, are not learned from
    result = verify(log.tampered(2, status="error"), POLICY)
    assert (result.mismatched, len(result.mismatches)) == (150, 100)


def test_decisions_without_a_snapshot_are_told_apart() -> None:
    made = Installation()
    fields = {"policy": POLICY, "time": 0.0, "featurizer": "eight", "context": bytes(16), "chosen": 0}
    made.put(Selection(decision_id="one", arms=("a",), probabilities=(1.0,), **fields))  # type: ignore[arg-type]  # a dict of many kinds
    made.put(Selection(decision_id="two", arms=("a", "b"), probabilities=(0.5, 0.5), **fields))  # type: ignore[arg-type]  # as above
    made.put(Selection(decision_id="three", arms=("a", "b"), fallback="error", **fields))  # type: ignore[arg-type]  # as above
    assert verify(made.log, POLICY).nothing_to_prove == {
        NothingToProve.ONE_DEPLOYMENT: 1,
        NothingToProve.NOT_CONDUIT: 1,
        Fallback.ERROR: 1,
    }


def test_unusable_records_are_passed_over(installation: Installation) -> None:
    junk = StoredMessage(0, len(installation.log), 2_000_000, POLICY.encode(), b'{"snapshot_hash": 1}')
    result = verify([*installation.log, junk], POLICY)
    assert (result.mismatched, result.decisions_matched) == (0, 90)


class TestPublished:
    """Records on the snapshot topic."""

    def mismatches(self, installation: Installation, key: str, value: bytes) -> list[Mismatch]:
        record = StoredMessage(0, 77, 0, key.encode(), value)
        found = verify(installation.log, POLICY, published=[record]).mismatches
        assert all((mismatch.topic, mismatch.offset) == ("snapshots", 77) for mismatch in found)
        return found

    def test_a_damaged_one_is_found(self, installation: Installation) -> None:
        value = installation.published[-2].value.replace(b'"selections":', b'"selections":1', 1)
        (mismatch,) = self.mismatches(installation, POLICY, value)
        assert "its hash does not match its content" in mismatch.what

    def test_a_forged_and_sealed_one_is_found(self, installation: Installation) -> None:
        snapshot = decode_snapshot(installation.published[-2].value)
        forged = snapshot.model_copy(update={"selections": snapshot.selections + 1}).sealed()
        (mismatch,) = self.mismatches(installation, POLICY, encode(forged))
        assert "has hash" in mismatch.what

    def test_another_policys_is_found(self, installation: Installation) -> None:
        (mismatch,) = self.mismatches(installation, POLICY, installation.published[-1].value)
        assert OTHER in mismatch.what

    def test_one_from_beyond_the_end_is_found(self, installation: Installation) -> None:
        snapshot = decode_snapshot(installation.published[-2].value).model_copy(update={"offset": 10**9}).sealed()
        (mismatch,) = self.mismatches(installation, POLICY, encode(snapshot))
        assert "the events end before that" in mismatch.what


def test_until_a_position_only_what_is_before_counts(installation: Installation) -> None:
    own = [m for m in installation.stored_published() if m.key == POLICY.encode()]
    position = Position(offset=300)
    result = verify(installation.log, POLICY, until=position, published=own)
    assert result.mismatches == [] and result.not_provable == {}
    assert result.snapshot is not None and result.snapshot.offset == 300
    assert result.published_matched == sum(decode_snapshot(m.value).offset <= 300 for m in own)
    assert result.decisions_matched == sum(s.snapshot_version is not None for s in decisions(installation.log[:300]))


def test_without_the_oldest_events_it_says_what_cannot_be_proven() -> None:
    made = Installation().run(110)
    made.checkpoint()
    made.run(60, seed=1)
    cut = made.log[1:]
    since = next(replay_partition(cut, lambda: made.checkpoints)).start_offset
    result = verify(cut, POLICY, published=made.stored_published(), checkpoints=lambda: made.checkpoints)
    named = [(s.snapshot_version or 0) for s in decisions(made.log) if s.snapshot_version is not None]
    published = [decode_snapshot(m.value).offset for m in made.published]
    assert result.start_offset == since
    assert result.decisions_matched == sum(version >= since for version in named)
    assert 0 < result.decisions_matched < 60
    assert result.published_matched == sum(version >= since for version in published)
    unproven = sum(version < since for version in [*named, *published])
    assert result.not_provable == {NotProvable.EVENTS_DELETED: unproven}
    assert result.mismatches == []
    nothing = verify(cut, POLICY, published=made.stored_published())
    assert nothing.snapshot is None and nothing.decisions_matched == 0
    assert nothing.not_provable == {NotProvable.NO_CHECKPOINT: len(named) + len(published)}
