"""Compute the posteriors of all signals from the sums."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conduit_learner.models.elementary import exp, ln
from conduit_learner.models.linear_solver import solve_ridge
from conduit_learner.models.regression import Statistics
from conduit_policy import SIGNALS, Prior, Signal
from conduit_policy.vectors import pack_vector
from conduit_schemas import SignalPosterior

__all__ = ["BASELINE_OBSERVATIONS", "SIGMA_OBSERVATIONS", "posteriors"]

BASELINE_OBSERVATIONS = 5.0
"""An arm's baseline counts the pool's mean as this many observations, unless the prior adds more."""

SIGMA_OBSERVATIONS = 5.0
"""An estimate of the noise counts the signal's default as this many observations."""

Vector = NDArray[np.float64]

_UNUSED = float(np.finfo(np.float32).max)
"""Precision of an unused component, which adds nothing to any variance."""


def posteriors(
    statistics: Mapping[str, Sequence[Statistics]],
    *,
    prior: Prior,
    levels: Mapping[str, Sequence[float | None]] | None = None,
) -> dict[str, list[SignalPosterior]]:
    """Return each signal's posterior per arm.

    For each signal and arm, y - m is regressed on x. The baseline m is the arm's mean, shrunk towards the pool's mean,
    which ``levels`` may offset for the arm. If the prior pulls arms towards the pool
    (:attr:`conduit_policy.Prior.pool`), m is the pool's mean itself. Component 0 of x is the intercept, so centring
    does not need the data again: the sum of x (y - m) is the moment minus m times the first column of the gram matrix.
    The noise is the posterior mean of a conjugate normal-inverse-gamma model (Murphy, Machine Learning: a Probabilistic
    Perspective, 2012, section 7.6.3).

    A request mostly affects all arms in the same way: a hard question is hard for every model. The weights are
    therefore learned in two steps. One regression over all arms, of deviations from each arm's own means, gives the
    weights that all share. Each arm then learns only how it differs from them.

    How much the context matters is not known beforehand. In both steps, every multiple of the prior in :class:`Prior`
    is tried, and the results are averaged, weighted by the probability of the data under each multiple. This is
    Bayesian model averaging (Hoeting et al. 1999), with the marginal likelihood of the same model (Murphy, equation
    7.78) over all arms of a signal together. The marginal likelihood is the product of the probabilities with which
    each outcome was predicted from those before it. Contexts therefore count as much as they have helped to predict.

    Parameters
    ----------
    statistics
        The arms' sums, by signal. All arms of a signal have the same dimension.
    prior
        Prior precisions; see :class:`conduit_policy.Prior`. Models with fewer components are padded to its dimension
        with unused components.
    levels
        By signal, what is known beforehand about the differences between the arms' means: one level per arm, relative
        to a common offset, which is learned. None for an arm about which nothing is known.
    """
    prepared = {
        signal: _Regressions(
            SIGNALS[signal], arms, (levels or {}).get(signal) or [None] * len(arms), prior.pool.get(signal, 0.0)
        )
        for signal, arms in statistics.items()
    }
    by_size: dict[int, list[_Regressions]] = {}
    for regressions in prepared.values():
        by_size.setdefault(regressions.grams.shape[-1], []).append(regressions)
    for size, group in by_size.items():
        # One call for all signals of a size: the solver's overhead is per column, not per matrix.
        priors = prior.multiplied(prior.own[:size])
        if size > 1:
            problems = [regressions.pooled() for regressions in group]
            for regressions, fit in zip(group, _fit(problems, prior.multiplied(prior.shared[:size])), strict=True):
                regressions.share(fit.weights[0])
        else:
            priors = priors[:1]  # without context there is nothing to multiply
        for regressions, fit in zip(group, _fit([regressions.own() for regressions in group], priors), strict=True):
            regressions.fit = fit
    return {
        signal: [regressions.posterior(arm, len(prior.own)) for arm in range(len(regressions.counts))]
        for signal, regressions in prepared.items()
    }


