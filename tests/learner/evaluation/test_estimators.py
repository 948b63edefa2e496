"""The estimators, compared with tables made by hand, another implementation, and simulated truth."""

import math
from dataclasses import replace

import numpy as np
import pytest

from conduit_learner.evaluation.estimators import direct, doubly_robust, estimates, ips, snips, switch
from conduit_learner.evaluation.intervals import asymptotic_sequence, betting_bound, betting_sequence, normal_interval
from conduit_learner.evaluation.logged_decisions import LoggedDecisions
from conduit_learner.evaluation.reward_model import ridge_predictions
from conduit_schemas import ConfigurationError

# Drawn once with numpy's default_rng(20240) and rounded. The expected values below are those of the Open Bandit
# Pipeline, package obp version 0.4.1 (Python 3.11), whose distribution needs torch and scikit-learn.
LOGGING = [
    [0.257, 0.182, 0.561], [0.04, 0.598, 0.362], [0.489, 0.255, 0.256], [0.034, 0.118, 0.848],
    [0.567, 0.075, 0.358], [0.011, 0.397, 0.592], [0.2, 0.669, 0.131], [0.182, 0.705, 0.113],
    [0.395, 0.067, 0.538], [0.108, 0.312, 0.58], [0.447, 0.106, 0.447], [0.002, 0.161, 0.837],
]  # fmt: skip
TARGET = [
    [0.304, 0.667, 0.029], [0.132, 0.797, 0.071], [0.343, 0.016, 0.641], [0.757, 0.104, 0.139],
    [0.073, 0.03, 0.897], [0.098, 0.891, 0.011], [0.219, 0.17, 0.611], [0.326, 0.406, 0.268],
    [0.29, 0.025, 0.685], [0.318, 0.003, 0.679], [0.14, 0.815, 0.045], [0.041, 0.312, 0.647],
]  # fmt: skip
CHOSEN = [1, 1, 2, 1, 2, 2, 2, 1, 0, 2, 0, 2]
REWARD = [0.162, 0.782, 0.515, 0.554, 0.749, 0.909, 0.378, 0.892, 0.795, 0.26, 0.965, 0.524]
PREDICTED = [
    [0.702, 0.054, 0.171], [0.326, 0.295, 0.462], [0.437, 0.124, 0.328], [0.691, 0.941, 0.403],
    [0.353, 0.257, 0.683], [0.402, 0.478, 0.5], [0.277, 0.674, 0.677], [0.956, 0.549, 0.868],
    [0.367, 0.352, 0.773], [0.328, 0.586, 0.884], [0.585, 0.801, 0.494], [0.813, 0.944, 0.378],
]  # fmt: skip


def golden() -> LoggedDecisions:
    logging = np.array(LOGGING)
    return LoggedDecisions(
        chosen=np.array(CHOSEN),
        propensity=logging[np.arange(12), CHOSEN],
        target=np.array(TARGET),
        reward=np.array(REWARD),
        predicted=np.array(PREDICTED),
        logging=logging,
        bounds=(0.0, 1.0),
    )


def coin(rewards: list[float], **more: object) -> LoggedDecisions:
    """Actions 0, 1, 0, 1, ... chosen by a fair coin; the policy always takes action 1."""
    n = len(rewards)
    return replace(
        LoggedDecisions(
            chosen=np.arange(n) % 2,
            propensity=np.full(n, 0.5),
            target=np.array([[0.0, 1.0]] * n).reshape(n, 2),
            reward=np.array(rewards),
        ),
        **more,
    )


def test_agrees_with_the_open_bandit_pipeline() -> None:
    log = golden()
    assert ips(log).value == pytest.approx(0.7649465988575685, abs=1e-14)
    assert snips(log).value == pytest.approx(0.47963759660846095, abs=1e-14)
    assert direct(log).value == pytest.approx(0.5631515, abs=1e-14)
    assert doubly_robust(log).value == pytest.approx(0.5601119765559835, abs=1e-14)
    assert switch(log, threshold=1.0).value == pytest.approx(0.5973302773364719, abs=1e-14)
    assert switch(log, threshold=1.5).value == pytest.approx(0.5905429046766479, abs=1e-14)


