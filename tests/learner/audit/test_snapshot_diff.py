import math

import pytest
from audit_traffic import POLICY, SETTINGS, Installation

from conduit_learner.audit.replay import Position, snapshots_at
from conduit_learner.audit.snapshot_diff import diff_snapshots
from conduit_schemas import ArmSnapshot, ConfigurationError, LearningChange, SignalPosterior, Snapshot


@pytest.fixture(scope="module")
def installation() -> Installation:
    made = Installation().run(40)
    made.put(LearningChange(policy=POLICY, time=0.0, settings=SETTINGS.model_copy(update={"window_size": 500})))
    return made.run(100, seed=1)


def posterior(average: float, weight: float, sigma: float = 0.1) -> SignalPosterior:
    return SignalPosterior(
        mean=bytes(32), precision=bytes(32), baseline=average, sigma=sigma, average=average, weight=weight
    )


def with_arms(snapshot: Snapshot, **arms: ArmSnapshot) -> Snapshot:
    return snapshot.model_copy(update={"arms": arms})


def test_what_was_learned_between_two_real_snapshots(installation: Installation) -> None:
    before, after = snapshots_at(installation.log, POLICY, [Position(offset=100), Position()])
    found = diff_snapshots(before, after)
    assert found.settings == {"window_size": (2000, 500)}
    for name, change in found.arms.items():
        old, new = before.arms[name], after.arms[name]
        assert (change.status, change.model) == ("kept", f"vendor/{name}")
        assert change.counts == {
            field: getattr(new, field) - getattr(old, field)
            for field in ("selections", "outcomes", "errors", "feedbacks")
        }
        assert change.signals["cost"].after == math.exp(new.signals["cost"].average)
        assert change.signals["quality"].before == old.signals["quality"].average
        assert change.signals["quality"].after_weight == new.signals["quality"].weight
    assert sum(change.counts["selections"] for change in found.arms.values()) == after.selections - before.selections


def test_nothing_changes_between_equal_snapshots(installation: Installation) -> None:
    snapshot = installation.learner.snapshot(POLICY)
    found = diff_snapshots(snapshot, snapshot)
    assert found.settings == {}
    assert not any(signal.is_clear for arm in found.arms.values() for signal in arm.signals.values())


def test_a_change_is_clear_beyond_two_standard_errors(installation: Installation) -> None:
    base = installation.learner.snapshot(POLICY)
    before = with_arms(base, a=ArmSnapshot(signals={"quality": posterior(0.5, 100.0)}))
    # Standard errors are 0.01 and 0.01, so the difference's is 0.0141.
    for moved, clear in ((0.5 + 0.0282, False), (0.5 + 0.0284, True), (0.5 - 0.0284, True)):
        after = with_arms(base, a=ArmSnapshot(signals={"quality": posterior(moved, 100.0)}))
        assert diff_snapshots(before, after).arms["a"].signals["quality"].is_clear is clear


def test_arms_come_and_go_and_signals_are_first_observed(installation: Installation) -> None:
    base = installation.learner.snapshot(POLICY)
    before = with_arms(
        base, old=ArmSnapshot(model="m"), kept=ArmSnapshot(signals={"cost": posterior(-3.0, 0.0)}, selections=1)
    )
    after = with_arms(
        base, new=ArmSnapshot(selections=7), kept=ArmSnapshot(signals={"cost": posterior(-2.0, 5.0)}, selections=4)
    )
    arms = diff_snapshots(before, after).arms
    assert [(name, arm.status) for name, arm in arms.items()] == [("kept", "kept"), ("new", "new"), ("old", "gone")]
    assert arms["old"].model == "m" and arms["old"].counts == {}
    assert arms["new"].counts["selections"] == 7
    assert arms["kept"].counts["selections"] == 3
    cost = arms["kept"].signals["cost"]
    assert (cost.before, cost.after, cost.is_clear) == (None, math.exp(-2.0), False)


def test_two_policies_have_nothing_to_compare(installation: Installation) -> None:
    snapshot = installation.learner.snapshot(POLICY)
    with pytest.raises(ConfigurationError, match="cannot compare snapshots"):
        diff_snapshots(snapshot, snapshot.model_copy(update={"policy": "default/other"}))
