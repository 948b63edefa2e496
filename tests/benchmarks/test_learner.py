import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import learner, recovery
from benchmarks.learner import (
    Step,
    log_of,
    river_teacher,
    run_core,
    run_in_role,
    run_river,
    run_same_job,
    run_vw,
    steps,
    stored,
    vw_teacher,
)
from benchmarks.traffic import kafka, traffic
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_policy import SIGNALS
from conduit_schemas import decode_event


def log(events: int, *, policies: int = 1, open_decisions: int = 10_000) -> list[Any]:
    return stored(log_of(events, dimension=16, arms=8, policies=policies, open_decisions=open_decisions))


def test_traffic_is_what_applications_send_and_all_of_it_teaches() -> None:
    learned = PartitionLearner(0)
    letters = [letter for message in log(2_000, policies=3) for letter in learned.apply(message).dead_letters]
    assert letters == []
    assert set(learned.policies) == {"bench/p0", "bench/p1", "bench/p2"}
    snapshots = [learned.snapshot(policy) for policy in learned.policies]
    selections = sum(snapshot.selections for snapshot in snapshots)
    assert sum(snapshot.outcomes for snapshot in snapshots) == pytest.approx(selections, abs=20)
    assert sum(snapshot.feedbacks for snapshot in snapshots) == pytest.approx(selections / 2, abs=60)
    assert all(snapshot.settings.dimension == 16 and len(snapshot.arms) == 8 for snapshot in snapshots)
    weights = {
        name: signal.weight
        for arm in snapshots[0].arms.values()
        for name, signal in arm.signals.items()
        if signal.weight
    }
    assert set(weights) == set(SIGNALS)


def test_decisions_differ_and_their_size_is_an_events() -> None:
    messages = list(traffic(3_000))
    events = [decode_event(message.value) for message in messages]
    kinds = Counter(event.kind for event in events)
    assert kinds["selection"] == pytest.approx(1_200, abs=30)
    ids = [event.decision_id for event in events if event.kind == "selection"]
    assert len(set(ids)) == len(ids)
    assert 700 < sum(len(message.value) for message in messages) / len(messages) < 1_100


def test_peers_get_the_same_events_joined() -> None:
    messages = log(1_000)
    todo = steps(messages)
    assert len(todo) == len(messages) - 1  # the settings
    events = [decode_event(message.value) for message in messages[1:]]
    chosen: dict[str, Step] = {}
    for event, step in zip(events, todo, strict=True):
        if event.kind == "selection":
            chosen[event.decision_id] = step
            assert (step.arm, step.reward) == (event.chosen, None)
            assert step.context.tobytes() == event.context
        elif event.kind == "feedback":
            assert step == chosen[event.decision_id]._replace(reward=event.quality)
        else:
            assert event.kind == "outcome"
            assert step.reward == (event.status == "success")


def test_every_contestant_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = log(300)
    rate, learned = run_core(messages)
    assert rate > 0.0
    assert learned.offset == len(messages)
    assert run_in_role(messages) > 0.0
    assert all(run_river(messages, chooses=chooses) > 0.0 for chooses in (True, False))
    assert run_same_job(messages, river_teacher) > 0.0
    if learner.find_spec("vowpalwabbit"):
        assert run_same_job(messages, vw_teacher) > 0.0
    monkeypatch.setattr(learner, "find_spec", lambda module: None)
    assert run_vw(messages, chooses=True) is None


def test_open_decisions_are_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "GROWTH_EVENTS", 200)
    row = learner._grown(dimension=4, arms=2, policies=2, open_decisions=100)
    assert row["open_decisions"] == pytest.approx(100, abs=2)
    assert {"dimension": 4, "arms": 2, "policies": 2}.items() <= row.items()
    assert min(row["events_per_s"], row["snapshot_ms"], row["checkpoint_ms"]) > 0.0


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "GROWTH", {"arms": (2, 8)})
    monkeypatch.setattr(learner, "GROWTH_EVENTS", 500)
    monkeypatch.setattr(learner, "PEER_EVENTS", 300)
    monkeypatch.setattr(recovery, "STEPS", (1.0,))
    monkeypatch.setattr(recovery, "OPEN", 500)
    monkeypatch.setattr(recovery, "WINDOWS", (100,))
    monkeypatch.setattr(recovery, "TAIL", 200)


def last_line(capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], None], *arguments: str) -> Any:
    main(["--json", *arguments])
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.usefixtures("small")
def test_learner_end_to_end(capsys: pytest.CaptureFixture[str], kafka_bootstrap: str) -> None:
    options = ("--kafka", kafka_bootstrap, "--events", "4000", "--rounds", "1")
    report = last_line(capsys, learner.main, *options)
    numbers = ("events_per_s", "raw_consume_per_s", "river_events_per_s", "core_only_events_per_s", "peak_rss_mb")
    assert all(report[name] > 0.0 for name in numbers)
    assert report["vw_events_per_s"] is None if report["left_out"] else report["vw_events_per_s"] > 0
    assert report["ratios"]["raw_consume"] == pytest.approx(report["events_per_s"] / report["raw_consume_per_s"], 0.05)
    assert [row["arms"] for row in report["growth"]] == [8, 2]
    assert report["rounds"][0]["snapshots"] >= 1
    learner._print(report)
    table = capsys.readouterr().out
    assert "river LinUCBDisjoint" in table
    assert "left out" in table if report["left_out"] else "left out" not in table


@pytest.mark.process
@pytest.mark.usefixtures("small")
def test_recovery_after_a_kill(capsys: pytest.CaptureFixture[str]) -> None:
    report = last_line(capsys, recovery.main, "--events", "6500")
    (grown,) = report["by_history"]
    # The newest decision is added before the oldest is removed.
    assert [row["open_decisions"] for row in report["by_open_window"]] == [101, 501]
    assert grown["events"] == 6_700
    for row in report["by_open_window"]:
        assert 0.0 < row["loading_s"] < row["serving_s"] <= row["caught_up_s"]
        assert row["restoring_s"] > 0.0
        assert row["learned_again"] < row["events"]
    assert report["log"] == "embedded"


def test_a_broker_that_is_named_is_used() -> None:
    with kafka("there:9092") as address:
        assert address == "there:9092"


def test_without_a_name_the_tests_broker_is_used(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUIT_TEST_KAFKA", kafka_bootstrap)
    with kafka(None) as address:
        assert address == kafka_bootstrap