def test_standard_errors_and_diagnostics_by_plain_loops() -> None:
    log, n = golden(), 12
    w = [TARGET[i][CHOSEN[i]] / LOGGING[i][CHOSEN[i]] for i in range(n)]
    model = [sum(t * q for t, q in zip(TARGET[i], PREDICTED[i], strict=True)) for i in range(n)]
    robust = [model[i] + w[i] * (REWARD[i] - PREDICTED[i][CHOSEN[i]]) for i in range(n)]

    def error(scores: list[float]) -> float:
        mean = math.fsum(scores) / n
        return math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (n - 1) / n)

    def implied(predicted: list[list[float]], spread: float) -> float:
        """The standard error over all actions; their mean square residuals are shrunk by 5 decisions."""
        squares = [(REWARD[i] - predicted[i][CHOSEN[i]]) ** 2 for i in range(n)]
        mean = math.fsum(squares) / n
        residual = []
        for arm in range(3):
            mine = [square for square, taken in zip(squares, CHOSEN, strict=True) if taken == arm]
            residual.append((math.fsum(mine) + 5.0 * mean) / (len(mine) + 5.0))
        second = (
            math.fsum(TARGET[i][arm] ** 2 / LOGGING[i][arm] * residual[arm] for i in range(n) for arm in range(3)) / n
        )
        first = math.fsum(w[i] * (REWARD[i] - predicted[i][CHOSEN[i]]) for i in range(n)) / n
        return math.sqrt((second - first**2 + spread) / n)

    centre = math.fsum(model) / n
    wanted = implied(PREDICTED, math.fsum((value - centre) ** 2 for value in model) / n)
    assert wanted > error(robust)
    estimate = doubly_robust(log)
    assert estimate.standard_error == pytest.approx(wanted, rel=1e-12)
    assert estimate.high - estimate.value == pytest.approx(1.959963984540054 * wanted, rel=1e-12)
    assert estimate.value - estimate.low == pytest.approx(1.959963984540054 * wanted, rel=1e-12)
    unknown = replace(log, logging=None)
    assert doubly_robust(unknown).standard_error == pytest.approx(error(robust), rel=1e-12)
    sequence, plain = doubly_robust(log, anytime=True), doubly_robust(unknown, anytime=True)
    assert sequence.high - sequence.low == pytest.approx((plain.high - plain.low) * wanted / error(robust), rel=1e-12)
    assert estimate.effective_sample_size == pytest.approx(sum(w) ** 2 / sum(x * x for x in w), rel=1e-12)
    assert estimate.largest_weight == pytest.approx(max(w), rel=1e-12)
    log = unknown
    assert ips(log).standard_error == pytest.approx(error([x * r for x, r in zip(w, REWARD, strict=True)]), rel=1e-12)
    ratio = snips(log).value
    spread = math.fsum((x * (r - ratio)) ** 2 for x, r in zip(w, REWARD, strict=True))
    assert snips(log).standard_error == pytest.approx(math.sqrt(spread) / sum(w), rel=1e-12)


def test_intervals_know_of_large_weights_that_did_not_come() -> None:
    """Actions that occur once in 500 decisions: most logs hold almost none of them, and look harmless."""
    rng = np.random.default_rng(11)
    n, logs = 500, 300
    worth = np.array([0.8, 0.5, 0.2])
    covered: dict[str, int] = {}
    for _ in range(logs):
        chosen = rng.choice(3, n, p=[0.996, 0.002, 0.002])
        log = LoggedDecisions(
            chosen=chosen,
            propensity=np.array([0.996, 0.002, 0.002])[chosen],
            target=np.full((n, 3), 1.0 / 3.0),
            reward=(rng.random(n) < worth[chosen]).astype(float),
            predicted=np.full((n, 3), 0.8),
            logging=np.tile([0.996, 0.002, 0.002], (n, 1)),
            bounds=(0.0, 1.0),
        )
        for estimate in (doubly_robust(log), doubly_robust(log, anytime=True), ips(log), snips(log)):
            name = estimate.method if estimate.interval != "asymptotic confidence sequence" else "sequence"
            covered[name] = covered.get(name, 0) + (estimate.low <= worth.mean() <= estimate.high)
    # From the spread of the scores alone, it is .75, .75, .47 and .65. Actions that never occur remain unknown.
    least = {"doubly_robust": 0.85, "sequence": 0.95, "ips": 0.95, "snips": 0.83}
    assert {name for name, share in least.items() if covered[name] < share * logs} == set(), covered


