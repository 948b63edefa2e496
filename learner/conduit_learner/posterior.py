"""From sums to beliefs: the one place where a signal's posterior is computed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from conduit_learner.linear_solver import solve_ridge
from conduit_learner.regression import Statistics
from conduit_learner.signals import SIGNALS, Signal
from conduit_policy import Prior
from conduit_schemas import SignalPosterior

__all__ = ["BASELINE_OBSERVATIONS", "SIGMA_OBSERVATIONS", "posteriors"]

BASELINE_OBSERVATIONS = 5.0
"""An arm's baseline counts the mean of the pool as this many observations of its own."""

SIGMA_OBSERVATIONS = 5.0
"""A noise estimate counts the signal's default as this many observations."""

Vector = NDArray[np.float64]

_UNUSED = float(np.finfo(np.float32).max)
"""Precision of a component that is not in use: it adds nothing to any variance."""


def posteriors(statistics: Mapping[str, Sequence[Statistics]], *, prior: Prior) -> dict[str, list[SignalPosterior]]:
    """Return each signal's posterior per arm.

    Per signal and arm, with n observations, the regression is of y - m on x, where the baseline m is the
    arm's mean shrunk to the pool's. Component 0 of x is the intercept, so that centring needs no second
    look at the data: the sums of x (y - m) are the moment less m times the gram's first column. The
    noise is the posterior mean of a conjugate normal-inverse-gamma model (Murphy, Machine Learning: a
    Probabilistic Perspective, 2012, section 7.6.3).

    What a request is like mostly moves all arms the same way: a hard question is hard for every model. So the
    weights are learned in two steps. One regression over all arms, of deviations from each arm's own means, gives
    weights that all share; each arm then learns, held stiffer, only how it differs from them.

    Parameters
    ----------
    statistics
        Per signal the arms' sums; all arms of a signal have one dimension.
    prior
        Prior precisions; see :class:`conduit_policy.Prior`. Models of fewer components are padded to its
        dimension with components that are not in use.
    """
    prepared = {signal: _Regressions(SIGNALS[signal], arms) for signal, arms in statistics.items()}
    by_size: dict[int, list[_Regressions]] = {}
    for regressions in prepared.values():
        by_size.setdefault(regressions.grams.shape[-1], []).append(regressions)
    for size, group in by_size.items():
        # One call for all signals of a size: the solver's overhead is per column, not per matrix.
        if size > 1:
            shared = solve_ridge(
                np.stack([regressions.pooled_gram for regressions in group]),
                np.stack([regressions.pooled_moment for regressions in group]),
                prior.shared,
            )
            for regressions, part in zip(group, shared, strict=True):
                regressions.share(part)
        weights = solve_ridge(
            np.concatenate([regressions.grams for regressions in group]),
            np.concatenate([regressions.moments for regressions in group]),
            prior.own[:size],
        )
        for regressions, part in zip(group, np.split(weights, len(group)), strict=True):
            regressions.weights = part
    return {
        signal: [regressions.posterior(arm, prior.own) for arm in range(len(regressions.counts))]
        for signal, regressions in prepared.items()
    }


class _Regressions:
    """The centred regressions of one signal, all arms together."""

    def __init__(self, signal: Signal, arms: Sequence[Statistics]) -> None:
        self.signal = signal
        self.counts = [float(arm.gram[0, 0]) for arm in arms]
        self.sums = [float(arm.moment[0]) for arm in arms]
        self.energies = [arm.energy for arm in arms]
        total = math.fsum(self.counts)
        pool = math.fsum(self.sums) / total if total > 0.0 else signal.default
        self.baselines = [
            (sum_ + BASELINE_OBSERVATIONS * pool) / (count + BASELINE_OBSERVATIONS)
            for sum_, count in zip(self.sums, self.counts, strict=True)
        ]
        self.grams = np.stack([arm.gram for arm in arms])
        self.moments = np.stack([arm.moment for arm in arms])
        self.pooled_gram, self.pooled_moment = self._pooled()
        self.moments -= np.array(self.baselines)[:, None] * self.grams[:, :, 0]
        self.residuals = [
            energy - baseline * (2.0 * sum_ - baseline * count)
            for energy, baseline, sum_, count in zip(self.energies, self.baselines, self.sums, self.counts, strict=True)
        ]
        """Per arm the sum of squares that the weights have to explain."""
        self.shared: Vector = np.zeros(self.grams.shape[-1])
        self.weights: Vector = np.zeros_like(self.moments)
        """Shape (arms, dimension): what each arm adds to the shared weights."""

    def _pooled(self) -> tuple[NDArray[np.float64], Vector]:
        """Return the sums of x x' and x y over all arms, of deviations from each arm's means."""
        gram, moment = np.zeros(self.grams.shape[1:]), np.zeros(self.grams.shape[-1])
        for count, sum_, gram_, moment_ in zip(self.counts, self.sums, self.grams, self.moments, strict=True):
            if count > 0.0:
                mean = gram_[0] / count
                gram += gram_ - mean[:, None] * gram_[0]
                moment += moment_ - mean * sum_
        # The intercept does not deviate: what is left of it is rounding.
        gram[0], gram[:, 0], moment[0] = 0.0, 0.0, 0.0
        return gram, moment

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

    def posterior(self, arm: int, prior: Vector) -> SignalPosterior:
        count, sum_, baseline = self.counts[arm], self.sums[arm], self.baselines[arm]
        weights = self.weights[arm]
        explained = math.fsum((weights * self.moments[arm]).tolist())
        residual = max(0.0, self.residuals[arm] - explained)
        variance = (SIGMA_OBSERVATIONS * self.signal.sigma * self.signal.sigma + residual) / (
            SIGMA_OBSERVATIONS + count
        )
        return SignalPosterior(
            mean=_float32(self.shared + weights, len(prior), 0.0),
            precision=_float32(np.diagonal(self.grams[arm]) + prior[: len(weights)], len(prior), _UNUSED),
            baseline=baseline,
            sigma=math.sqrt(variance),
            average=sum_ / count if count > 0.0 else baseline,
            weight=count,
        )


def _float32(vector: NDArray[np.float64], dimension: int, padding: float) -> bytes:
    padded = np.full(dimension, padding)
    padded[: len(vector)] = vector
    return bytes(np.clip(padded, -_UNUSED, _UNUSED).astype("<f4").data)
