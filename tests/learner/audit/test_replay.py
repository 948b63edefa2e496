"""Rebuilt snapshots: from the beginning, from a checkpoint, at any position."""

import pytest
from audit_traffic import POLICY, Installation

from conduit_learner.audit.history import TrimmedError
from conduit_learner.audit.replay import LATEST, Position, before, rebuild, replay_partition, snapshots_at
from conduit_learner.core.checkpoint import CheckpointError
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_schemas import ConfigurationError, decode_snapshot

OTHER = "default/code"


@pytest.fixture(scope="module")
def installation() -> Installation:
    made = Installation(policies=(POLICY, OTHER)).run(150)
    made.checkpoint()
    return made.run(100, seed=1)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("latest", LATEST),
        ("0", Position(offset=0)),
        ("1200", Position(offset=1200)),
        ("1970-01-01T00:00:02", Position(time_ms=2000)),
        ("1970-01-01T01:00:02+01:00", Position(time_ms=2000)),
        ("1970-01-02", Position(time_ms=86_400_000)),
    ],
)
def test_positions(text: str, position: Position) -> None:
    assert Position.parse(text) == position


@pytest.mark.parametrize("text", ["", "-1", "yesterday", "1.5", "²"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a position"):
        Position.parse(text)


def test_every_published_snapshot_is_built_again_to_the_bit(installation: Installation) -> None:
    published = [decode_snapshot(m.value) for m in installation.published if m.key == POLICY.encode()]
    assert len({snapshot.hash for snapshot in published}) > 10
    positions = [Position(offset=snapshot.offset) for snapshot in published]
    assert snapshots_at(installation.log, POLICY, positions) == published


def test_the_order_asked_for_is_kept_and_positions_may_repeat(installation: Installation) -> None:
    late, early, again = snapshots_at(
        installation.log, POLICY, [Position(offset=300), Position(offset=90), Position(offset=300)]
    )
    assert (late.offset, early.offset) == (300, 90)
    assert again == late


def test_latest_is_after_everything(installation: Installation) -> None:
    assert rebuild(installation.log, POLICY) == installation.learner.snapshot(POLICY)
    end = len(installation.log)
    assert rebuild(iter(installation.log), POLICY, until=Position(offset=end)).offset == end


def test_a_time_stops_before_the_first_event_at_or_after_it(installation: Installation) -> None:
    message = installation.log[200]
    assert rebuild(installation.log, POLICY, until=Position(time_ms=message.time_ms)).offset == 200
    assert rebuild(installation.log, POLICY, until=Position(time_ms=message.time_ms + 1)).offset == 201
    later = Position(time_ms=installation.log[-1].time_ms + 10_000)
    assert rebuild(installation.log, POLICY, until=later).offset == len(installation.log)


def test_only_as_much_is_read_as_is_needed(installation: Installation) -> None:
    waiting = iter(installation.log)
    rebuild(waiting, POLICY, until=Position(offset=100))
    assert next(waiting).offset == 101


@pytest.mark.parametrize(
    ("policy", "position", "reason"),
    [
        (POLICY, Position(offset=10**6), "the events end at offset"),
        (POLICY, Position(offset=0), "has no event before offset 0"),
        (POLICY, Position(time_ms=5), "has no event before 1970-01-01T00:00:00.005"),
        ("default/unknown", LATEST, "'default/unknown' has no event before the end"),
    ],
)
def test_what_cannot_be_built_is_said(installation: Installation, policy: str, position: Position, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        rebuild(installation.log, policy, until=position)


def test_messages_before_a_position_can_be_read_again(installation: Installation) -> None:
    part = before(installation.log, Position(offset=5))
    assert [message.offset for message in part] == [message.offset for message in part] == [0, 1, 2, 3, 4]
    assert before(installation.log, LATEST) is installation.log


def test_an_empty_partition_has_no_life() -> None:
    assert list(replay_partition([])) == []


class TestTrimmed:
    """The oldest events were deleted."""

    def test_a_checkpoint_stands_for_them(self, installation: Installation) -> None:
        cut = installation.log[2:]
        since = next(replay_partition(cut, lambda: installation.checkpoints)).start_offset
        assert 2 < since < len(installation.log)
        for position in (LATEST, Position(offset=since), Position(time_ms=installation.log[since].time_ms)):
            snapshot = rebuild(cut, POLICY, until=position, checkpoints=lambda: installation.checkpoints)
            assert snapshot == rebuild(installation.log, POLICY, until=position)

    @pytest.mark.parametrize("position", [Position(offset=20), Position(time_ms=1_000_200)])
    def test_what_lies_before_the_checkpoint_is_not_known(self, installation: Installation, position: Position) -> None:
        with pytest.raises(ConfigurationError, match="the oldest state that can be rebuilt"):
            rebuild(installation.log[2:], POLICY, until=position, checkpoints=lambda: installation.checkpoints)

    def test_without_a_checkpoint_nothing_is_known(self, installation: Installation) -> None:
        with pytest.raises(TrimmedError, match="the events before offset 1 were deleted"):
            rebuild(installation.log[1:], POLICY)

    def test_a_checkpoint_whose_open_decisions_are_gone_is_of_no_use(self, installation: Installation) -> None:
        # The first decision is still open there, and its selection has been removed.
        cut = installation.log[installation.offset_of("d1") :]
        with pytest.raises(TrimmedError, match="were deleted"):
            rebuild(cut, POLICY, checkpoints=lambda: installation.checkpoints)

    def test_a_checkpoint_after_the_last_event_is_of_no_use(self, installation: Installation) -> None:
        with pytest.raises(TrimmedError, match="after the last event"):
            rebuild(installation.log[2:50], POLICY, checkpoints=lambda: installation.checkpoints)

    def test_a_checkpoint_right_at_the_end_is_the_end(self, installation: Installation) -> None:
        learner = PartitionLearner(0)
        since = next(replay_partition(installation.log[2:], lambda: installation.checkpoints)).start_offset
        for message in installation.log[:since]:
            learner.apply(message)
        part = installation.log[2:since]
        assert rebuild(part, POLICY, checkpoints=lambda: installation.checkpoints) == learner.snapshot(POLICY)

    def test_another_logs_checkpoint_is_refused(self, installation: Installation) -> None:
        since = next(replay_partition(installation.log[2:], lambda: installation.checkpoints)).start_offset
        forged = installation.tampered(since - 1, time=7.0)
        with pytest.raises(CheckpointError, match="a different log"):
            rebuild(forged[2:], POLICY, checkpoints=lambda: installation.checkpoints)