def test_a_table_small_enough_to_work_out_by_hand() -> None:
    log = coin([0.0, 1.0, 0.0, 0.5], predicted=np.array([[0.2, 0.6]] * 4))
    assert ips(log).value == (2 * 1.0 + 2 * 0.5) / 4
    assert snips(log).value == 0.75
    assert direct(log).value == pytest.approx(0.6)
    assert doubly_robust(log).value == pytest.approx(0.6 + (2 * 0.4 - 2 * 0.1) / 4)
    assert log.effective_sample_size == 2.0


def test_the_direct_method_never_has_an_interval() -> None:
    estimate = direct(golden())
    assert (estimate.low, estimate.high, estimate.interval) == (-math.inf, math.inf, "none")
    assert math.isnan(estimate.standard_error)
    assert "no interval" in estimate.warnings[0]


def test_switch_chooses_its_threshold_by_the_rule() -> None:
    """Variance of the mean plus squared bias bound, over every threshold of the grid, in plain loops."""
    rng = np.random.default_rng(0)
    n = 300
    rare = rng.choice([0.5, 0.001], n)
    logging = np.stack([rare, 1.0 - rare], axis=1)
    chosen = (rng.random(n) > rare).astype(int)
    chosen[np.flatnonzero(rare == 0.001)[:2]] = 0
    log = LoggedDecisions(
        chosen=chosen,
        propensity=logging[np.arange(n), chosen],
        target=np.tile([0.08, 0.92], (n, 1)),
        reward=rng.random(n),
        predicted=np.full((n, 2), 0.5),
        logging=logging,
        bounds=(0.0, 1.0),
    )
    low, high = np.quantile(log.ratios, (0.05, 0.95))
    grid = [low * (high / low) ** (step / 20.0) for step in range(21)]

    def criterion(threshold: float) -> tuple[float, float, float]:
        scores, above = [], 0.0
        for row in range(n):
            ratio = log.target[row, chosen[row]] / logging[row, chosen[row]]
            scores.append(0.5 + (ratio * (log.reward[row] - 0.5) if ratio <= threshold * (1.0 + 1e-12) else 0.0))
            above += sum(
                log.target[row, arm] / n
                for arm in range(2)
                if log.target[row, arm] / logging[row, arm] > threshold * (1.0 + 1e-12)
            )
        return float(np.var(scores)) / (n - 1) + above**2, float(np.mean(scores)), above

    best = min(map(criterion, [math.inf, *grid]))
    estimate = switch(log)
    assert estimate.value == pytest.approx(best[1], rel=1e-12)
    assert 0.0 < best[2] < 0.1
    assert f"the bias is at most {best[2]:.3g}" in estimate.warnings[0]
    reach = 1.959963984540054 * estimate.standard_error + best[2]
    assert (estimate.low, estimate.high) == pytest.approx((best[1] - reach, best[1] + reach))
    # Without the complete logged vectors, the share above the threshold is an importance-weighted estimate itself.
    blind = replace(log, logging=None)
    assert blind.share_above(50.0) == pytest.approx(2 * 80.0 / n)
    assert switch(blind, threshold=math.inf).value == doubly_robust(log).value


