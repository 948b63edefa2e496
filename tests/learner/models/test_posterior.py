"""The published beliefs, compared with the same model computed from the raw rows."""

import numpy as np
import pytest

from conduit_learner.models.posterior import BASELINE_OBSERVATIONS, SIGMA_OBSERVATIONS, posteriors
from conduit_learner.models.regression import AdditiveRegression, Statistics
from conduit_policy import SIGNALS, Prior
from conduit_schemas import LearningSettings, SignalPosterior

Rows = tuple[np.ndarray, np.ndarray]


def rows(count: int, dimension: int, seed: int, level: float = -7.0) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.integers(-1024, 1024, (count, dimension)) / 1024.0
    x[:, 0] = 1.0
    return x, level + x @ rng.normal(size=dimension) + 0.1 * rng.normal(size=count)


def sums(part: Rows) -> Statistics:
    x, y = part
    return Statistics(x.T @ x, x.T @ y, float(y @ y))


def vector(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<f4")


def ridge(x: np.ndarray, y: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Ridge regression as least squares, with rows that represent the prior."""
    design = np.vstack([x, np.diag(np.sqrt(prior))])
    return np.linalg.lstsq(design, np.concatenate([y, np.zeros(len(prior))]))[0]


def shared_weights(parts: list[Rows], prior: Prior) -> np.ndarray:
    x = np.concatenate([x - x.mean(axis=0) for x, _ in parts])
    y = np.concatenate([y - y.mean() for _, y in parts])
    slopes = ridge(x[:, 1:], y, prior.shared[1:])
    everything = np.concatenate([x for x, _ in parts])
    return np.concatenate([[-slopes @ everything[:, 1:].mean(axis=0)], slopes])


def reference(
    part: Rows, pool: float, prior: Prior, default_sigma: float, shared: np.ndarray
) -> tuple[float, np.ndarray, float]:
    x, y = part
    baseline = (y.sum() + BASELINE_OBSERVATIONS * pool) / (len(y) + BASELINE_OBSERVATIONS)
    left = y - baseline - x @ shared
    own_prior = prior.own[: x.shape[1]]
    own = ridge(x, left, own_prior)
    penalised = float(((left - x @ own) ** 2).sum() + (own_prior * own**2).sum())
    variance = (SIGMA_OBSERVATIONS * default_sigma**2 + penalised) / (SIGMA_OBSERVATIONS + len(y))
    return baseline, shared + own, variance**0.5


def prior_of(*own: float, shared: float = 4.0) -> Prior:
    return Prior(np.array(own), np.full(len(own), shared))


def test_matches_the_regression_on_raw_rows() -> None:
    parts = [rows(200, 6, seed=1), rows(7, 6, seed=2, level=-3.0), rows(50, 6, seed=3)]
    prior = Prior(np.array([0.5, 20.0, 20.0, 5.0, 5.0, 1.0]), np.array([9.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    [*beliefs] = posteriors({"cost": [sums(part) for part in parts]}, prior=prior)["cost"]
    everything = np.concatenate([y for _, y in parts])
    shared = shared_weights(parts, prior)
    assert np.abs(shared).max() > 0.1
    for belief, part in zip(beliefs, parts, strict=True):
        baseline, weights, sigma = reference(part, everything.mean(), prior, SIGNALS["cost"].sigma, shared)
        assert belief.baseline == pytest.approx(baseline, rel=1e-12)
        np.testing.assert_allclose(vector(belief.mean), weights, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(vector(belief.precision), (part[0] ** 2).sum(axis=0) + prior.own, rtol=1e-6)
        assert belief.sigma == pytest.approx(sigma, rel=1e-9)
        assert belief.average == pytest.approx(part[1].mean(), rel=1e-12)
        assert belief.weight == len(part[1])


def test_what_all_arms_share_is_learned_from_all_of_them() -> None:
    rng = np.random.default_rng(0)
    slope, parts = 0.5, []
    for level in (0.2, 0.8):
        x = np.stack([np.ones(300), rng.integers(-1024, 1024, 300) / 1024.0], axis=1)
        parts.append((x, level + slope * x[:, 1] + 0.05 * rng.normal(size=300)))
    few = (parts[0][0][:3], parts[0][1][:3])
    beliefs = posteriors({"quality": [sums(few), sums(parts[1])]}, prior=prior_of(1.0, 300.0, shared=1.0))["quality"]
    assert vector(beliefs[0].mean)[1] == pytest.approx(slope, abs=0.03)  # its own three rows say almost nothing


def test_an_arm_without_observations_is_believed_to_be_the_pool() -> None:
    part, nothing = rows(40, 4, seed=1), Statistics(np.zeros((4, 4)), np.zeros(4), 0.0)
    prior = prior_of(1.0, 1.0, 1.0, 1.0)
    seen, unseen = posteriors({"latency": [sums(part), nothing]}, prior=prior)["latency"]
    assert unseen.baseline == unseen.average == pytest.approx(part[1].mean())
    np.testing.assert_allclose(vector(unseen.mean), shared_weights([part], prior), rtol=1e-5, atol=1e-6)
    assert vector(unseen.precision).tolist() == [1.0] * 4
    assert unseen.sigma == SIGNALS["latency"].sigma
    assert unseen.weight == 0.0
    assert seen.weight == 40.0


def test_known_levels_set_an_arm_off_from_the_pool() -> None:
    parts = [rows(40, 1, seed=1, level=-7.0), rows(80, 1, seed=2, level=-5.0)]
    nothing = Statistics(np.zeros((1, 1)), np.zeros(1), 0.0)
    statistics = {"cost": [*map(sums, parts), nothing, nothing]}
    told = posteriors(statistics, prior=prior_of(1.0), levels={"cost": [1.0, 3.0, 6.0, None]})["cost"]
    above = (parts[0][1].sum() - 40 * 1.0 + parts[1][1].sum() - 80 * 3.0) / 120
    assert told[2].baseline == pytest.approx(6.0 + above)
    assert told[3].baseline == pytest.approx(np.concatenate([y for _, y in parts]).mean())
    expected = (parts[0][1].sum() + BASELINE_OBSERVATIONS * (1.0 + above)) / (40 + BASELINE_OBSERVATIONS)
    assert told[0].baseline == pytest.approx(expected)
    assert told[0].average == pytest.approx(parts[0][1].mean())


def test_levels_tell_of_differences_even_before_anything_is_seen() -> None:
    nothing = Statistics(np.zeros((1, 1)), np.zeros(1), 0.0)
    beliefs = posteriors({"cost": [nothing] * 3}, prior=prior_of(1.0), levels={"cost": [2.0, 4.0, None]})["cost"]
    assert [belief.baseline - SIGNALS["cost"].default for belief in beliefs] == pytest.approx([-1.0, 1.0, 0.0])


def test_a_handful_of_ratings_says_little_where_arms_are_alike() -> None:
    """For quality, 4 bad ratings count against 7 of the pool's and 1 of the intercept's; for cost, against that 1."""
    known, unlucky = (
        Statistics(np.array([[96.0]]), np.array([72.0]), 72.0),
        Statistics(np.full((1, 1), 4.0), np.zeros(1), 0.0),
    )
    prior = Prior.of(LearningSettings(dimension=1))
    for signal, against in (("quality", 8.0), ("cost", 1.0)):
        _, belief = posteriors({signal: [known, unlucky]}, prior=prior)[signal]
        baseline = 0.72 if signal == "quality" else 0.72 * 5.0 / 9.0
        assert belief.baseline == pytest.approx(baseline)
        expected = baseline * against / (4.0 + against)
        assert belief.baseline + vector(belief.mean)[0] == pytest.approx(expected, rel=1e-6)
        assert vector(belief.precision)[0] == pytest.approx(4.0 + against)
        assert (belief.weight, belief.average) == (4.0, 0.0)


def test_before_anything_is_seen_the_defaults_hold() -> None:
    nothing = Statistics(np.zeros((1, 1)), np.zeros(1), 0.0)
    for signal, default in SIGNALS.items():
        [belief] = posteriors({signal: [nothing]}, prior=prior_of(1.0, 1.0, 1.0))[signal]
        assert (belief.baseline, belief.sigma, belief.weight) == (default.default, default.sigma, 0.0)


def test_models_without_context_use_only_the_intercept() -> None:
    part = rows(30, 1, seed=4)
    [belief] = posteriors({"success": [sums(part)]}, prior=prior_of(2.0, 7.0, 7.0))["success"]
    baseline, weights, _ = reference(part, part[1].mean(), prior_of(2.0), 0.2, np.zeros(1))
    assert vector(belief.mean)[0] == pytest.approx(weights[0], abs=1e-6)
    assert belief.baseline == pytest.approx(baseline)
    assert vector(belief.mean).tolist()[1:] == [0.0, 0.0]
    assert vector(belief.precision)[0] == 32.0
    assert (np.float32(belief.sigma**2) / vector(belief.precision)[1:] < 1e-37).all()


def test_signals_of_different_size_are_not_mixed_up() -> None:
    wide, narrow = [rows(30, 5, seed=5), rows(60, 5, seed=6)], [rows(20, 1, seed=7), rows(10, 1, seed=8)]
    prior = prior_of(1.0, 9.0, 9.0, 9.0, 9.0)
    together = posteriors(
        {
            "cost": [sums(part) for part in wide],
            "success": [sums(part) for part in narrow],
            "latency": [sums(part) for part in reversed(wide)],
        },
        prior=prior,
    )
    alone: dict[str, list[SignalPosterior]] = {}
    alone |= posteriors({"cost": [sums(part) for part in wide]}, prior=prior)
    alone |= posteriors({"success": [sums(part) for part in narrow]}, prior=prior)
    alone |= posteriors({"latency": [sums(part) for part in reversed(wide)]}, prior=prior)
    assert together == alone


def test_a_faultless_fit_has_no_negative_noise() -> None:
    model = AdditiveRegression.of_dimension(1)
    for _ in range(1000):
        model.learn_array(np.ones(1), 0.3)
    [belief] = posteriors({"quality": [model.statistics()]}, prior=prior_of(1e-9))["quality"]
    expected = (SIGMA_OBSERVATIONS * 0.3**2 / (SIGMA_OBSERVATIONS + 1000)) ** 0.5
    assert belief.sigma == pytest.approx(expected, rel=1e-6)


def log_density(x: np.ndarray, y: np.ndarray, prior: np.ndarray, sigma: float) -> float:
    """The log density of y under the conjugate model, a multivariate t, up to a constant, from its covariance."""
    spread = np.eye(len(y)) + x @ np.diag(1.0 / prior) @ x.T
    fit = SIGMA_OBSERVATIONS * sigma**2 + y @ np.linalg.solve(spread, y)
    return float(-0.5 * np.linalg.slogdet(spread)[1] - 0.5 * (SIGMA_OBSERVATIONS + len(y)) * np.log(fit))


def test_stiffnesses_are_averaged_by_the_probability_of_the_data() -> None:
    parts = [rows(12, 4, seed=1, level=0.0), rows(9, 4, seed=2, level=1.0)]
    sigma = SIGNALS["latency"].sigma
    prior = Prior(np.array([0.5, 8.0, 4.0, 6.0]), np.full(4, 1e9), (1.0, 3.0, 20.0))  # nothing is shared
    beliefs = posteriors({"latency": [sums(part) for part in parts]}, prior=prior)["latency"]
    pool = float(np.concatenate([y for _, y in parts]).mean())
    evidence, fits = [], []
    for own in prior.multiplied(prior.own):
        one = Prior(own, np.full(4, 1e9))
        fits.append([reference(part, pool, one, sigma, np.zeros(4)) for part in parts])
        evidence.append(
            sum(log_density(x, y - fit[0], own, sigma) for (x, y), fit in zip(parts, fits[-1], strict=True))
        )
    shares = np.exp(np.array(evidence) - max(evidence))
    shares /= shares.sum()
    assert shares.max() < 0.9  # so that averaging is tested, and not choosing
    for arm, belief in enumerate(beliefs):
        x = parts[arm][0]
        weights = sum(share * fit[arm][1] for share, fit in zip(shares, fits, strict=True))
        noise = sum(share * fit[arm][2] ** 2 for share, fit in zip(shares, fits, strict=True))
        variance = sum(
            share * fit[arm][2] ** 2 / ((x**2).sum(axis=0) + own)
            for share, fit, own in zip(shares, fits, prior.multiplied(prior.own), strict=True)
        )
        np.testing.assert_allclose(vector(belief.mean), weights, rtol=1e-5, atol=1e-6)
        assert belief.sigma**2 == pytest.approx(noise, rel=1e-7)
        np.testing.assert_allclose(belief.sigma**2 / vector(belief.precision), variance, rtol=1e-5)


def test_context_counts_as_far_as_it_has_helped_to_predict() -> None:
    rng = np.random.default_rng(3)
    prior = Prior.of(LearningSettings(dimension=21))
    for effect, noise in ((0.0, 0.4), (0.25, 0.1)):
        x = rng.integers(-1024, 1024, (400, 21)) / 1024.0
        x[:, 0] = 1.0
        y = 0.5 + effect * x[:, 1] + noise * rng.normal(size=400)
        other = rng.permutation(400)  # the second arm is the same, but has no observations
        parts = [sums((x, y)), sums((x, y[other]))]
        told, _ = posteriors({"quality": parts}, prior=prior)["quality"]
        slopes = vector(told.mean)[1:]
        if effect:
            assert slopes[0] == pytest.approx(effect, rel=0.15)
        assert np.abs(slopes[1:]).max() < (0.06 if effect else 0.04)