class _Problem(NamedTuple):
    """K regressions of one signal that share the same prior."""

    signal: Signal
    grams: NDArray[np.float64]
    """Shape (K, d, d)."""
    moments: NDArray[np.float64]
    """Shape (K, d)."""
    energies: Sequence[float]
    """The sums of squares that the weights should explain."""
    counts: Sequence[float]


class _Fit(NamedTuple):
    """The posterior of the weights of K regressions."""

    weights: NDArray[np.float64]
    """Shape (K, d)."""
    variance: NDArray[np.float64]
    """Shape (K, d): variance of each weight, given the others."""
    noise: list[float]
    """Variance of the residuals."""


def _fit(problems: Sequence[_Problem], priors: NDArray[np.float64]) -> list[_Fit]:
    """Return each problem's fit, averaged over all priors (shape (L, d)) by the evidence for each."""
    solved = solve_ridge(
        np.concatenate([problem.grams for problem in problems]),
        np.concatenate([problem.moments for problem in problems]),
        priors,
    )
    averages = []
    start = 0
    for problem in problems:
        part = slice(start, start + len(problem.counts))
        start = part.stop
        diagonals = np.einsum("kii->ki", problem.grams)
        fits, evidence = [], []
        for prior, weights, shrinkage in zip(
            priors, solved.weights[:, part], solved.shrinkage[:, part].tolist(), strict=True
        ):
            noise, log_evidence = [], []
            for k, count in enumerate(problem.counts):
                explained = math.fsum((weights[k] * problem.moments[k]).tolist())
                squares = SIGMA_OBSERVATIONS * problem.signal.sigma**2 + max(0.0, problem.energies[k] - explained)
                noise.append(squares / (SIGMA_OBSERVATIONS + count))
                log_evidence.append(0.5 * (shrinkage[k] - (SIGMA_OBSERVATIONS + count) * ln(squares)))
            fits.append(_Fit(weights, np.array(noise)[:, None] / (diagonals + prior), noise))
            evidence.append(math.fsum(log_evidence))
        averages.append(_average(fits, evidence))
    return averages


def _average(fits: Sequence[_Fit], evidence: Sequence[float]) -> _Fit:
    odds = [exp(value - max(evidence)) for value in evidence]
    shares = [value / math.fsum(odds) for value in odds]
    weights, variance = np.zeros_like(fits[0].weights), np.zeros_like(fits[0].variance)
    for fit, share in zip(fits, shares, strict=True):  # one order of additions on every machine
        weights += share * fit.weights
        variance += share * fit.variance
    noise = [
        math.fsum(share * fit.noise[k] for fit, share in zip(fits, shares, strict=True)) for k in range(len(weights))
    ]
    return _Fit(weights, variance, noise)