def test_switch_switches_where_a_few_huge_ratios_would_drown_everything() -> None:
    n = 100
    ratio = np.where(np.arange(n) == 7, 1e-6, 0.5)
    log = LoggedDecisions(
        chosen=np.zeros(n, int),
        propensity=ratio,
        target=np.tile([0.5, 0.5], (n, 1)),
        reward=np.tile([0.0, 1.0], n // 2),
        predicted=np.full((n, 2), 0.5),
        logging=np.stack([ratio, 1.0 - ratio], axis=1),
        bounds=(0.0, 1.0),
    )
    assert doubly_robust(log).value > 1000.0
    assert switch(log).value == pytest.approx(0.5, abs=0.02)


class World:
    """Four actions with known mean rewards, one of them not linear, and a policy that learns while it logs."""

    actions = 4

    @staticmethod
    def means(x: np.ndarray) -> np.ndarray:
        a, b = x[:, 1], x[:, 2]
        return np.stack([0.5 + 0.2 * a, 0.55 + 0.15 * np.sin(3 * b), 0.45 + 0.25 * a * b, np.full(len(x), 0.35)], 1)

    @staticmethod
    def target(x: np.ndarray) -> np.ndarray:
        a, b = x[:, 1], x[:, 2]
        scores = np.exp(6.0 * np.stack([a, np.full(len(x), 0.3), b, -0.3 * a], 1))
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))

    @staticmethod
    def contexts(rng: np.random.Generator, n: int) -> np.ndarray:
        return np.column_stack([np.ones(n), rng.uniform(-1.0, 1.0, (n, 2))])

    @classmethod
    def value(cls) -> float:
        grid = np.linspace(-1.0, 1.0, 801)[1::2]
        a, b = (axis.ravel() for axis in np.meshgrid(grid, grid))
        x = np.column_stack([np.ones(len(a)), a, b])
        return float((cls.means(x) * cls.target(x)).sum(axis=1).mean())

    @classmethod
    def log(cls, seed: int, n: int = 5000, floor: float = 0.1, batch: int = 250) -> tuple[np.ndarray, LoggedDecisions]:
        """Act greedily on ridge regressions refitted after every batch, with a floor of exploration."""
        rng = np.random.default_rng(seed)
        x = cls.contexts(rng, n)
        rewards = (rng.random((n, cls.actions)) < cls.means(x)).astype(float)
        logging = np.full((n, cls.actions), 1.0 / cls.actions)
        chosen = np.zeros(n, int)
        gram, moment = np.tile(np.eye(3), (cls.actions, 1, 1)), np.zeros((cls.actions, 3))
        for start in range(0, n, batch):
            now = slice(start, start + batch)
            if start:
                scores = x[now] @ np.linalg.solve(gram, moment[:, :, None])[:, :, 0].T
                best = scores == scores.max(axis=1, keepdims=True)
                logging[now] = best * (1.0 - floor) + floor / cls.actions
            chosen[now] = (logging[now].cumsum(axis=1) < rng.random((len(x[now]), 1))).sum(axis=1).clip(0, 3)
            for arm in range(cls.actions):
                mine = chosen[now] == arm
                gram[arm] += x[now][mine].T @ x[now][mine]
                moment[arm] += x[now][mine].T @ rewards[now][mine, arm]
        rows = np.arange(n)
        reward = rewards[rows, chosen]
        return x, LoggedDecisions(
            chosen=chosen,
            propensity=logging[rows, chosen],
            target=cls.target(x),
            reward=reward,
            predicted=ridge_predictions(x, chosen, reward, actions=cls.actions, bounds=(0.0, 1.0)),
            logging=logging,
            bounds=(0.0, 1.0),
        )


@pytest.mark.campaign
def test_unbiased_and_covering_on_logs_of_a_learning_policy() -> None:
    truth, repetitions = World.value(), 200
    covered: dict[tuple[str, str], int] = {}
    values: dict[str, list[float]] = {}
    ever_excluded = 0
    for seed in range(repetitions):
        _, log = World.log(seed)
        for estimate in estimates(log):
            key = (estimate.method, estimate.interval)
            covered[key] = covered.get(key, 0) + (estimate.low <= truth <= estimate.high)
            values.setdefault(estimate.method, []).append(estimate.value)
        scores = (log.target * log.predicted).sum(axis=1) + log.weights * (log.reward - log.at_chosen(log.predicted))
        low, high = asymptotic_sequence(scores)
        ever_excluded += bool(((truth < low) | (high < truth))[50:].any())
    for method in ("ips", "doubly_robust", "snips"):
        mean, spread = np.mean(values[method]), np.std(values[method])
        assert abs(mean - truth) < 4.0 * spread / math.sqrt(repetitions), method
    # With 200 logs, a coverage of .95 has a standard error of .015: below .90, something is wrong.
    for key in (("doubly_robust", "normal"), ("snips", "normal"), ("switch", "normal plus bias bound")):
        assert covered[key] >= 0.90 * repetitions, key
    assert covered["ips", "normal"] >= 0.88 * repetitions
    assert covered["doubly_robust", "asymptotic confidence sequence"] >= 0.95 * repetitions
    assert covered["ips", "betting confidence sequence"] >= 0.95 * repetitions
    assert np.std(values["doubly_robust"]) < 0.9 * np.std(values["ips"])
    assert ever_excluded <= 0.10 * repetitions


