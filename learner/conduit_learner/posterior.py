"""From sums to beliefs: the one place where a signal's posterior is computed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from conduit_learner.linear_solver import solve_ridge
from conduit_learner.regression import Statistics
from conduit_learner.signals import SIGNALS, Signal
from conduit_schemas import SignalPosterior

__all__ = ["BASELINE_OBSERVATIONS", "SIGMA_OBSERVATIONS", "posteriors"]

BASELINE_OBSERVATIONS = 5.0
"""An arm's baseline counts the mean of the pool as this many observations of its own."""

SIGMA_OBSERVATIONS = 5.0
"""A noise estimate counts the signal's default as this many observations."""

_UNUSED = float(np.finfo(np.float32).max)
"""Precision of a component that is not in use: it adds nothing to any variance."""


def posteriors(
    statistics: Mapping[str, Sequence[Statistics]], *, prior: NDArray[np.float64]
) -> dict[str, list[SignalPosterior]]:
    """Return each signal's posterior per arm.

    Per signal and arm, with n observations, the regression is of y - m on x, where the baseline m is the
    arm's mean shrunk to the pool's. Component 0 of x is the intercept, so that centring needs no second
    look at the data: the sums of x (y - m) are the moment less m times the gram's first column. The
    noise is the posterior mean of a conjugate normal-inverse-gamma model (Murphy, Machine Learning: a
    Probabilistic Perspective, 2012, section 7.6.3).

    Parameters
    ----------
    statistics
        Per signal the arms' sums; all arms of a signal have one dimension.
    prior
        Prior precision of each weight, in observations, shape (dimension,); see
        :func:`conduit_policy.prior_precision`. Models of fewer components are padded to this dimension with
        components that are not in use.
    """
    prepared = {signal: _Regressions(SIGNALS[signal], arms) for signal, arms in statistics.items()}
    by_size: dict[int, list[_Regressions]] = {}
    for regressions in prepared.values():
        by_size.setdefault(regressions.grams.shape[-1], []).append(regressions)
    for size, group in by_size.items():
        # One call for all signals of a size: the solver's overhead is per column, not per matrix.
        weights = solve_ridge(
            np.concatenate([regressions.grams for regressions in group]),
            np.concatenate([regressions.moments for regressions in group]),
            prior[:size],
        )
        for regressions, part in zip(group, np.split(weights, len(group)), strict=True):
            regressions.weights = part
    return {
        signal: [regressions.posterior(arm, prior) for arm in range(len(regressions.counts))]
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
        centre = np.array(self.baselines)[:, None]
        self.moments = np.stack([arm.moment for arm in arms]) - centre * self.grams[:, :, 0]
        self.weights: NDArray[np.float64] = np.zeros_like(self.moments)

    def posterior(self, arm: int, prior: NDArray[np.float64]) -> SignalPosterior:
        count, sum_, baseline = self.counts[arm], self.sums[arm], self.baselines[arm]
        weights = self.weights[arm]
        energy = self.energies[arm] - baseline * (2.0 * sum_ - baseline * count)
        explained = math.fsum((weights * self.moments[arm]).tolist())
        residual = max(0.0, energy - explained)
        variance = (SIGMA_OBSERVATIONS * self.signal.sigma * self.signal.sigma + residual) / (
            SIGMA_OBSERVATIONS + count
        )
        return SignalPosterior(
            mean=_float32(weights, len(prior), 0.0),
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
