"""The table that off-policy evaluation works on, checked, with its importance weights and what is doubtful about it."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conduit_schemas import ConfigurationError

__all__ = ["LoggedDecisions"]

Vector = NDArray[np.float64]

_FEW = 100.0
"""An effective sample below this makes every interval doubtful."""

_HEAVY = 0.05
"""A share of the total weight that no single decision should have."""


@dataclass(frozen=True)
class LoggedDecisions:
    """One row per logged decision, in the order of time; column a of a matrix is action a throughout.

    Rows may differ in their candidates: an action that could not be chosen has probability 0. Lists are
    made arrays.

    Parameters
    ----------
    chosen
        Shape (n,): index of the action taken.
    propensity
        Shape (n,): the probability with which it was taken.
    target
        Shape (n, K): the probabilities of the policy in question.
    reward
        Shape (n,); NaN where no feedback came.
    predicted
        Shape (n, K): a reward model's predictions, each made without the reward of its own row or of later ones; see
        :func:`~conduit_learner.evaluation.reward_model.ridge_predictions`.
    logging
        Shape (n, K): the logging policy's whole vectors, if known. They make the check of overlap exact.
    feedback
        Shape (n,): the probability that the action taken gets its feedback. Left out, it is estimated by the share
        of each action's decisions that have a reward. Either way missing feedback is assumed to depend on
        the action, and through a given probability on the context, but not on the reward itself.
    bounds
        The least and the largest reward there can be; needed by betting intervals and by :func:`switch`.

    Raises
    ------
    ConfigurationError
        When the table makes no sense; it names the row.

    Examples
    --------
    Two actions, chosen by a fair coin; the policy in question always takes the second:

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
        """Shape (n,): how much likelier the policy takes the logged action than the logging policy was."""
        return np.asarray(self.at_chosen(self.target) / self.propensity)

    @cached_property
    def weights(self) -> Vector:
        """Shape (n,): the ratios of decisions with a reward, enlarged to stand for those without; 0 without one."""
        if self.feedback is not None:
            share = self.feedback
        else:
            count = np.bincount(self.chosen, minlength=self.target.shape[1])
            got = np.bincount(self.chosen, self.observed, minlength=self.target.shape[1])
            share = (got / np.maximum(count, 1))[self.chosen]
        return np.divide(self.ratios, share, out=np.zeros(self.n), where=self.observed)

    @cached_property
    def rewards(self) -> Vector:
        """Shape (n,): the rewards, 0 where none is known (and the weight is 0)."""
        return np.where(self.observed, self.reward, 0.0)

    @cached_property
    def effective_sample_size(self) -> float:
        """See :attr:`Estimate.effective_sample_size`."""
        squares = float(self.weights @ self.weights)
        return float(self.weights.sum()) ** 2 / squares if squares > 0.0 else 0.0

    @cached_property
    def largest_weight(self) -> float:
        """The largest of the weights."""
        return float(self.weights.max(initial=0.0))

    def at_chosen(self, matrix: Vector) -> Vector:
        """Return each row's entry of the action taken, shape (n,)."""
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
        """What is doubtful about the data, whatever the estimator."""
        return tuple(_overlap_warnings(self) + _feedback_warnings(self))

    def _check_shapes(self) -> None:
        n = self.n
        if self.target.ndim != 2 or len(self.target) != n:
            raise ConfigurationError(f"target has shape {self.target.shape}, wanted ({n}, number of actions)")
        for name in ("propensity", "reward", "feedback", "predicted", "logging"):
            column = getattr(self, name)
            wanted = self.target.shape if name in {"predicted", "logging"} else (n,)
            if column is not None and column.shape != wanted:
                raise ConfigurationError(f"{name} has shape {column.shape}, wanted {wanted}")

    def _check_values(self) -> None:
        actions = self.target.shape[1]
        known = (self.chosen >= 0) & (self.chosen < actions)
        _require(known, self.chosen, f"there are {actions} actions, none is number")
        possible = (self.propensity > 0.0) & (self.propensity <= 1.0)
        _require(possible, self.propensity, "a propensity must be above 0 and at most 1, not")
        for name in ("target", "logging"):
            if (matrix := getattr(self, name)) is not None:
                _require((matrix >= 0.0).all(axis=1), matrix.min(axis=1), f"no {name} probability can be")
                sums = matrix.sum(axis=1)
                _require(abs(sums - 1.0) <= 1e-6, sums, f"{name} probabilities must sum to 1, not to")
        if self.logging is not None:
            logged = self.at_chosen(self.logging)
            _require(abs(logged - self.propensity) <= 1e-6, logged, "the propensity is another one in logging:")
        if self.predicted is not None:
            finite = np.isfinite(self.predicted).all(axis=1)
            _require(finite, self.chosen, "a prediction is not finite; the action is")
        if self.feedback is not None:
            possible = (self.feedback > 0.0) & (self.feedback <= 1.0)
            _require(possible | ~self.observed, self.feedback, "a reward came, but its probability of coming is")
        least, largest = self.bounds or (-math.inf, math.inf)
        if not least < largest:
            raise ConfigurationError(f"bounds must be the least and the largest possible reward, not {self.bounds}")
        possible = np.isfinite(self.reward) & (self.reward >= least) & (self.reward <= largest)
        _require(possible | ~self.observed, self.reward, f"a reward must be finite and in {least:g}..{largest:g}, not")


def _require(good: Any, values: NDArray[Any], what: str) -> None:
    bad = np.flatnonzero(np.logical_not(good))
    if len(bad):
        raise ConfigurationError(f"decision {bad[0]}, counted from 0: {what} {values[bad[0]].item()!r}")


def _overlap_warnings(log: LoggedDecisions) -> list[str]:
    if not log.n:
        return ["there are no decisions"]
    total = float(log.weights.sum())
    if total <= 0.0:
        return ["no overlap: the policy would have taken none of the logged actions whose reward is known"]
    warnings = []
    if log.logging is not None and (never := log.share_above(math.inf)) > 0.0:
        warnings.append(f"{never:.1%} of the policy's choices had no chance of being logged: nothing is known of them")
    if log.n > 1:
        mean, error = float(log.ratios.mean()), float(log.ratios.std(ddof=1)) / math.sqrt(log.n)
        if abs(mean - 1.0) > 4.0 * error + 1e-9:
            warnings.append(
                f"the importance ratios average {mean:.3g} instead of 1: the policy takes actions that were never "
                "logged, or the logged propensities are not the true ones"
            )
    if log.effective_sample_size < _FEW:
        warnings.append(
            f"{log.n:,} decisions tell no more of this policy than {log.effective_sample_size:.1f} of its own would: "
            "the normal intervals may be too narrow"
        )
    if log.n >= _FEW and log.largest_weight > _HEAVY * total:
        warnings.append(f"one decision carries {log.largest_weight / total:.0%} of the total weight")
    return warnings


def _feedback_warnings(log: LoggedDecisions) -> list[str]:
    missing = int(log.n - log.observed.sum())
    if not missing:
        return []
    warnings = [
        f"{missing:,} of {log.n:,} decisions have no reward; those that have one stand for them, which is right if "
        + (
            "feedback comes with the given probabilities"
            if log.feedback is not None
            else "feedback depends on nothing but the action"
        )
    ]
    silent = sorted(set(log.chosen.tolist()) - set(log.chosen[log.observed].tolist()))
    if silent:
        warnings.append(f"actions that never got a reward count as earning what the model says, or 0: {silent}")
    return warnings