def test_the_reward_model_knows_the_past_only() -> None:
    x, log = World.log(1, n=600)
    later = log.reward.copy()
    later[300:] = 1.0 - later[300:]
    before = ridge_predictions(x, log.chosen, log.reward, actions=4)
    after = ridge_predictions(x, log.chosen, later, actions=4)
    assert np.array_equal(before[:301], after[:301])
    assert not np.allclose(before[400:], after[400:])


def test_the_reward_model_is_ridge_regression_about_the_mean() -> None:
    rng = np.random.default_rng(3)
    x = np.column_stack([np.ones(9), rng.normal(size=(9, 2))])
    reward = rng.normal(size=9)
    reward[2] = math.nan
    chosen = np.array([0, 1, 0, 1, 0, 1, 0, 0, 1])
    predicted = ridge_predictions(x, chosen, reward, actions=3, ridge=np.array([1.0, 2.0, 3.0]))
    past = [row for row in range(8) if row != 2]
    mean = sum(reward[row] for row in past) / 7
    for action in range(3):
        mine = [row for row in past if chosen[row] == action]
        gram = sum((np.outer(x[row], x[row]) for row in mine), np.diag([1.0, 2.0, 3.0]))
        moment = sum((x[row] * (reward[row] - mean) for row in mine), np.zeros(3))
        assert predicted[8, action] == pytest.approx(mean + x[8] @ np.linalg.inv(gram) @ moment)
    assert predicted[8, 2] == pytest.approx(mean)
    assert (predicted[:8] == 0.0).all()
    assert (ridge_predictions(x, chosen, reward * 100.0, actions=3, bounds=(0.0, 1.0))[8] <= 1.0).all()


def test_missing_feedback_is_weighted_for() -> None:
    """Action 1 gets feedback a tenth as often as action 0, so the mean of the known rewards is far off."""
    rng = np.random.default_rng(5)
    n, share = 40_000, np.array([0.5, 0.05])
    chosen = rng.integers(0, 2, n)
    reward = np.where(chosen == 1, 0.9, 0.1)
    reward[rng.random(n) >= share[chosen]] = math.nan
    log = LoggedDecisions(
        chosen=chosen,
        propensity=np.full(n, 0.5),
        target=np.full((n, 2), 0.5),
        reward=reward,
        predicted=np.zeros((n, 2)),
        bounds=(0.0, 1.0),
    )
    assert np.nanmean(reward) < 0.2
    assert ips(log).value == pytest.approx(0.5, abs=0.01)
    assert "depends on the action alone" in " ".join(ips(log).warnings)
    assert "the interval is approximate" in " ".join(ips(log, anytime=True).warnings)
    given = replace(log, feedback=share[chosen])
    for estimate in estimates(given, alpha=1e-4)[:5]:
        assert estimate.low < 0.5 < estimate.high
        assert "given probabilities" in " ".join(estimate.warnings)
        assert "approximate" not in " ".join(estimate.warnings)
    assert given.weights[~np.isnan(reward) & (chosen == 1)][0] == pytest.approx(20.0)


def test_an_action_nobody_judged_is_named() -> None:
    warnings = coin([math.nan if i % 2 == 0 else 1.0 for i in range(200)]).warnings
    assert any("without any known reward" in text and "[0]" in text for text in warnings)


