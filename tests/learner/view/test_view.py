"""The log summarised for the page: counts over time, savings, words; and the summary stays small."""

import math
import random
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from audit_traffic import ARMS, Installation, partly_rated
from learner_traffic import POLICY, feedback, outcome, selection, stored, traffic

from conduit_learner.evaluation.estimators import doubly_robust
from conduit_learner.evaluation.intervals import asymptotic_sequence
from conduit_learner.evaluation.logged_decisions import LoggedDecisions
from conduit_learner.view import savings
from conduit_learner.view.decision import ShownDecision
from conduit_learner.view.installation import MAX_POLICIES_SHOWN, InstallationView
from conduit_learner.view.policy import MAX_ARMS_SHOWN, OTHERS, PolicyView
from conduit_learner.view.report import installation_report, policy_report, quality_of
from conduit_learner.view.savings import Moments, SavingsLedger
from conduit_learner.view.timeline import RANGES, Cell, Timeline
from conduit_learner.view.wording import alarm_words, consequence, reason
from conduit_log import StoredMessage
from conduit_schemas import (
    Alarm,
    Budget,
    DeadLetter,
    Event,
    Fallback,
    Flag,
    LearningChange,
    LearningSettings,
    OutcomeStatus,
    QualityFloor,
    RoutingChange,
    RoutingGoal,
    RoutingSettings,
    encode,
)


def folded(events: Iterable[Event], **options: int) -> InstallationView:
    view = InstallationView(**options)
    for message in stored(events):
        view.event(message)
    return view


def only(events: Iterable[Event], **options: int) -> PolicyView:
    return folded(events, **options).policies[POLICY]


def cell_of(policy: PolicyView, arm: str) -> Cell:
    total = Cell()
    for _, cells in policy.timelines["all"]:
        if arm in cells:
            total.add(cells[arm])
    return total


def three(decision_id: str, chosen: int = 0, **changes: object) -> Event:
    return selection(decision_id, chosen=chosen, probabilities=(0.5, 0.3, 0.2), **changes)


class TestTimeline:
    @pytest.mark.parametrize("grows", [True, False])
    def test_it_never_holds_more_buckets_than_it_may(self, grows: bool) -> None:
        timeline = Timeline(10, 16, grows=grows)
        rng = random.Random(1)
        now = 0
        for _ in range(2_000):
            now += int(rng.expovariate(0.01))
            timeline.record(now, "a").selections += 1
            assert len(list(timeline)) <= 16

    def test_growing_keeps_every_count(self) -> None:
        timeline = Timeline(1, 8, grows=True)
        for now in range(0, 5_000, 7):
            timeline.record(now, "ab"[now % 2]).selections += 1
        counts = {arm: sum(cells[arm].selections for _, cells in timeline if arm in cells) for arm in "ab"}
        assert counts == {"a": 358, "b": 357}
        assert timeline.width_ms == 1024

    def test_what_is_forgotten_is_not_found(self) -> None:
        timeline = Timeline(10, 4, grows=False)
        timeline.record(5, "a").selections += 1
        timeline.record(95, "a").selections += 1
        assert timeline.find(5, "a") is None
        assert timeline.find(95, "a") is not None
        timeline.record(5, "a").selections += 1  # a clock that was set back
        assert [start for start, _ in timeline] == [90]


