"""``conduit routing``: an operator's settings reach the log, and those in force are shown."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from learner_traffic import POLICY, messages, outcome, selection

from conduit_learner.cli import main
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import LogSettings, Message, StoredMessage, open_log
from conduit_schemas import (
    AutomaticRollout,
    Budget,
    Event,
    RoutingChange,
    RoutingGoal,
    RoutingSettings,
    Weights,
    encode,
)


@pytest.fixture
def settings(tmp_path: Path) -> LogSettings:
    return LogSettings.resolve(bootstrap_servers=None, path=tmp_path)


@pytest.fixture
def log(settings: LogSettings) -> LogSettings:
    """A log in which an application has introduced a policy."""
    own = RoutingSettings(goal=RoutingGoal(objective="speed"))
    introduced = RoutingChange(policy=POLICY, time=5.0, routing=own, origin="application", changed_by="app-1")
    append(settings, messages([introduced, selection("d1"), outcome("d1", cost_usd=0.25)]))
    return settings


def append(settings: LogSettings, found: list[Message], topic: str | None = None) -> None:
    async def run() -> None:
        async with open_log(settings) as log:
            await log.append(topic or settings.topics.events, found)

    asyncio.run(run())


def stored(settings: LogSettings) -> list[StoredMessage]:
    async def run() -> list[StoredMessage]:
        found: list[StoredMessage] = []
        async with open_log(settings) as log, log.reader(settings.topics.events) as reader:
            wanted = sum((await reader.end_offsets()).values())
            while len(found) < wanted:
                found += await reader.poll(timeout_s=5.0)
        return found

    return asyncio.run(run())


def learned(settings: LogSettings) -> PartitionLearner:
    found = [message for message in stored(settings) if message.key == POLICY.encode()]
    learner = PartitionLearner(found[0].partition)
    for message in found:
        learner.apply(message)
    return learner


def publish(settings: LogSettings) -> None:
    """Do what a learner does: publish the snapshot of everything so far."""
    append(settings, [Message(POLICY.encode(), encode(learned(settings).snapshot(POLICY)))], settings.topics.snapshots)


def in_force(settings: LogSettings) -> RoutingSettings:
    state = learned(settings).snapshot(POLICY).routing
    assert state is not None
    return state.settings


def run(settings: LogSettings, *arguments: str, policy: str = POLICY) -> Result:
    return CliRunner().invoke(main, ["routing", *arguments, "--policy", policy, "--path", str(settings.path)])


def test_show_says_what_is_in_force_and_what_waits(log: LogSettings) -> None:
    assert "not published yet, by application app-1" in run(log, "show").output
    publish(log)
    assert run(log, "set", "--mode", "off", "--by", "ada").exit_code == 0
    shown = run(log, "show").output
    assert "set by application app-1, 1970-01-01T00:00:05+00:00\nmode: active\ngoal: objective speed" in shown
    assert "spent: 0.25 USD on" in shown and "after 1 requests" in shown
    assert "not published yet, by operator ada" in shown and "mode: off" in shown
    publish(log)
    told = json.loads(run(log, "show", "--json").output)
    assert told["waiting"] == [] and told["in_force"]["origin"] == "operator" and told["in_force"]["mode"] == "off"
    assert told["in_force"]["settings"]["goal"]["objective"] == "speed"  # the settings in force stay


def test_set_changes_what_is_given_and_keeps_the_rest(log: LogSettings) -> None:
    steps = (
        ("--objective", "quality=1,cost=0.3", "--budget", "25/day", "--quality-floor", "0.9@0.99"),
        ("--team", "growth", "--objective", "cost", "--max-cost-usd", "0.01", "--budget", "1.5/1000_requests"),
        ("--mode", "canary", "--canary-share", "0.2", "--automatic", "rollback", "--margin", "0.1"),
        ("--max-latency-s", "4", "--min-exploration", "0.02", "--session-stickiness", "--switching-cost", "0.01"),
        ("--budget", "none", "--sticky-by", "session"),
    )
    for step in steps:
        result = run(log, "set", *step)
        assert result.exit_code == 0, result.output
    found = in_force(log)
    assert found.model_dump(exclude_none=True) == {
        "goal": {
            "objective": {"quality": 1.0, "cost": 0.3, "latency": 0.01},
            "max_latency_s": 4.0,
            "quality_floor": {"relative": 0.9, "confidence": 0.99},
        },
        "overrides": {
            "team:growth": {
                "objective": "cost",
                "max_cost_usd": 0.01,
                "budget": {"usd": 1.5, "per": "1000_requests"},
            }
        },
        "mode": "canary",
        "canary_share": 0.2,
        "sticky_by": "session",
        "min_exploration": 0.02,
        "automatic": {"promote": False, "rollback": True, "margin": 0.1, "confidence": 0.95, "holdout": 0.05},
        "session_stickiness": True,
        "switching_cost": 0.01,
    }
    shown = run(log, "show").output
    for line in ("goal of team:growth: objective cost, cost at most $0.01", "automatic: rollback, margin 0.1"):
        assert line in shown
    assert "latency at most 4 s, the cheapest with 90 % of the best quality" in shown
    assert "stay on their deployment" in shown
    assert run(log, "set", "--team", "growth", "--drop", "--automatic", "none").exit_code == 0
    assert in_force(log).overrides == {} and in_force(log).automatic is None


def test_clear_gives_the_applications_theirs_back(log: LogSettings) -> None:
    run(log, "set", "--mode", "off")
    assert run(log, "clear").exit_code == 0
    assert in_force(log).goal.objective == "speed" and in_force(log).mode == "active"
    assert "cleared" in run(log, "show").output


def test_settings_come_from_a_file(log: LogSettings, tmp_path: Path) -> None:
    file = tmp_path / "routing.toml"
    file.write_text('mode = "shadow"\n[goal]\nobjective = "quality"\n[goal.budget]\nusd = 3\nper = "day"\n')
    assert run(log, "set", "--file", str(file), "--min-exploration", "0.1").exit_code == 0
    found = in_force(log)
    assert (found.mode, found.goal.objective, found.min_exploration) == ("shadow", "quality", 0.1)
    assert found.goal.budget is not None and found.goal.budget.usd == 3.0
    file.write_text('automatic = "promote"\n[goal]\nobjective = {preset = "cost"}\nbudget = "3/day"\n')
    assert run(log, "set", "--file", str(file), "--margin", "0.1", "--objective", "cost=0.3").exit_code == 0
    found = in_force(log)
    assert found.automatic == AutomaticRollout(rollback=False, margin=0.1)
    assert (found.goal.objective, found.goal.budget) == (Weights(cost=0.3), Budget(usd=3.0))
    file.write_text('[goal]\nobjectiv = "cost"\n')
    mistaken = run(log, "set", "--file", str(file))
    assert mistaken.exit_code == 2 and "routing.toml: there is no 'goal.objectiv'" in mistaken.output
    file.write_text('mode = "shadow')
    broken = run(log, "set", "--file", str(file))
    assert broken.exit_code == 2 and "routing.toml" in broken.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what to change"),
        (("--objective", "cheap"), "no objective preset 'cheap'"),
        (("--objective", "price=1"), "unknown weight 'price'"),
        (("--objective", "cost=x"), "weight cost 'x' is not a number"),
        (("--budget", "25"), "give it as 25/day"),
        (("--budget", "25/week"), "budget.per='week'"),
        (("--budget", "x/day"), "'x' is not a number"),
        (("--max-cost-usd", "-1"), "max_cost_usd='-1'"),
        (("--quality-floor", "1.5"), "quality_floor.relative=1.5"),
        (("--canary-share", "2"), "canary_share=2"),
        (("--automatic", "demote"), "there is no 'demote': give promote, rollback, or both"),
        (("--margin", "0.1"), "--margin needs --automatic"),
        (("--drop",), "--drop needs --team or --key"),
        (("--team", "a", "--key", "b"), "not both"),
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_is_appended(
    arguments: tuple[str, ...], message: str, log: LogSettings
) -> None:
    before = len(stored(log))
    result = run(log, "set", *arguments)
    assert result.exit_code == 2 and message in result.output
    assert len(stored(log)) == before


def test_a_policy_nobody_uses_is_refused_unless_it_is_to_be_new(log: LogSettings) -> None:
    publish(log)
    refused = run(log, "set", "--mode", "off", policy="default/other")
    assert refused.exit_code == 2 and "'default/other'; known policies: default/chat" in refused.output
    assert run(log, "set", "--mode", "off", "--new", policy="default/other").exit_code == 0
    assert b"default/other" in {message.key for message in stored(log)}


def test_what_a_canary_has_shown_is_shown(log: LogSettings) -> None:
    run(log, "set", "--mode", "canary", "--automatic", "promote,rollback")
    events: list[Event] = []
    for number in range(5):
        events += [selection(f"c{number}", mode="canary", probabilities=(0.5, 0.25, 0.25)), outcome(f"c{number}")]
    append(log, messages(events))
    publish(log)
    shown = run(log, "show").output
    assert "roll-out: testing, share 0.05" in shown and "success.conduit" in shown and "5 decisions" in shown