def test_betting_is_a_capital_that_has_grown_to_its_limit() -> None:
    scores = np.random.default_rng(2).exponential(0.5, 300)
    bound = betting_bound(scores, alpha=0.05)
    capital = 0.0
    for step in range(22):
        share = 1.0 / (1.0 + math.exp(7.0 - step * 14.0 / 21.0))
        wealth = 1.0
        for score in scores:
            wealth *= 1.0 + share * (score / bound - 1.0)
        capital += wealth / 22.0
    assert capital == pytest.approx(20.0, rel=1e-3)
    assert bound < 0.5


@pytest.mark.parametrize("overlap", [1.0, 0.5])
@pytest.mark.campaign
def test_betting_ever_excludes_the_truth_seldom(overlap: float) -> None:
    """Rare, heavy weights. Without half of the overlap, weights average 0.5, and both ends must still hold."""
    rng = np.random.default_rng(7)
    truth, repetitions, excluded = 0.6, 300, 0
    for _ in range(repetitions):
        weights = np.where(rng.random(640) < 0.05, 20.0 * overlap, 0.0)
        rewards = (rng.random(640) < truth).astype(float)
        for stop in (10, 20, 40, 80, 160, 320, 640):
            low, high = betting_sequence(weights[:stop], rewards[:stop], bounds=(0.0, 1.0), alpha=0.2)
            if not low <= truth <= high:
                excluded += 1
                break
    assert excluded <= 0.2 * repetitions


def test_betting_finds_the_value_and_respects_the_unit() -> None:
    rng = np.random.default_rng(11)
    weights, rewards = np.where(rng.random(20_000) < 0.5, 1.8, 0.2), (rng.random(20_000) < 0.3).astype(float)
    low, high = betting_sequence(weights, rewards, bounds=(0.0, 1.0))
    assert 0.27 < low < 0.3 < high < 0.33
    shifted = betting_sequence(weights, 10.0 * rewards - 5.0, bounds=(-5.0, 5.0))
    assert shifted == pytest.approx((10.0 * low - 5.0, 10.0 * high - 5.0))


def test_the_asymptotic_sequence_by_its_formula_and_narrowest_where_told() -> None:
    scores = np.random.default_rng(4).normal(3.0, 2.0, 2000)
    low, high = asymptotic_sequence(scores, alpha=0.1, tight_at=500)
    spread = -2.0 * math.log(0.1)
    r = (spread + math.log(spread + 1.0)) / 500.0
    for t in (2, 77, 2000):
        part = scores[:t]
        reach = part.std(ddof=1) * math.sqrt(2.0 * (t * r + 1.0) / (t * t * r) * math.log(math.sqrt(t * r + 1.0) / 0.1))
        assert low[t - 1] == pytest.approx(part.mean() - reach)
        assert high[t - 1] == pytest.approx(part.mean() + reach)
    assert (low[0], high[0]) == (-math.inf, math.inf)

    def width(tight_at: int) -> float:
        below, above = asymptotic_sequence(scores, alpha=0.1, tight_at=tight_at)
        return float((above - below)[499])

    assert width(500) < min(width(400), width(625))


def test_the_normal_interval_widens_with_confidence() -> None:
    assert normal_interval(0.0, 1.0, alpha=0.01)[1] == pytest.approx(2.5758293035489004)
    assert normal_interval(0.0, math.nan) == (-math.inf, math.inf)


def test_without_overlap_nothing_is_claimed_except_by_betting() -> None:
    log = LoggedDecisions(
        chosen=np.zeros(100, int),
        propensity=np.ones(100),
        target=np.tile([0.0, 1.0], (100, 1)),
        reward=np.full(100, 0.9),
        predicted=np.full((100, 2), 0.5),
        logging=np.tile([1.0, 0.0], (100, 1)),
        bounds=(0.0, 1.0),
    )
    assert log.effective_sample_size == 0.0
    for estimate in estimates(log):
        assert any("no overlap" in text for text in estimate.warnings), estimate.method
        low, high = (0.0, 1.0) if "betting" in estimate.interval else (-math.inf, math.inf)
        assert (estimate.low, estimate.high) == (low, high), estimate.method
    assert math.isnan(snips(log).value)


