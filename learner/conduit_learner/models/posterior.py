"""From sums to beliefs: the one place where a signal's posterior is computed."""

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
"""An arm's baseline counts the mean of the pool as this many observations of its own, unless its prior says more."""

SIGMA_OBSERVATIONS = 5.0
"""A noise estimate counts the signal's default as this many observations."""

Vector = NDArray[np.float64]

_UNUSED = float(np.finfo(np.float32).max)
"""Precision of a component that is not in use: it adds nothing to any variance."""


def posteriors(
    statistics: Mapping[str, Sequence[Statistics]],
    *,
    prior: Prior,
    levels: Mapping[str, Sequence[float | None]] | None = None,
) -> dict[str, list[SignalPosterior]]:
    """Return each signal's posterior per arm.

    Per signal and arm, with n observations, the regression is of y - m on x, where the baseline m is the
    arm's mean shrunk to the pool's, or to where ``levels`` set it off from the pool's; where the prior holds arms to
    the pool (:attr:`conduit_policy.Prior.pool`), it is the pool's itself. Component 0 of x is the intercept, so that
    centring needs no second look at the data: the sums of x (y - m) are the moment less m times the gram's first
    column. The noise is the posterior mean of a conjugate normal-inverse-gamma model (Murphy, Machine Learning: a
    Probabilistic Perspective, 2012, section 7.6.3).

    What a request is like mostly moves all arms the same way: a hard question is hard for every model. So the
    weights are learned in two steps. One regression over all arms, of deviations from each arm's own means, gives
    weights that all share; each arm then learns only how it differs from them.

    How much the context tells is not known beforehand. In both steps every multiple of the prior that :class:`Prior`
    lists is tried, and beliefs are averaged over them by the probability of the data under each (the marginal
    likelihood of the same model, Murphy, equation 7.78, over all arms of a signal together): Bayesian model averaging
    (Hoeting et al. 1999). That probability is the product of those with which each outcome was predicted from the ones
    before, so contexts count as much as they have helped to predict, and next to nothing where they tell nothing.

    Parameters
    ----------
    statistics
        Per signal the arms' sums; all arms of a signal have one dimension.
    prior
        Prior precisions; see :class:`conduit_policy.Prior`. Models of fewer components are padded to its
        dimension with components that are not in use.
    levels
        By signal, what is known beforehand of how the arms' means differ: each arm's, up to a number that is the same
        for all of them and is learned; None for an arm of which nothing is known.
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
    """K regressions of one signal, which have one stiffness."""

    signal: Signal
    grams: NDArray[np.float64]
    """Shape (K, d, d)."""
    moments: NDArray[np.float64]
    """Shape (K, d)."""
    energies: Sequence[float]
    """The sums of squares that the weights have to explain."""
    counts: Sequence[float]


class _Fit(NamedTuple):
    """What is believed of the weights of K regressions."""

    weights: NDArray[np.float64]
    """Shape (K, d)."""
    variance: NDArray[np.float64]
    """Shape (K, d): of each weight, were the others known."""
    noise: list[float]
    """Variance of the residuals."""


def _fit(problems: Sequence[_Problem], priors: NDArray[np.float64]) -> list[_Fit]:
    """Return the average over all priors, shape (L, d), of each problem's fit, by the evidence for each prior."""
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
    """The centred regressions of one signal, all arms together."""

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
        """Per arm the sum of squares that the weights have to explain."""
        self.shared: Vector = np.zeros(self.grams.shape[-1])
        self.fit = _Fit(self.moments, self.moments, self.energies)
        """What each arm adds to the shared weights, once it is known."""

    def _expected(self, levels: Sequence[float | None]) -> list[float]:
        """Return the mean that each arm's is shrunk to: the pool's, set off from it where its level is known."""
        columns = list(zip(self.counts, self.sums, levels, strict=True))
        total = math.fsum(self.counts)
        pool = math.fsum(self.sums) / total if total > 0.0 else self.signal.default
        told = [level for level in levels if level is not None]
        seen = math.fsum(count for count, _, level in columns if level is not None)
        if seen > 0.0:
            above = math.fsum(sum_ - count * level for count, sum_, level in columns if level is not None) / seen
        else:
            above = pool - math.fsum(told) / max(1, len(told))
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
        # The intercept does not deviate: what is left of it is rounding.
        gram[0], gram[:, 0], moment[0] = 0.0, 0.0, 0.0
        return _Problem(self.signal, gram[None], moment[None], [math.fsum(energies)], [math.fsum(self.counts)])

    def own(self) -> _Problem:
        """Return what is left to each arm; observations of nothing but the baseline hold its intercept to that."""
        grams = self.grams.copy()
        grams[:, 0, 0] += self.pool
        return _Problem(self.signal, grams, self.moments, self.residuals, self.counts)

    def share(self, weights: Vector) -> None:
        """Leave to the arms' own weights only what the shared ones do not explain."""
        total = math.fsum(self.counts)
        if not total:
            return
        self.shared = weights.copy()
        # Over all requests seen the shared weights add up to nothing: levels are the arms' own matter.
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