class TestFold:
    def test_an_arm_gets_what_came_of_its_decisions(self) -> None:
        policy = only(
            [
                selection("d1", chosen=0),
                selection("d2", chosen=0),
                selection("d3", chosen=2),
                outcome("d1", cost_usd=0.01, latency_s=2.0),
                outcome("d2", status="error", error_class="Timeout"),
                outcome("d3", cost_usd=0.002, latency_s=0.5),
                feedback("d1", 0.75),
            ]
        )
        cell = cell_of(policy, "large")
        assert (cell.selections, cell.successes, cell.errors) == (2, 1, 1)
        assert (cell.amounts["cost_usd"], cell.known["cost_usd"]) == (0.01, 2)  # failures cost nothing
        assert (cell.amounts["latency_s"], cell.known["latency_s"]) == (2.0, 1)
        assert quality_of(cell)[0] == pytest.approx(0.5 * 0.75)
        assert cell_of(policy, "small").amounts["cost_usd"] == 0.002
        assert policy.errors == {"Timeout": 1}
        assert policy.spent_usd == pytest.approx(0.012)
        assert policy.quantile("large", "latency_s", 0.95) == pytest.approx(2.0, rel=0.07)

    def test_everything_counts_where_the_decision_was_made(self) -> None:
        events = [selection("d1", chosen=0), *(selection(f"x{n}", chosen=1) for n in range(400)), feedback("d1", 0.5)]
        policy = only(events)
        rated = [start for start, cells in policy.timelines["hour"] for cell in cells.values() if cell.rated]
        assert rated == [(1_000_000 // 15_000) * 15_000]

    def test_a_message_twice_counts_once(self) -> None:
        events: list[Event] = [selection("d1", chosen=0), outcome("d1", cost_usd=0.01), feedback("d1", 0.5)]
        once, twice = cell_of(only(events), "large"), cell_of(only([*events, *events]), "large")
        assert [getattr(once, name) for name in Cell.__slots__] == [getattr(twice, name) for name in Cell.__slots__]

    @pytest.mark.parametrize("is_late", [True, False])
    def test_a_failed_call_is_worth_nothing_whatever_was_said_of_it(self, is_late: bool) -> None:
        said: list[Event] = [outcome("d1", status="error"), feedback("d1", 0.9)]
        cell = cell_of(only([selection("d1", chosen=0), *(reversed(said) if is_late else said)]), "large")
        assert (cell.rated, cell.rating, cell.rating_squares) == (0, 0.0, 0.0)
        assert quality_of(cell)[0] == 0.0

    def test_several_ratings_of_one_decision_are_averaged(self) -> None:
        policy = only(
            [selection("d1", chosen=0), feedback("d1", 0.2), feedback("d1", 0.8, source="judge"), feedback("d1", 1.0)]
        )
        cell = cell_of(policy, "large")
        assert (cell.rated, cell.rating) == (1, pytest.approx(0.5))
        assert cell.rating_squares == pytest.approx(0.25)

    def test_what_reports_success_is_no_rating(self) -> None:
        policy = only([selection("d1", chosen=0), feedback("d1", 1.0, signal="success", details={"cost_usd": 0.5})])
        assert cell_of(policy, "large").rated == 0
        assert policy.judging_usd == 0.5

    def test_what_belongs_to_nothing_known_is_counted(self) -> None:
        assert only([outcome("d1"), feedback("d2", 0.5)]).unmatched == 2

    def test_changes_are_told_once_with_who_and_what(self) -> None:
        def settings(by: str, **changes: object) -> LearningChange:
            wanted = LearningSettings.model_validate(changes)
            return LearningChange(policy=POLICY, time=0.0, settings=wanted, changed_by=by)

        def routing(by: str, wanted: RoutingSettings | None, origin: str = "operator") -> RoutingChange:
            fields = {"policy": POLICY, "time": 0.0, "routing": wanted, "changed_by": by, "origin": origin}
            return RoutingChange.model_validate(fields)

        goal = RoutingGoal(
            objective="cost", budget=Budget(usd=5.0), quality_floor=QualityFloor(relative=0.9), max_latency_s=2.0
        )
        canary = RoutingSettings(mode="canary", canary_share=0.1, goal=goal, overrides={"team:a": RoutingGoal()})
        policy = only(
            [
                settings("app-1"),
                settings("app-2"),
                settings("ann", algorithm="linucb", window_size=500),
                routing("bob", canary),
                routing("bob again", canary),
                routing("", RoutingSettings(), "application"),
                routing("cho", None),
                routing("cho", None),
            ]
        )
        assert [(change.kind, change.by) for change in policy.changes] == [
            *(("learning", "app-1"), ("learning", "ann"), ("routing", "bob")),
            *(("routing", "application"), ("routing", "cho")),
        ]
        first, second, third, fourth, last = (change.what for change in policy.changes)
        assert first == "learns with contextual_thompson on text64-v2"
        assert second == "algorithm: contextual_thompson → linucb; window size: 2000 → 500"
        assert third == (
            "Conduit chooses for 10 % of the traffic (canary). Goal: objective cost, latency at most 2 s, at most "
            "$5.00 per day, the cheapest with 90 % of the best quality at 95 % confidence. For team:a: the same."
        )
        assert fourth == "Conduit chooses."
        assert last == "The settings of the operator were removed."

    def test_garbage_is_counted_and_harmless(self) -> None:
        view = InstallationView()
        for method in (view.event, view.snapshot, view.dead_letter):
            method(StoredMessage(0, 0, 0, b"k", b"{"))
        assert view.undecodable == 2
        assert not view.policies

    def test_dead_letters_that_were_tried_again_are_done_with(self) -> None:
        view = InstallationView()
        letter = DeadLetter(
            topic="t",
            partition=0,
            offset=7,
            time_ms=1,
            reason="orphan",
            message="m",
            record_key=b"k",
            record=b"r",
            record_bytes=1,
        )
        other = letter.model_copy(update={"offset": 8, "reason": "invalid"})
        for told in (letter, other, letter.model_copy(update={"replayed_at": 5.0})):
            view.dead_letter(StoredMessage(0, 0, 0, b"k", encode(told)))
        found = installation_report(view, now_ms=10)["dead_letters"]
        assert found["reasons"] == {"invalid": 1}
        assert [told["place"] for told in found["newest"]] == ["t/0/8", "t/0/7"]


class TestBounds:
    def test_memory_does_not_grow_with_the_log(self) -> None:
        view = InstallationView(max_open=500)
        policies = [f"default/p{number}" for number in range(MAX_POLICIES_SHOWN + 5)]
        for message in stored(traffic(6_000, policies=policies), step_ms=60_000):
            view.event(message)
        assert len(view.policies) == MAX_POLICIES_SHOWN
        assert view.events_not_shown > 0
        assert sum(len(policy.decisions) for policy in view.policies.values()) <= 500
        for policy in view.policies.values():
            assert len(policy.ledger._of) <= len(policy.decisions)
            for name, timeline in policy.timelines.items():
                assert len(list(timeline)) <= RANGES[name].buckets

    def test_arms_beyond_the_limit_are_counted_together(self) -> None:
        arms = tuple(f"arm{number:03d}" for number in range(MAX_ARMS_SHOWN + 10))
        policy = only([selection(f"d{n}", arms=arms, models=(), chosen=n % len(arms)) for n in range(len(arms))])
        assert len(policy.arms) == MAX_ARMS_SHOWN
        assert cell_of(policy, OTHERS).selections == 10
        report = policy_report(policy, "all", now_ms=2_000_000)
        assert report["arms"][-1]["name"] == OTHERS
        assert report["totals"]["selections"] == len(arms)


def logged(count: int, *, seed: int = 0, probabilities: Sequence[float] = (0.6, 0.3, 0.1)) -> list[ShownDecision]:
    """Decisions among three arms of known cost and quality; a third of the answers are rated, one in 20 calls fails."""
    rng = random.Random(seed)
    decisions = []
    for number in range(count):
        chosen = rng.choices(range(3), probabilities)[0]
        size = rng.lognormvariate(0.0, 0.7)
        decision = ShownDecision(
            decision_id=f"d{number}",
            time_ms=0,
            arms=ARMS,
            models=(),
            chosen=chosen,
            probabilities=tuple(probabilities),
            # The predictions know roughly the size of a request, but are wrong about the level.
            predictions={
                "cost": tuple(size * cost * 0.7 for cost in COSTS),
                "quality": (0.5, 0.5, 0.5),
                "success": (1.0,) * 3,
            },
            objective={"quality": 1.0, "cost": 0.0, "latency": 0.0},
            flags=(),
            fallback=None,
        )
        decision.status = "error" if rng.random() < 0.05 else "success"
        cost = 0.0 if decision.status == "error" else size * COSTS[chosen] * rng.uniform(0.8, 1.2)
        decision.amounts = {"cost_usd": cost}
        if decision.status == "success" and rng.random() < 1 / 3:
            decision.ratings.append(min(1.0, max(0.0, QUALITIES[chosen] + rng.uniform(-0.2, 0.2))))
        decisions.append(decision)
    return decisions


COSTS = (0.01, 0.001, 0.0003)
QUALITIES = (0.8, 0.7, 0.3)
MEAN_SIZE = math.exp(0.5 * 0.7**2)


def ledger_of(decisions: Iterable[ShownDecision]) -> SavingsLedger:
    ledger = SavingsLedger()
    for decision in decisions:
        ledger.add(decision)
    return ledger


class TestSavings:
    def test_the_truth_is_inside_the_intervals(self) -> None:
        found = ledger_of(logged(6_000)).comparisons(None)
        paid = sum(p * 0.95 * MEAN_SIZE * cost for p, cost in zip((0.6, 0.3, 0.1), COSTS, strict=True))
        for arm, cost, quality in zip(ARMS, COSTS, QUALITIES, strict=True):
            spent = found[arm].value["cost_usd"]
            assert abs(spent.mean - 0.95 * MEAN_SIZE * cost) < spent.reach < 0.35 * cost
            ahead = found[arm].ahead["cost_usd"]
            assert abs(ahead.mean - (0.95 * MEAN_SIZE * cost - paid)) < ahead.reach
            worth = found[arm].value["quality"]
            assert abs(worth.mean - 0.95 * quality) < worth.reach < 0.2

    @pytest.mark.parametrize("measure", ["cost_usd", "quality"])
    def test_intervals_hold_about_as_often_as_they_say(self, measure: str) -> None:
        missed = 0
        for seed in range(20):
            found = ledger_of(logged(600, seed=seed)).comparisons(None)
            for arm, cost, quality in zip(ARMS, COSTS, QUALITIES, strict=True):
                truth = 0.95 * (MEAN_SIZE * cost if measure == "cost_usd" else quality)
                value = found[arm].value[measure]
                missed += abs(value.mean - truth) > value.reach
        assert missed <= 3  # 60 intervals of at least 95 % each

    def test_they_are_the_evaluation_rooms_own(self) -> None:
        decisions = [decision for decision in logged(1_500) if decision.status == "success"]
        chosen = np.array([decision.chosen for decision in decisions])
        predicted = np.array([decision.predictions["cost"] for decision in decisions])
        table = LoggedDecisions(
            chosen=chosen,
            propensity=np.array([(decision.probabilities or ())[decision.chosen] for decision in decisions]),
            target=np.tile([0.0, 1.0, 0.0], (len(decisions), 1)),
            reward=np.array([decision.amounts["cost_usd"] for decision in decisions], dtype=float),
            predicted=predicted,
        )
        found = ledger_of(decisions).comparisons(None)[ARMS[1]].value["cost_usd"]
        assert found.mean == pytest.approx(doubly_robust(table).value)
        assert found.deviation / math.sqrt(found.n) == pytest.approx(doubly_robust(table).standard_error)
        anytime = doubly_robust(table, anytime=True)
        assert (found.mean - found.reach, found.mean + found.reach) == pytest.approx((anytime.low, anytime.high))

    def test_closing_blocks_changes_no_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(savings, "DECISIONS_PER_BLOCK", 100)
        decisions = logged(1_050)
        kept, closed = ledger_of(decisions), ledger_of(decisions)
        for decision in decisions[:970]:
            closed.settle(decision, None)
        assert len(closed._open) == 2
        for arm, comparison in kept.comparisons(None).items():
            again = closed.comparisons(None)[arm]
            assert again.selections == comparison.selections
            for measure in comparison.value:
                assert again.value[measure].mean == pytest.approx(comparison.value[measure].mean)
                assert again.ahead[measure].squares == pytest.approx(comparison.ahead[measure].squares)

    def test_a_late_rating_is_taken_in(self) -> None:
        decisions = logged(300)
        ledger = ledger_of(decisions)
        before = ledger.comparisons(None)[ARMS[0]].value["quality"].mean
        for decision in decisions:
            decision.ratings[:] = [1.0]
            ledger.changed(decision)
        assert ledger.comparisons(None)[ARMS[0]].value["quality"].mean > before + 0.1

    def test_an_arm_is_compared_on_requests_that_it_could_serve(self) -> None:
        decisions = logged(200)
        for decision in decisions[100:]:
            decision.arms, decision.chosen = (*ARMS[:2], "new"), 0
        found = ledger_of(decisions).comparisons(None)
        assert found[ARMS[0]].value["cost_usd"].n == 200
        assert found[ARMS[2]].value["cost_usd"].n == found["new"].value["cost_usd"].n == 100

    def test_what_conduit_did_not_choose_is_left_out(self) -> None:
        policy = only([three("d1"), selection("d2", fallback="no_snapshot"), outcome("d1"), outcome("d2")])
        assert policy_report(policy, "all", now_ms=2_000_000)["savings"]["left_out"] == 1
        assert policy.fallbacks == {"no_snapshot": 1}

    def test_the_sequence_is_the_rooms_own(self) -> None:
        scores = np.random.default_rng(3).normal(size=500)
        low, high = asymptotic_sequence(scores)
        moments = Moments.of(scores[:200]).merged(Moments.of(scores[200:]))
        assert (moments.mean - moments.reach, moments.mean + moments.reach) == pytest.approx((low[-1], high[-1]))


class TestReport:
    def report(self, **changes: object) -> dict[str, object]:
        events: list[Event] = []
        rng = random.Random(0)
        for number in range(600):
            chosen = rng.choices(range(3), (0.5, 0.3, 0.2))[0]
            decision_id = f"d{number}"
            predictions = {"cost": tuple(math.log(cost) for cost in COSTS), "quality": QUALITIES, "success": (1.0,) * 3}
            events += [
                three(decision_id, chosen, predictions=predictions, **changes),
                outcome(decision_id, cost_usd=COSTS[chosen] * rng.uniform(0.9, 1.1), latency_s=1.0),
                feedback(decision_id, QUALITIES[chosen], details={"cost_usd": 0.00001}),
            ]
        return policy_report(only(events), "all", now_ms=10_000_000)

    def test_best_and_most_expensive_are_found_and_money_adds_up(self) -> None:
        saved = self.report()["savings"]
        assert isinstance(saved, dict)
        assert (saved["best"], saved["most_expensive"]) == ("large", "large")
        dear = saved["arms"][0]
        assert dear["name"] == "large"
        assert dear["total_usd"] == pytest.approx(600 * 0.01, rel=0.02)
        paid = 600 * (0.5 * 0.01 + 0.3 * 0.001 + 0.2 * 0.0003)
        assert dear["saved_usd"]["mean"] == pytest.approx(600 * 0.01 - paid, rel=0.1)
        assert dear["saved_usd"]["low"] < 600 * 0.01 - paid < dear["saved_usd"]["high"]
        assert saved["judging_usd"] == pytest.approx(0.006)

    def test_the_interval_of_a_quality_stays_between_0_and_1(self) -> None:
        events: list[Event] = []
        for number in range(60):
            decision_id, chosen = f"d{number}", number % 3
            events += [three(decision_id, chosen), outcome(decision_id), feedback(decision_id, float(chosen == 0))]
        arms = policy_report(only(events), "all", now_ms=2_000_000)["savings"]["arms"]
        quality = {arm["id"]: arm["quality"] for arm in arms}
        assert quality["large"]["high"] == 1.0 and quality["small"]["low"] == 0.0
        assert all(0.0 <= bound <= 1.0 for interval in quality.values() for bound in interval.values())

    def test_nothing_is_claimed_of_the_little_known(self) -> None:
        policy = only([event for n in range(30) for event in (three(f"d{n}", n % 2), outcome(f"d{n}", cost_usd=0.1))])
        arms = {arm["id"]: arm for arm in policy_report(policy, "all", now_ms=2_000_000)["savings"]["arms"]}
        assert arms["small"]["doubt"] == "it has served only 0 requests"
        assert arms["large"]["doubt"] == "it has served only 15 requests"

    def test_failures_alone_say_nothing_of_quality(self) -> None:
        events: list[Event] = []
        for n in range(200):
            status = "error" if n % 33 == 0 else "success"
            events += [
                selection(f"d{n}", chosen=n % 2, probabilities=(0.5, 0.5, 0.0)),
                outcome(f"d{n}", status=status, cost_usd=0.1),
            ]
        saved = policy_report(only(events), "all", now_ms=2_000_000)["savings"]
        assert saved["best"] is None
        assert [(arm["quality"], arm["utility"], arm["quality_ahead"]) for arm in saved["arms"]] == 3 * [
            (None, None, None)
        ]

    def test_nothing_is_claimed_of_what_had_no_chance(self) -> None:
        chosen = [selection(f"d{n}", chosen=n % 2, probabilities=(0.5, 0.5, 0.0)) for n in range(100)]
        policy = only([event for made in chosen for event in (made, outcome(made.decision_id, cost_usd=0.1))])
        for decision in policy.recent:
            assert decision.probabilities is not None
        arms = {arm["id"]: arm for arm in policy_report(policy, "all", now_ms=2_000_000)["savings"]["arms"]}
        assert arms["large"]["doubt"] == ""
        assert arms["small"]["doubt"]

    def test_curves_are_short_and_complete(self) -> None:
        report = self.report()
        series = report["series"]
        assert isinstance(series, dict)
        assert 2 <= len(series["starts_ms"]) <= 60
        assert sum(sum(column["selections"]) for column in series["arms"].values()) == 600

    def test_the_last_hour_is_the_one_before_now(self) -> None:
        policy = only([selection("d1", chosen=0)])
        assert policy_report(policy, "hour", now_ms=1_000_000)["totals"]["selections"] == 1
        assert policy_report(policy, "hour", now_ms=1_000_000 + 4_000_000)["totals"]["selections"] == 0
        assert policy_report(policy, "all", now_ms=1_000_000 + 4_000_000)["totals"]["selections"] == 1

    def test_a_snapshot_gives_beliefs_lag_and_age(self) -> None:
        made = Installation()
        made.run(200)
        view = InstallationView()
        for message in made.log:
            view.event(message)
        view.snapshot(made.stored_published()[-1]._replace(time_ms=made.log[-1].time_ms))
        policy = view.policies[POLICY]
        report = policy_report(policy, "all", now_ms=made.log[-1].time_ms + 5_000)
        health = report["health"]
        assert policy.published is not None
        covered = policy.published.snapshot.offset
        assert health["events_behind"] == sum(message.offset >= covered for message in made.log)
        assert health["snapshot_age_s"] == 5.0
        for arm in report["arms"]:
            belief = arm["beliefs"]["cost"]
            assert belief["low"] < belief["mean"] < belief["high"]
        assert len(report["decisions"]) == 60
        assert {decision["name"] for decision in report["decisions"]} <= {"dear", "cheap", "slow"}

    def test_what_is_assumed_of_an_arm_is_not_shown_as_predicted_of_it(self) -> None:
        made = partly_rated()
        view = InstallationView()
        for message in made.log:
            view.event(message)
        view.snapshot(made.stored_published()[-1])
        newest = policy_report(view.policies[POLICY], "all", now_ms=2_000_000)["decisions"][:20]
        by_arm = {decision["arm"]: decision["reason"] for decision in newest}
        assert by_arm.keys() == set(ARMS)
        assert "Predicted: quality 1.00, success 1.00, cost $" in by_arm["dear"]
        assert "Predicted: success 1.00, cost $" in by_arm["cheap"] and "quality" not in by_arm["cheap"]

    def test_drift_alarms_are_said_newest_first(self) -> None:
        made = Installation().run(60)
        snapshot = made.learner.snapshot(POLICY)
        dear = snapshot.arms["dear"].model_copy(
            update={
                "alarms": {
                    "quality": Alarm(count=1, time_ms=5, before=0.9, after=0.55, observations=40),
                    "latency": Alarm(count=2, time_ms=9, before=0.0, after=math.log(3.0), observations=40),
                }
            }
        )
        changed = snapshot.model_copy(update={"arms": {**snapshot.arms, "dear": dear}}).sealed()
        view = InstallationView()
        for message in made.log:
            view.event(message)
        view.snapshot(StoredMessage(0, 0, 5, b"k", encode(changed)))
        arms = {arm["id"]: arm for arm in policy_report(view.policies[POLICY], "all", now_ms=1_000_100)["arms"]}
        assert [alarm["words"] for alarm in arms["dear"]["alarms"]] == [
            "latency rose from 1 s to 3 s, the 2nd change",
            "quality fell from 0.90 to 0.55",
        ]
        assert arms["cheap"]["alarms"] == []


class TestWords:
    def test_a_best_guess_says_what_was_expected(self) -> None:
        made = ShownDecision(
            "d1", 0, ("a", "b"), (), 0, (0.75, 0.25),
            {"quality": (0.8, 0.7), "cost": (0.0021, 0.1), "latency": (1.23, 2.0)}, {}, ("cold_share",), None,
        )  # fmt: skip
        observed = {"quality", "cost", "latency"}
        assert reason(made, {"a": "large", "b": "small"}.__getitem__, observed=observed) == (
            "large looked best of 2 and was chosen with a probability of 75 %. Predicted: quality 0.80, cost $0.0021, "
            "latency 1.2 s. " + Flag.COLD_SHARE.about
        )

    @pytest.mark.parametrize(
        ("observed", "told"),
        [
            ({"cost"}, " Predicted: cost $0.0021."),  # the logged quality is only what was assumed of this arm
            (set(), " Nothing was known about it yet."),
            (None, ""),
        ],
    )
    def test_what_was_only_assumed_is_not_told_as_predicted(self, observed: set[str] | None, told: str) -> None:
        predictions = {"quality": (0.9, 0.9), "cost": (0.1, 0.0021)}
        made = ShownDecision("d1", 0, ("a", "b"), (), 1, (0.25, 0.75), predictions, {}, (), None)
        said = "b looked best of 2 and was chosen with a probability of 75 %."
        assert reason(made, str, observed=observed) == said + told

    @pytest.mark.parametrize(
        ("count", "ordinal"), [(2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (21, "21st"), (112, "112th")]
    )
    def test_a_change_is_named_and_numbered_as_people_do(self, count: int, ordinal: str) -> None:
        assert alarm_words("ttft", 0.0, math.log(2.0), count) == (
            f"time to first token rose from 1 s to 2 s, the {ordinal} change"
        )
        assert alarm_words("safety", 0.9, 0.4, 1) == "safety fell from 0.90 to 0.40"

    def test_a_fallback_says_why_and_what_conduit_wanted(self) -> None:
        made = ShownDecision("d1", 0, ("a", "b"), (), 0, None, {}, {}, (), "shadow", shadow="b")
        assert reason(made, str) == (
            f"LiteLLM's own selection took a. {Fallback.SHADOW.about} Conduit would have chosen b."
        )

    @pytest.mark.parametrize(
        ("arms", "said"),
        [(("a",), "it was the only deployment available"), (("a", "b"), "something other than Conduit chose it")],
    )
    def test_no_choice_says_so(self, arms: tuple[str, ...], said: str) -> None:
        assert reason(ShownDecision("d1", 0, arms, (), 0, None, {}, {}, (), None), str) == f"a served: {said}."

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            (None, "No outcome is known yet."),
            (OutcomeStatus.ERROR, "It failed (Timeout), latency 2 s."),
            (OutcomeStatus.CANCELLED, f"{OutcomeStatus.CANCELLED.about} Nobody has rated the answer."),
            (OutcomeStatus.CACHE_HIT, f"{OutcomeStatus.CACHE_HIT.about} Nobody has rated the answer."),
        ],
    )
    def test_what_came_of_it(self, status: OutcomeStatus | None, said: str) -> None:
        made = ShownDecision("d1", 0, ("a",), (), 0, None, {}, {}, (), None, status=status)
        if status == "error":
            made.amounts, made.error_class = {"latency_s": 2.0}, "Timeout"
        assert consequence(made) == said

    def test_a_rating_names_who(self) -> None:
        made = ShownDecision(
            "d1", 0, ("a",), (), 0, None, {}, {}, (), None, status="success", amounts={"cost_usd": 1.5}
        )
        made.ratings, made.raters = [0.5, 1.0], {("judge", ""), ("app", "")}
        assert consequence(made) == "It worked, cost $1.50. The answer was rated 0.75 by app, judge."