def test_partial_overlap_is_noticed_with_and_without_the_whole_vectors() -> None:
    n = 1000
    log = LoggedDecisions(
        chosen=np.arange(n) % 2,
        propensity=np.full(n, 0.5),
        target=np.tile([0.3, 0.3, 0.4], (n, 1)),
        reward=np.zeros(n),
        logging=np.tile([0.5, 0.5, 0.0], (n, 1)),
    )
    assert any("40.0% of the policy's choices could not have been logged" in text for text in log.warnings)
    assert any("average 0.6 instead of 1" in text for text in replace(log, logging=None).warnings)


def test_thin_evidence_is_put_in_words() -> None:
    n = 100
    propensity = np.where(np.arange(n) == 5, 0.001, 0.5)
    log = LoggedDecisions(
        chosen=np.zeros(n, int), propensity=propensity, target=np.tile([0.5, 0.5], (n, 1)), reward=np.zeros(n)
    )
    text = " ".join(log.warnings)
    assert "as informative as 1.4" in text
    assert "one decision carries 83% of the total weight" in text
    assert coin([0.5] * 200).warnings == ()


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_decisions(n: int) -> None:
    log = coin(
        [0.5] * n, predicted=np.full((n, 2), 0.5), bounds=(0.0, 1.0), target=np.array([[1.0, 0.0]] * n).reshape(n, 2)
    )
    found = {(e.method, e.interval == "none"): e for e in estimates(log)}
    for (method, no_interval), estimate in found.items():
        assert estimate.n == n
        assert estimate.warnings, method
        if no_interval:
            assert (estimate.low, estimate.high) == (-math.inf, math.inf)
        else:
            assert (estimate.low, estimate.high) == pytest.approx((0.0, 1.0), abs=0.05)
    value = found["doubly_robust", True].value
    assert math.isnan(value) if n == 0 else value == 0.5


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("propensity", 3, 0.0, r"decision 3 .*propensity must be above 0 and at most 1, not 0.0"),
        ("propensity", 4, 1.5, r"decision 4"),
        ("propensity", 5, math.nan, r"decision 5"),
        ("target", 6, 0.9, r"decision 6 .*target probabilities must sum to 1"),
        ("target", 6, -1.0, r"decision 6 .*a target probability cannot be -1.0"),
        ("logging", 2, 0.2, r"decision 2 .*logging probabilities must sum to 1"),
        ("reward", 1, 2.0, r"decision 1 .*in 0\.\.1, not 2.0"),
        ("reward", 1, -math.inf, r"decision 1"),
        ("chosen", 8, 3, r"decision 8 .*from 0 to 2, not 3"),
        ("chosen", 8, -1, r"decision 8"),
        ("predicted", 9, math.nan, r"decision 9 .*not finite"),
    ],
)
def test_nonsense_is_refused_with_its_row(column: str, row: int, value: float, message: str) -> None:
    log = golden()
    changed = getattr(log, column).copy()
    changed[row] = value
    with pytest.raises(ConfigurationError, match=message):
        replace(log, **{column: changed})


def test_contradictions_are_refused() -> None:
    log = golden()
    with pytest.raises(ConfigurationError, match=r"decision 0 .*differs from the probability in logging"):
        replace(log, propensity=log.propensity * 0.9)
    with pytest.raises(ConfigurationError, match=r"decision 0 .*a reward is known"):
        replace(log, feedback=np.zeros(12))
    with pytest.raises(ConfigurationError, match=r"target has shape \(12,\)"):
        replace(log, target=log.propensity)
    with pytest.raises(ConfigurationError, match=r"reward has shape \(3,\), expected \(12,\)"):
        replace(log, reward=np.zeros(3))
    with pytest.raises(ConfigurationError, match="bounds must be"):
        replace(log, bounds=(1.0, 0.0))
    with pytest.raises(ConfigurationError, match="pass predicted"):
        doubly_robust(replace(log, predicted=None))
    with pytest.raises(ConfigurationError, match="pass bounds"):
        ips(replace(log, bounds=None), anytime=True)
    with pytest.raises(ConfigurationError, match=r"alpha=1\.0"):
        estimates(log, alpha=1.0)
    with pytest.raises(ConfigurationError, match="tight_at"):
        asymptotic_sequence(log.reward, tight_at=0)
