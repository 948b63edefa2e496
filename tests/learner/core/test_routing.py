"""How a policy is used: what the learner passes on, what it sums, and when a roll-out advances or reverts."""

import random

import pytest
from learner_traffic import POLICY, checkpoint_of, feedback, learned, outcome, resumed, selection, stored

from conduit_learner.core.checkpoint import dump, restorations
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.core.rollout import MeanSequence
from conduit_log import StoredMessage
from conduit_schemas import (
    AutomaticRollout,
    Budget,
    Event,
    RoutingChange,
    RoutingGoal,
    RoutingSettings,
    RoutingState,
    encode,
)

DAY_MS = 86_400_000


def change(settings: RoutingSettings | None, **fields: object) -> RoutingChange:
    return RoutingChange.model_validate({"policy": POLICY, "time": 7.0, "routing": settings, **fields})


def state(events: list[Event]) -> RoutingState:
    found = learned(stored(events)).snapshot(POLICY).routing
    assert found is not None
    return found


def test_the_newest_settings_are_in_the_snapshot_with_who_and_when() -> None:
    found = state([change(RoutingSettings(mode="off")), change(RoutingSettings(mode="shadow"), changed_by="ada")])
    assert (found.mode, found.changed_by, found.changed_at, found.origin) == ("shadow", "ada", 7.0, "operator")


def test_without_settings_the_snapshot_says_nothing() -> None:
    assert learned(stored([selection("d1")])).snapshot(POLICY).routing is None


def test_an_operator_stands_above_applications_until_taken_back() -> None:
    application = change(RoutingSettings(mode="active"), origin="application")
    operator = change(RoutingSettings(mode="off"))
    assert state([operator, application]).mode == "off"
    taken_back = state([application, operator, change(None)])
    assert (taken_back.mode, taken_back.origin) == ("active", "application")


def test_an_objective_that_does_not_exist_is_refused_and_changes_nothing() -> None:
    learner = PartitionLearner(0)
    wrong = change(RoutingSettings(goal=RoutingGoal(objective="cheap")))
    (good, bad) = stored([change(RoutingSettings(mode="off")), wrong])
    learner.apply(good)
    (letter,) = learner.apply(bad).dead_letters
    assert letter.reason == "invalid" and "cheap" in letter.message
    routing = learner.snapshot(POLICY).routing
    assert routing is not None and routing.mode == "off"


def _at(time_ms: int, offset: int, event: Event) -> StoredMessage:
    return StoredMessage(0, offset, time_ms, event.policy.encode(), encode(event))


def test_spend_counts_each_outcome_once_by_scope_and_starts_anew_every_day() -> None:
    settings = RoutingSettings(overrides={"team:growth": RoutingGoal(budget=Budget(usd=1.0))})
    noon = 20 * DAY_MS + DAY_MS // 2
    log = [
        _at(noon, 0, change(settings)),
        _at(noon, 1, selection("d1", scope="team:growth")),
        _at(noon, 2, selection("d2", scope="team:unknown")),
        _at(noon, 3, outcome("d1", cost_usd=0.5)),
        _at(noon, 4, outcome("d1", cost_usd=0.5)),
        _at(noon, 5, outcome("d2", cost_usd=0.25, status="error")),
        _at(noon + DAY_MS, 6, selection("d3")),
        _at(noon + DAY_MS, 7, outcome("d3", cost_usd=0.125)),
    ]
    first = learned(log[:6]).snapshot(POLICY).routing
    assert first is not None and sorted(first.spend) == ["", "team:growth"]
    assert (first.spend[""].day_usd, first.spend[""].thousand_requests) == (0.75, 2)
    assert (first.spend["team:growth"].day_usd, first.spend["team:growth"].day_start_ms) == (0.5, 20 * DAY_MS)
    second = learned(log).snapshot(POLICY).routing
    assert second is not None
    assert (second.spend[""].day_usd, second.spend[""].day_start_ms) == (0.125, 21 * DAY_MS)
    assert (second.spend[""].thousand_usd, second.spend["team:growth"].day_usd) == (0.875, 0.5)


def test_a_thousand_ends_after_a_thousand_requests_and_cache_hits_are_none() -> None:
    events: list[Event] = [change(RoutingSettings())]
    for number in range(1002):
        events += [selection(f"d{number}"), outcome(f"d{number}", cost_usd=1.0)]
    events += [selection("hit"), outcome("hit", cost_usd=1.0, status="cache_hit")]
    assert (state(events).spend[""].thousand_requests, state(events).spend[""].thousand_usd) == (2, 2.0)


