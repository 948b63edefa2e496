"""Changes are detected where they happen, only there, and identically however the learner is run."""

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from learner_traffic import ARMS, POLICY, checkpoint_of, context, feedback, learned, outcome, resumed, selection, stored

from conduit_learner.commands.text import changes
from conduit_learner.core.arm import fresh_watch
from conduit_learner.core.checkpoint import dump, restorations
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.core.policy_learner import PolicyLearner
from conduit_learner.models.drift import MARKS, MIN_OLD, Change, Watch, detect_changes, rebase
from conduit_learner.models.regression import BLOCK, AdditiveRegression, fold
from conduit_log import StoredMessage
from conduit_policy import SIGNALS
from conduit_schemas import Event

Generator = np.random.Generator
ONE = (1024).to_bytes(2, "little")


def watched(targets: Sequence[float], signal: str = "quality", block: int = 16) -> list[tuple[int, Change]]:
    """Return the changes found in one signal's targets, and after how many targets."""
    models = {name: AdditiveRegression.of_dimension(1, fixed_point=True) for name in SIGNALS}
    watch = Watch(dict.fromkeys(SIGNALS, 1))
    row = list(SIGNALS).index(signal)
    found = []
    for start in range(0, len(targets), block):
        for target in targets[start : start + block]:
            models[signal].learn_row(ONE, float(target))
        fold(models.values())
        for change in detect_changes([(watch, models)], prior=np.ones(1))[0]:
            rebase(watch, row, models[signal], change)
            found.append((start + block, change))
        for model in models.values():
            model.fade(1.0 - block / 2000)
        watch.fade(1.0 - block / 2000)
    return found


STEADY: dict[str, tuple[str, Callable[[Generator], np.ndarray]]] = {
    "rare successes": ("quality", lambda rng: rng.random(4000) < 0.1),
    "coin": ("quality", lambda rng: rng.random(4000) < 0.5),
    "usual": ("quality", lambda rng: rng.random(4000) < 0.9),
    "grades": ("quality", lambda rng: rng.beta(9.0, 1.0, 4000)),
    "rare errors": ("success", lambda rng: rng.random(4000) < 0.99),
    "costs": ("cost", lambda rng: rng.normal(-7.0, 1.0, 4000)),
    "heavy tails": ("latency", lambda rng: rng.standard_t(3, 4000)),
}


@pytest.mark.parametrize("block", [8, 30])
@pytest.mark.parametrize("name", STEADY)
def test_what_stays_the_same_raises_no_alarm(name: str, block: int) -> None:
    signal, draw = STEADY[name]
    for seed in range(3):
        assert not watched(draw(np.random.default_rng(seed)).tolist(), signal, block)


