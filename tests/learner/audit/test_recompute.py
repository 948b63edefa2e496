from conduit_learner.audit.recompute import recompute
from conduit_policy import REVISION, Beliefs
from conduit_schemas import ExplorationRule, LearningSettings, Selection, Snapshot


def taken_with(revision: int) -> object:
    snapshot = Snapshot(
        policy="default/chat",
        partition=0,
        offset=0,
        stream_time_ms=0,
        arms={},
        settings=LearningSettings(),
        rule=ExplorationRule(name="uniform", revision=revision),
    )
    selection = Selection(
        policy="default/chat",
        time=0.0,
        decision_id="d1",
        arms=("a", "b"),
        chosen=0,
        probabilities=(0.5, 0.5),
        featurizer="text64-v2",
        context=bytes(128),
        objective={"quality": 1.0, "cost": 0.05, "latency": 0.01},
    )
    return recompute(selection, Beliefs(snapshot))


def test_a_decision_taken_with_other_rules_is_not_taken_for_a_forgery() -> None:
    again = taken_with(REVISION + 1)
    assert isinstance(again, str) and f"revision {REVISION + 1}" in again and f"revision {REVISION}:" in again
    assert not isinstance(taken_with(REVISION), str)
