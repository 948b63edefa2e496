"""The time to the first token is a signal like the others: learned, weighted, limited, evaluated and shown."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from learner_traffic import POLICY, feedback, outcome, selection, stored
from prometheus_client import generate_latest

from conduit_learner.cli import main
from conduit_learner.commands.text import changes, columns
from conduit_learner.commands.top import screen
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.evaluation.progressive import evaluate
from conduit_learner.view.installation import InstallationView
from conduit_learner.view.report import policy_report
from conduit_learner.view.wording import consequence, goal_words
from conduit_learner.worker.metrics import registry_of
from conduit_learner.worker.status import WorkerStatus
from conduit_log import StoredMessage
from conduit_policy import Beliefs, Constraints, Objective, choose
from conduit_schemas import (
    Alarm,
    ArmPrior,
    Event,
    Flag,
    LearningChange,
    LearningSettings,
    RoutingGoal,
    Snapshot,
    Weights,
)

ROOT = Path(__file__).parents[2]
ARMS = ("eager", "slow")
FIRST_TOKEN = {"eager": 0.25, "slow": 2.0}
TTFT = "ttft"


def streamed(count: int, *, ttft: bool = True) -> list[StoredMessage]:
    """Both arms have the same quality, cost and latency, but one takes longer to its first token."""
    events: list[Event] = []
    for number in range(count):
        chosen = number % 2
        told = {"ttft_s": FIRST_TOKEN[ARMS[chosen]]} if ttft else {}
        decision_id = f"d{number}"
        events += [
            selection(decision_id, arms=ARMS, models=ARMS, chosen=chosen, probabilities=(0.5, 0.5)),
            outcome(decision_id, cost_usd=0.01, latency_s=4.0, **told),
            feedback(decision_id, 0.8 + 0.1 * (number // 2 % 2)),
        ]
    return stored(events)


def learned(messages: list[StoredMessage]) -> Snapshot:
    learner = PartitionLearner(0)
    for message in messages:
        learner.apply(message)
    return learner.snapshot(POLICY)


def share_of_eager(beliefs: Beliefs, objective: Objective, **limits: float) -> tuple[float, tuple[Flag, ...]]:
    context = np.zeros(64, np.int16)
    context[0] = 1024
    found = choose(beliefs, context, ARMS, objective=objective, decision_id="d", constraints=Constraints(**limits))
    return float(found.probabilities[0]), found.flags


def test_it_is_learned_and_published_once_it_was_observed() -> None:
    snapshot = learned(streamed(200))
    for arm, seconds in FIRST_TOKEN.items():
        posterior = snapshot.arms[arm].signals[TTFT]
        assert posterior.is_observed and posterior.average == pytest.approx(math.log(seconds), abs=1e-4)
    assert all(TTFT not in arm.signals for arm in learned(streamed(200, ttft=False)).arms.values())


def test_what_is_known_beforehand_counts() -> None:
    prior = {"eager": ArmPrior(ttft_s=0.5, observations=10.0)}
    change = LearningChange(policy=POLICY, time=0.0, settings=LearningSettings(priors=prior))
    told = learned(stored([change, selection("d", arms=ARMS, models=ARMS, chosen=0)]))
    assert told.arms["eager"].signals[TTFT].average == pytest.approx(math.log(0.5), abs=1e-4)


def test_its_weight_decides_between_arms_that_differ_in_nothing_else() -> None:
    beliefs = Beliefs(learned(streamed(400)))
    indifferent, _ = share_of_eager(beliefs, Objective())
    wanted, _ = share_of_eager(beliefs, Objective(ttft=0.2))
    assert 0.1 < indifferent < 0.9 < wanted


def test_its_limit_leaves_out_the_slow_and_keeps_the_fastest_where_none_meets_it() -> None:
    beliefs = Beliefs(learned(streamed(400)))
    assert share_of_eager(beliefs, Objective(), max_ttft_s=1.0) == (1.0, (Flag.TTFT_TARGET,))
    assert share_of_eager(beliefs, Objective(), max_ttft_s=0.01) == (1.0, (Flag.TTFT_TARGET_UNMET,))
    assert share_of_eager(beliefs, Objective(), max_ttft_s=9.0)[1] == ()


@pytest.mark.campaign
def test_it_is_evaluated() -> None:
    wanted = evaluate(streamed(400), POLICY, objective=Objective(ttft=0.3))
    assert wanted.logged["ttft_s"].value == pytest.approx((0.25 + 2.0) / 2.0, abs=0.05)
    assert all(estimate.value < 0.8 for estimate in wanted.estimates["ttft_s"])


def test_it_is_shown() -> None:
    view = InstallationView()
    for message in streamed(60):
        view.event(message)
    policy = view.policies[POLICY]
    report = policy_report(policy, "all", now_ms=0)
    assert [one["field"] for one in report["amounts"]] == ["cost_usd", "latency_s", "ttft_s"]
    eager = next(arm for arm in report["arms"] if arm["id"] == "eager")
    assert eager["ttft_s"] == pytest.approx(0.25) and eager["p95"]["ttft_s"] == pytest.approx(0.25, rel=0.07)
    assert "time to first token" in screen(report)
    assert columns([TTFT])[TTFT] == "time to first token s" and TTFT not in columns([])
    assert [(one["is_money"], one["is_time"]) for one in report["amounts"]] == [(True, False), *[(False, True)] * 2]
    assert "time to first token 0.25 s" in consequence(policy.recent[0])


def test_people_read_its_title() -> None:
    alarm = Alarm(count=1, time_ms=0, before=0.0, after=math.log(2.0), observations=9.0)
    snapshot = learned(streamed(60))
    alarmed = snapshot.model_copy(
        update={"arms": {"slow": snapshot.arms["slow"].model_copy(update={"alarms": {TTFT: alarm}})}}
    )
    assert changes(alarmed)[0].startswith("slow: time to first token changed from 1 to 2, detected ")
    wanted = RoutingGoal(objective=Weights(ttft=0.2), max_ttft_s=1.5)
    assert "time to first token 0.2, time to first token at most 1.5 s" in goal_words(wanted)
    view = InstallationView()
    for message in stored([selection("d", objective=Objective(ttft=0.2).weights())]):
        view.event(message)
    assert "time to first token 0.2" in policy_report(view.policies[POLICY], "all", now_ms=0)["objective_words"]


def test_it_is_named_where_signals_are_listed() -> None:
    told = generate_latest(registry_of(WorkerStatus())).decode()
    assert "quality, success, cost, latency or time to first token, since" in told
    for weight in Objective().weights():
        for text in (conduit_help("evaluate"), (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")):
            assert re.search(rf"# or weights:.*\b{weight}\b", text)


def conduit_help(command: str) -> str:
    return CliRunner().invoke(main, [command, "--help"]).output