def canary(number: int, group: str, *, quality: float | None, status: str = "success") -> list[Event]:
    how: dict[str, object] = {"fallback": "control"} if group == "control" else {"probabilities": (0.5, 0.25, 0.25)}
    decision = f"{group}{number}"
    events: list[Event] = [selection(decision, mode="canary", **how), outcome(decision, status=status)]
    return events if quality is None else [*events, feedback(decision, quality)]


def rollout(decisions: int, conduit: float, control: float, *, seed: int = 1, **rules: object) -> list[Event]:
    """Return a canary whose answers are good with the given probabilities."""
    rng = random.Random(seed)
    automatic = AutomaticRollout.model_validate({"margin": 0.1, **rules})
    events: list[Event] = [change(RoutingSettings(mode="canary", canary_share=0.5, automatic=automatic))]
    for number in range(decisions):
        for group, quality in (("conduit", conduit), ("control", control)):
            events += canary(number, group, quality=float(rng.random() < quality))
    return events


def test_a_canary_that_is_no_worse_is_promoted_and_keeps_a_holdout() -> None:
    found = state(rollout(3000, 0.9, 0.9))
    assert found.rollout is not None and found.rollout.stage == "promoted"
    assert (found.mode, found.canary_share) == ("canary", 0.95)
    assert "no more than 0.1 worse" in found.rollout.reason and found.rollout.since_ms > 0
    assert state(rollout(3000, 0.9, 0.9, holdout=0.0)).mode == "active"


def test_a_canary_that_is_worse_is_taken_back_for_good() -> None:
    events = rollout(1500, 0.4, 0.9)
    found = state(events)
    assert found.rollout is not None and found.rollout.stage == "rolled_back"
    assert (found.mode, found.canary_share) == ("shadow", 0.0)
    evidence = found.rollout.evidence
    assert evidence["quality.conduit"].high < evidence["quality.control"].low - 0.1
    again = [event for number in range(500) for event in canary(10_000 + number, "conduit", quality=1.0)]
    assert state([*events, *again]).mode == "shadow"
    assert state([*events, change(RoutingSettings(mode="active"))]).mode == "active"


def test_failures_alone_take_a_canary_back_but_never_promote_it_without_ratings() -> None:
    settings = RoutingSettings(mode="canary", canary_share=0.2, automatic=AutomaticRollout())
    sound: list[Event] = [change(settings)]
    failing = list(sound)
    for number in range(1500):
        control = canary(number, "control", quality=None)
        sound += [*canary(number, "conduit", quality=None), *control]
        failing += [*canary(number, "conduit", quality=None, status="error" if number % 2 else "success"), *control]
    assert (state(sound).mode, state(sound).canary_share) == ("canary", 0.2)
    assert state(failing).mode == "shadow"


def test_only_what_is_asked_for_happens() -> None:
    assert state(rollout(1500, 0.4, 0.9, rollback=False)).mode == "canary"
    assert state(rollout(3000, 0.9, 0.9, promote=False)).canary_share == 0.5


def test_repeating_the_settings_in_force_keeps_the_evidence() -> None:
    events = rollout(400, 0.9, 0.9)
    assert state([*events, events[0]]) == state(events)


def test_a_restored_learner_goes_on_to_the_bit() -> None:
    log = stored(rollout(900, 0.45, 0.9))
    whole = learned(log)
    for cut in (1, 100, len(log) // 2):
        half = learned(log[:cut])
        (restoration,) = restorations(0, half.topic, checkpoint_of(half))
        restored = resumed(restoration, log)
        for message in log[cut:]:
            restored.apply(message)
        assert restored.snapshot(POLICY) == whole.snapshot(POLICY)
        assert dump(restored) == dump(whole)


@pytest.mark.parametrize("probability", [0.02, 0.5, 0.9])
def test_bounds_hold_at_all_times_with_the_promised_probability(probability: float) -> None:
    rng = random.Random(3)
    missed = 0
    for _ in range(200):
        sequence = MeanSequence(0.1)
        for _ in range(300):
            sequence.add(float(rng.random() < probability))
        low, high = sequence.bounds()  # at all times: what was excluded once stays excluded
        missed += not low <= probability <= high
    assert missed <= 20


def test_bounds_narrow_with_the_variance() -> None:
    rng = random.Random(5)
    quiet, loud = MeanSequence(0.05), MeanSequence(0.05)
    for _ in range(2000):
        quiet.add(0.5 + 0.1 * (rng.random() - 0.5))
        loud.add(float(rng.random() < 0.5))
    widths = [high - low for low, high in (quiet.bounds(), loud.bounds())]
    assert widths[0] < 0.02 < widths[1] < 0.2
