"""The validated table of logged decisions for off-policy evaluation, with importance weights and warnings."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conduit_schemas import ConfigurationError

__all__ = ["LoggedDecisions"]

Vector = NDArray[np.float64]

_MIN_EFFECTIVE_SAMPLE = 100.0
"""Below this effective sample size, intervals are unreliable."""

_MAX_WEIGHT_SHARE = 0.05
"""Largest share of the total weight that a single decision should have."""


@dataclass(frozen=True)
class LoggedDecisions:
    """One row per logged decision, in the order of time; column a of a matrix is action a throughout.

    Rows may differ in the actions available: an action that could not be chosen has probability 0. Lists are
    converted to arrays.

    Parameters
    ----------
    chosen
        Shape (n,): index of the action taken.
    propensity
        Shape (n,): the probability with which it was taken.
    target
        Shape (n, K): the probabilities of the policy to evaluate.
    reward
        Shape (n,); NaN where no feedback arrived.
    predicted
        Shape (n, K): a reward model's predictions, each made without the reward of its own row or of later ones; see
        :func:`~conduit_learner.evaluation.reward_model.ridge_predictions`.
    logging
        Shape (n, K): the logging policy's probabilities of all actions, if known. They make the overlap check exact.
    feedback
        Shape (n,): the probability that the action taken gets feedback. By default it is estimated as the share of each
        action's decisions that have a reward. In both cases missing feedback is assumed to depend on the action (and,
        through a given probability, on the context), but not on the reward itself.
    bounds
        The smallest and the largest possible reward; needed for betting intervals and by :func:`switch`.

    Raises
    ------
    ConfigurationError
        When the table is invalid; the message names the row.

    Examples
    --------
    A fair coin chose between two actions. The policy to evaluate always takes the second:

    >>> log = LoggedDecisions(chosen=np.array([0, 1, 1, 0]), propensity=np.full(4, 0.5),
    ...                       target=np.array([[0.0, 1.0]] * 4), reward=np.array([0.0, 1.0, 0.5, np.nan]))
    >>> log.weights.tolist(), log.effective_sample_size
    ([0.0, 2.0, 2.0, 0.0], 2.0)
    """

    chosen: NDArray[np.intp]
    propensity: Vector
    target: Vector
    reward: Vector
    predicted: Vector | None = None
    logging: Vector | None = None
    feedback: Vector | None = None
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("propensity", "target", "reward", "predicted", "logging", "feedback"):
            if (column := getattr(self, name)) is not None:
                object.__setattr__(self, name, np.asarray(column, dtype=np.float64))
        object.__setattr__(self, "chosen", np.asarray(self.chosen, dtype=np.intp))
        self._check_shapes()
        self._check_values()

    @property
    def n(self) -> int:
        """Number of decisions."""
        return len(self.chosen)

    @cached_property
    def observed(self) -> NDArray[np.bool_]:
        """Shape (n,): whether a reward is known."""
        return ~np.isnan(self.reward)

    @cached_property
    def ratios(self) -> Vector:
        """Shape (n,): the policy's probability of the logged action, divided by the logging policy's."""
        return np.asarray(self.at_chosen(self.target) / self.propensity)

    @cached_property
    def weights(self) -> Vector:
        """Shape (n,): the ratios, scaled up to make up for decisions without a reward, whose weight is 0."""
        if self.feedback is not None:
            share = self.feedback
        else:
            count = np.bincount(self.chosen, minlength=self.target.shape[1])
            got = np.bincount(self.chosen, self.observed, minlength=self.target.shape[1])
            share = (got / np.maximum(count, 1))[self.chosen]
        return np.divide(self.ratios, share, out=np.zeros(self.n), where=self.observed)

    @cached_property
    def rewards(self) -> Vector:
        """Shape (n,): the rewards; 0 where the reward is unknown (and the weight is 0)."""
        return np.where(self.observed, self.reward, 0.0)

    @cached_property
    def effective_sample_size(self) -> float:
        """See :attr:`Estimate.effective_sample_size`."""
        squares = float(self.weights @ self.weights)
        return float(self.weights.sum()) ** 2 / squares if squares > 0.0 else 0.0

    @cached_property
    def largest_weight(self) -> float:
        """The largest weight."""
        return float(self.weights.max(initial=0.0))

    def at_chosen(self, matrix: Vector) -> Vector:
        """Return each row's entry for the action taken, shape (n,)."""
        return np.asarray(matrix[np.arange(self.n), self.chosen])

    def share_above(self, threshold: float) -> float:
        """Return the share of the policy's choices whose importance ratio exceeds a threshold or is infinite."""
        if not self.n:
            return 0.0
        if self.logging is None:
            return float(np.where(self.ratios > threshold, self.ratios, 0.0).mean())
        infinite = np.full_like(self.target, math.inf)
        ratios = np.divide(self.target, self.logging, out=infinite, where=self.logging > 0.0)
        return float(np.where((ratios > threshold) | np.isinf(ratios), self.target, 0.0).sum(axis=1).mean())

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Problems of the data that affect every estimator."""
        return tuple(_overlap_warnings(self) + _feedback_warnings(self))

    def _check_shapes(self) -> None:
        n = self.n
        if self.target.ndim != 2 or len(self.target) != n:
            raise ConfigurationError(f"target has shape {self.target.shape}, expected ({n}, number of actions)")
        for name in ("propensity", "reward", "feedback", "predicted", "logging"):
            column = getattr(self, name)
            wanted = self.target.shape if name in {"predicted", "logging"} else (n,)
            if column is not None and column.shape != wanted:
                raise ConfigurationError(f"{name} has shape {column.shape}, expected {wanted}")

    def _check_values(self) -> None:
        actions = self.target.shape[1]
        known = (self.chosen >= 0) & (self.chosen < actions)
        _require(known, self.chosen, f"an action must be a number from 0 to {actions - 1}, not")
        possible = (self.propensity > 0.0) & (self.propensity <= 1.0)
        _require(possible, self.propensity, "a propensity must be above 0 and at most 1, not")
        for name in ("target", "logging"):
            if (matrix := getattr(self, name)) is not None:
                _require((matrix >= 0.0).all(axis=1), matrix.min(axis=1), f"a {name} probability cannot be")
                sums = matrix.sum(axis=1)
                _require(abs(sums - 1.0) <= 1e-6, sums, f"{name} probabilities must sum to 1, not to")
        if self.logging is not None:
            logged = self.at_chosen(self.logging)
            _require(
                abs(logged - self.propensity) <= 1e-6, logged, "the propensity differs from the probability in logging:"
            )
        if self.predicted is not None:
            finite = np.isfinite(self.predicted).all(axis=1)
            _require(finite, self.chosen, "a prediction is not finite; the chosen action is")
        if self.feedback is not None:
            possible = (self.feedback > 0.0) & (self.feedback <= 1.0)
            _require(possible | ~self.observed, self.feedback, "a reward is known, but its probability of feedback is")
        least, largest = self.bounds or (-math.inf, math.inf)
        if not least < largest:
            raise ConfigurationError(f"bounds must be the smallest and the largest possible reward, not {self.bounds}")
        possible = np.isfinite(self.reward) & (self.reward >= least) & (self.reward <= largest)
        _require(possible | ~self.observed, self.reward, f"a reward must be finite and in {least:g}..{largest:g}, not")


def _require(good: Any, values: NDArray[Any], what: str) -> None:
    bad = np.flatnonzero(np.logical_not(good))
    if len(bad):
        raise ConfigurationError(f"decision {bad[0]} (counting from 0): {what} {values[bad[0]].item()!r}")


def _overlap_warnings(log: LoggedDecisions) -> list[str]:
    if not log.n:
        return ["there are no decisions"]
    total = float(log.weights.sum())
    if total <= 0.0:
        return ["no overlap: the policy would have taken none of the logged actions with a known reward"]
    warnings = []
    if log.logging is not None and (never := log.share_above(math.inf)) > 0.0:
        warnings.append(f"{never:.1%} of the policy's choices could not have been logged, so their value is unknown")
    if log.n > 1:
        mean, error = float(log.ratios.mean()), float(log.ratios.std(ddof=1)) / math.sqrt(log.n)
        if abs(mean - 1.0) > 4.0 * error + 1e-9:
            warnings.append(
                f"the importance ratios average {mean:.3g} instead of 1: the policy takes actions that were never "
                "logged, or the logged propensities are not the true ones"
            )
    if log.effective_sample_size < _MIN_EFFECTIVE_SAMPLE:
        warnings.append(
            f"the {log.n:,} decisions are as informative as {log.effective_sample_size:.1f} decisions of this policy "
            "itself would be, so the normal intervals may be too narrow"
        )
    if log.n >= _MIN_EFFECTIVE_SAMPLE and log.largest_weight > _MAX_WEIGHT_SHARE * total:
        warnings.append(f"one decision carries {log.largest_weight / total:.0%} of the total weight")
    return warnings


def _feedback_warnings(log: LoggedDecisions) -> list[str]:
    missing = int(log.n - log.observed.sum())
    if not missing:
        return []
    warnings = [
        f"{missing:,} of {log.n:,} decisions have no reward and are represented by the others, which is valid if "
        + (
            "feedback arrives with the given probabilities"
            if log.feedback is not None
            else "the chance of feedback depends on the action alone"
        )
    ]
    silent = sorted(set(log.chosen.tolist()) - set(log.chosen[log.observed].tolist()))
    if silent:
        warnings.append(f"actions without any known reward count with the model's prediction, or 0: {silent}")
    return warnings