class _Regressions:
    """The centred regressions of one signal, for all arms."""

    def __init__(self, signal: Signal, arms: Sequence[Statistics], levels: Sequence[float | None], pool: float) -> None:
        self.signal = signal
        self.pool = pool
        self.counts = [arm.observations for arm in arms]
        self.sums = [float(arm.moment[0]) for arm in arms]
        self.energies = [arm.energy for arm in arms]
        self.baselines = [
            level if pool else (sum_ + BASELINE_OBSERVATIONS * level) / (count + BASELINE_OBSERVATIONS)
            for sum_, count, level in zip(self.sums, self.counts, self._expected(levels), strict=True)
        ]
        self.grams = np.stack([arm.gram for arm in arms])
        self.raw = np.stack([arm.moment for arm in arms])
        self.moments = self.raw - np.array(self.baselines)[:, None] * self.grams[:, :, 0]
        self.residuals = [
            energy - baseline * (2.0 * sum_ - baseline * count)
            for energy, baseline, sum_, count in zip(self.energies, self.baselines, self.sums, self.counts, strict=True)
        ]
        """Per arm, the sum of squares that the weights should explain."""
        self.shared: Vector = np.zeros(self.grams.shape[-1])
        self.fit = _Fit(self.moments, self.moments, self.energies)
        """What each arm adds to the shared weights. Set once it is computed."""

    def _expected(self, levels: Sequence[float | None]) -> list[float]:
        """Return the mean that each arm is shrunk towards: the pool's, offset if the arm's level is known."""
        columns = list(zip(self.counts, self.sums, levels, strict=True))
        total = math.fsum(self.counts)
        pool = math.fsum(self.sums) / total if total > 0.0 else self.signal.default
        known = [level for level in levels if level is not None]
        seen = math.fsum(count for count, _, level in columns if level is not None)
        if seen > 0.0:
            above = math.fsum(sum_ - count * level for count, sum_, level in columns if level is not None) / seen
        else:
            above = pool - math.fsum(known) / max(1, len(known))
        return [pool if level is None else level + above for level in levels]

    def pooled(self) -> _Problem:
        """Return the regression over all arms, of deviations from each arm's means."""
        gram, moment, energies = np.zeros(self.grams.shape[1:]), np.zeros(self.grams.shape[-1]), []
        columns = (self.counts, self.sums, self.energies, self.grams, self.raw)
        for count, sum_, energy, gram_, moment_ in zip(*columns, strict=True):
            if count > 0.0:
                mean = gram_[0] / count
                gram += gram_ - mean[:, None] * gram_[0]
                moment += moment_ - mean * sum_
                energies.append(energy - sum_ * sum_ / count)
        # The intercept does not deviate, so what is left of it is a rounding error.
        gram[0], gram[:, 0], moment[0] = 0.0, 0.0, 0.0
        return _Problem(self.signal, gram[None], moment[None], [math.fsum(energies)], [math.fsum(self.counts)])

    def own(self) -> _Problem:
        """Return what each arm still has to learn. Additional observations of the baseline pull its intercept there."""
        grams = self.grams.copy()
        grams[:, 0, 0] += self.pool
        return _Problem(self.signal, grams, self.moments, self.residuals, self.counts)

    def share(self, weights: Vector) -> None:
        """Subtract what the shared weights explain, so that the arms' own weights learn only the rest."""
        total = math.fsum(self.counts)
        if not total:
            return
        self.shared = weights.copy()
        # Over all observed requests, the shared weights have no net effect: each arm learns its own level.
        middle = [math.fsum(column) / total for column in self.grams[:, 0].T.tolist()]
        self.shared[0] = -math.fsum(weight * mean for weight, mean in zip(weights.tolist(), middle, strict=True))
        explained = np.zeros_like(self.moments)
        for column, weight in enumerate(self.shared.tolist()):  # one order of additions on every machine
            explained += self.grams[:, :, column] * weight
        for arm in range(len(self.counts)):
            twice = math.fsum((self.shared * (2.0 * self.moments[arm] - explained[arm])).tolist())
            self.residuals[arm] -= twice
        self.moments = self.moments - explained

    def posterior(self, arm: int, dimension: int) -> SignalPosterior:
        count, sum_, baseline = self.counts[arm], self.sums[arm], self.baselines[arm]
        noise = self.fit.noise[arm]
        return SignalPosterior(
            mean=_float32(self.shared + self.fit.weights[arm], dimension, 0.0),
            precision=_float32(noise / self.fit.variance[arm], dimension, _UNUSED),
            baseline=baseline,
            sigma=math.sqrt(noise),
            average=sum_ / count if count > 0.0 else baseline,
            weight=count,
        )


def _float32(vector: NDArray[np.float64], dimension: int, padding: float) -> bytes:
    padded = np.full(dimension, padding)
    padded[: len(vector)] = vector
    return pack_vector(np.clip(padded, -_UNUSED, _UNUSED))