@pytest.mark.parametrize(("before", "after", "within"), [(0.9, 0.3, 60), (0.3, 0.9, 60), (0.9, 0.6, 200)])
def test_a_change_is_noticed_soon_and_its_levels_are_right(before: float, after: float, within: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        [(noticed, change)] = watched([*(rng.random(1500) < before), *(rng.random(500) < after)])
        assert 1500 < noticed <= 1500 + within
        assert change.before == pytest.approx(before, abs=0.05)
        assert change.after == pytest.approx(after, abs=0.25)


def test_a_failing_deployment_is_noticed_at_once() -> None:
    [(noticed, change)] = watched([1.0] * 400 + [0.0] * 100, "success")
    assert noticed <= 400 + 16
    assert (change.before, change.after) == (pytest.approx(1.0), pytest.approx(0.0, abs=0.5))


def test_too_little_was_known_to_say_that_it_changed() -> None:
    assert not watched([1.0] * int(MIN_OLD - 4) + [0.0] * 16, "success", block=8)


class TestForgetting:
    def changed(self) -> tuple[AdditiveRegression, Change]:
        """60 rows of 3 features, then 20 rows whose targets are 2.0 lower."""
        rng = np.random.default_rng(3)
        x = np.round(rng.normal(size=(80, 3)) * 1024) / 1024
        x[:, 0] = 1.0
        y = x @ np.array([1.0, 0.5, -0.25]) - 2.0 * (np.arange(80) >= 60)
        model = AdditiveRegression.of_dimension(3)
        watch = Watch({"quality": 3})
        for row, target in zip(x[:60], y[:60], strict=True):
            model.learn_array(row, float(target))
        fold([model])
        watch.mark(0, model)
        for row, target in zip(x[60:], y[60:], strict=True):
            model.learn_array(row, float(target))
        fold([model])
        change = Change("quality", 1.0, -1.0, 20.0, MARKS - 1)
        rebase(watch, 0, model, change)
        assert not watch.sums.any()
        return model, change

    def test_what_is_left_is_as_if_the_old_rows_had_come_at_the_new_level(self) -> None:
        model, _ = self.changed()
        rng = np.random.default_rng(3)
        x = np.round(rng.normal(size=(80, 3)) * 1024) / 1024
        x[:, 0] = 1.0
        y = x @ np.array([1.0, 0.5, -0.25]) - 2.0
        share = 20.0 / 80.0
        gram, moment, energy = model.statistics()
        np.testing.assert_allclose(gram, share * x.T @ x)
        np.testing.assert_allclose(moment, share * x.T @ y)
        assert energy == pytest.approx(share * float(y @ y))

    def test_slopes_are_kept_and_the_level_has_moved(self) -> None:
        model, _ = self.changed()
        gram, moment, _ = model.statistics()
        np.testing.assert_allclose(np.linalg.solve(gram, moment), [-1.0, 0.5, -0.25])


def changing(decisions: int = 1600, *, at: int = 800, arm: int = 0) -> list[Event]:
    """Traffic in which one arm's answers become bad and slow."""
    rng = random.Random(11)
    events: list[Event] = []
    for number in range(decisions):
        chosen = rng.randrange(len(ARMS))
        bad = number >= at and chosen == arm
        events.append(selection(f"d{number}", chosen=chosen))
        events.append(outcome(f"d{number}", cost_usd=0.01, latency_s=rng.lognormvariate(2.0 if bad else 0.0, 0.3)))
        events.append(feedback(f"d{number}", float(rng.random() < (0.2 if bad else 0.9))))
    return events


LOG = stored(changing())


def test_only_what_changed_is_reported() -> None:
    snapshot = learned(LOG).snapshot(POLICY)
    assert {arm: set(state.alarms or {}) for arm, state in snapshot.arms.items()} == {
        "large": {"quality", "latency"},
        "medium": set(),
        "small": set(),
    }
    alarm = (snapshot.arms["large"].alarms or {})["quality"]
    assert (alarm.count, alarm.before, alarm.after) == (1, pytest.approx(0.9, abs=0.1), pytest.approx(0.2, abs=0.2))
    change_ms = LOG[3 * 800].time_ms
    assert change_ms < alarm.time_ms < change_ms + 3 * 200 * 100
    first, second = changes(snapshot)
    assert {first.split(" changed")[0], second.split(" changed")[0]} == {"large: quality", "large: latency"}


def test_the_belief_follows_much_faster_than_fading_alone() -> None:
    belief = learned(LOG[: 3 * 1100]).snapshot(POLICY).arms["large"].signals["quality"]
    untouched = learned(LOG[: 3 * 1100]).snapshot(POLICY).arms["medium"].signals["quality"]
    assert belief.average < 0.35
    assert untouched.average > 0.85
    assert untouched.weight > 300


def test_a_change_of_one_arm_leaves_the_others_as_they_were() -> None:
    changed = learned(LOG).snapshot(POLICY)
    steady = learned(stored(changing(at=10**9))).snapshot(POLICY)
    for arm in ("medium", "small"):
        assert changed.arms[arm].signals["quality"].weight == steady.arms[arm].signals["quality"].weight


def test_interruptions_change_nothing() -> None:
    expected = dump(learned(LOG))
    for stop in (2399, 2700, 3333):
        learner = PartitionLearner(0)
        for message in LOG[:stop]:
            learner.apply(message)
            if message.offset % 97 == 0:
                learner.snapshot(POLICY)
        [restoration] = restorations(0, "conduit.events", checkpoint_of(learner))
        again = resumed(restoration, LOG)
        for message in LOG[stop:]:
            again.apply(message)
        assert dump(again) == expected
        assert again.policies[POLICY].alarms == 2


class TestFailing:
    """An arm fails, loses its traffic, and works again without notice."""

    ROW = ONE + bytes(126)

    def after_an_outage(self, trials: int) -> tuple[PolicyLearner, list[int], float]:
        """Let an arm fail that many times; return at which ticks, and how likely its success was each time."""
        learner = PolicyLearner(POLICY)
        for arm in ARMS:
            learner.add_arm(arm)
        for number in range(900):
            learner.learn(ARMS[number % 3], self.ROW, {"success": 1.0})
        for _ in range(40):
            learner.learn("large", self.ROW, {"success": 0.0})
        for _ in range(BLOCK):
            learner.learn("small", self.ROW, {"success": 1.0})
        assert self.success(learner) < 0.3
        begin, tried = learner.ticks, []
        while len(tried) < trials:
            for _ in range(BLOCK):
                learner.learn("small", self.ROW, {"success": 1.0})
            if self.success(learner) > 0.7:
                tried.append(learner.ticks - begin)
                learner.learn("large", self.ROW, {"success": 0.0})
        return learner, tried, self.success(learner)

    def success(self, learner: PolicyLearner) -> float:
        belief = learner.snapshot(partition=0, offset=0, now_ms=0).arms["large"].signals["success"]
        return belief.baseline + float(np.frombuffer(belief.mean, "<f4")[0])

    @pytest.mark.campaign
    def test_it_is_tried_after_times_that_grow(self) -> None:
        learner, tried, _ = self.after_an_outage(12)
        assert tried[0] < 4000
        assert tried[-1] > 4 * tried[0]
        for begin in (tried[0], 2 * tried[0]):
            assert 1 <= sum(begin < when <= 2 * begin for when in tried) <= 8
        assert {arm for arm, state in learner.arms.items() if state.watch.failing} == {"large"}

    def test_one_answer_brings_it_back(self) -> None:
        learner, _, before = self.after_an_outage(3)
        learner.learn("large", self.ROW, {"success": 1.0})
        assert self.success(learner) > before + 0.1
        for _ in range(60):
            learner.learn("large", self.ROW, {"success": 1.0})
        assert self.success(learner) > 0.9

    def test_what_is_known_of_its_quality_stays(self) -> None:
        learner, _, _ = self.after_an_outage(1)
        for _ in range(30):
            learner.learn("large", self.ROW, {"quality": 0.8})
        before = learner.arms["large"].models["quality"].sums
        learner.arms["large"].watch.fade_failing(learner.arms["large"].models["success"], BLOCK)
        assert learner.arms["large"].models["quality"].sums == before

    def test_it_is_remembered_by_a_checkpoint(self) -> None:
        learner, _, _ = self.after_an_outage(1)
        watch = learner.arms["large"].watch
        again = fresh_watch(learner.arms["large"].models)
        again.restore(watch.to_array())
        assert again.failing == watch.failing > 0.0


def test_a_watch_of_other_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match="numbers do not describe a watch"):
        Watch({"quality": 2}).restore(np.zeros(3))


class TestOtherRequests:
    """The policy sends an arm different requests than before, whose answers are always worse."""

    def log(self, slope: float) -> list[StoredMessage]:
        rng = random.Random(5)
        events: list[Event] = []
        for number in range(1800):
            hard = number >= 900
            components = np.frombuffer(context(rng), "<i2").copy()
            components[5] = round(1024 * (rng.uniform(0.2, 1.2) if hard else rng.uniform(-0.8, 0.4)))
            easy = 0.5 - slope * components[5] / 1024
            quality = min(1.0, max(0.0, easy + rng.gauss(0.0, 0.1)))
            events.append(selection(f"d{number}", chosen=0, context=components.tobytes()))
            events.append(feedback(f"d{number}", quality))
        return stored(events)

    def test_is_no_alarm_where_context_explains_it(self) -> None:
        snapshot = learned(self.log(0.35)).snapshot(POLICY)
        assert not snapshot.arms["large"].alarms

    def test_but_hides_no_change_besides(self) -> None:
        log = self.log(0.35)
        rng = random.Random(6)
        more: list[Event] = []
        for number in range(1800, 2400):
            components = np.frombuffer(context(rng), "<i2").copy()
            components[5] = round(1024 * rng.uniform(0.2, 1.2))
            more.append(selection(f"d{number}", chosen=0, context=components.tobytes()))
            more.append(feedback(f"d{number}", min(1.0, max(0.0, 0.1 + rng.gauss(0.0, 0.05)))))
        snapshot = learned([*log, *stored(more, start=len(log))]).snapshot(POLICY)
        assert set(snapshot.arms["large"].alarms or {}) == {"quality"}


@pytest.mark.campaign
def test_forgetting_does_not_wind_up() -> None:
    """Without traffic, an arm's uncertainty grows up to that of the prior, and no further."""
    learner = learned(stored(changing(200)))
    policy = learner.policies[POLICY]
    row = ONE + bytes(126)
    for _ in range(400_000):
        policy.learn("medium", row, {"quality": 0.5})
    snapshot = learner.snapshot(POLICY)
    waiting = np.frombuffer(snapshot.arms["small"].signals["quality"].precision, "<f4")
    prior = np.full(64, 4.0 / (1 / 10 + 1 / 100 + 1 / 1000 + 1 / 10000))  # variances are averaged; here all are equal
    prior[0] = 8.0  # 1 of the intercept, and 7 that pull it towards the pool's mean
    assert (waiting >= prior * 0.999).all()
    assert (waiting <= prior * 1.001 + 1e-3).all()
    assert np.isfinite(np.frombuffer(snapshot.arms["medium"].signals["quality"].mean, "<f4")).all()
