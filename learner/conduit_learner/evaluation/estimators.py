"""Off-policy estimators: what another policy would have earned, from the decisions of the logging policy.

All functions take a table with one row per decision. All estimators assume that the logged propensities are the true
ones, and that a decision's reward does not depend on earlier decisions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conduit_learner.evaluation.intervals import asymptotic_sequence, betting_sequence, check_alpha, normal_interval
from conduit_learner.evaluation.logged_decisions import LoggedDecisions
from conduit_schemas import ConfigurationError

__all__ = ["Estimate", "direct", "doubly_robust", "doubly_robust_scores", "estimates", "ips", "snips", "switch"]

Vector = NDArray[np.float64]
_NOTHING = (-math.inf, math.inf)
_BETTING = "betting confidence sequence"
_SHRINKAGE = 5.0
"""Number of decisions with which an action's mean square residual is shrunk towards that of all actions."""


@dataclass(frozen=True)
class Estimate:
    """An estimate of what a policy would have earned per decision, with its uncertainty."""

    method: str
    """``ips``, ``snips``, ``direct``, ``doubly_robust`` or ``switch``."""
    value: float
    """NaN if there is no estimate."""
    standard_error: float
    """NaN if it is unknown."""
    low: float
    high: float
    """``low`` and ``high`` are the interval's ends; -inf and inf if no valid interval exists."""
    interval: str
    """Kind of the interval: ``normal``, ``normal plus bias bound``, ``asymptotic confidence sequence``, ``betting
    confidence sequence`` or ``none``. The two sequences hold at all numbers of decisions at once, the others at one."""
    n: int
    """Number of decisions, with or without a reward."""
    effective_sample_size: float
    """``sum(w)**2 / sum(w**2)``: number of the policy's own decisions that would be as informative (Kish 1965)."""
    largest_weight: float
    warnings: tuple[str, ...]
    """Sentences on what may be wrong with the estimate."""


def ips(log: LoggedDecisions, *, anytime: bool = False, alpha: float = 0.05) -> Estimate:
    """Return the inverse propensity score estimate (Horvitz & Thompson 1952): unbiased, without a model, but noisy.

    With ``anytime`` the interval is a betting confidence sequence. It uses no approximation: it contains the true value
    at every n with probability 1 - alpha, even without overlap. It assumes that the policy's value is constant and,
    where feedback is missing, that the probabilities of feedback are given.

    Examples
    --------
    A fair coin chose. The target policy takes the second action three times out of four:

    >>> log = LoggedDecisions(chosen=np.arange(4) % 2, propensity=np.full(4, 0.5), reward=np.arange(4) % 2.0,
    ...                       target=np.array([[0.25, 0.75]] * 4), bounds=(0.0, 1.0))
    >>> ips(log).value, ips(log, anytime=True).interval
    (0.75, 'betting confidence sequence')
    """
    scores = log.weights * log.rewards
    if not anytime:
        return _from_scores(log, "ips", scores, _error_by_propensities(log, np.zeros_like(log.target)), alpha)
    low, high = betting_sequence(log.weights, log.rewards, bounds=_bounds(log), alpha=alpha)
    estimated = ("the probabilities of feedback are estimated, so the interval is approximate",)
    warnings = estimated if log.feedback is None and not log.observed.all() else ()
    return _result(
        log, "ips", _mean(scores), _standard_error(scores), interval=(low, high), kind=_BETTING, warnings=warnings
    )


def snips(log: LoggedDecisions, *, alpha: float = 0.05) -> Estimate:
    """Return the self-normalised estimate (Swaminathan & Joachims 2015): the weighted mean of the rewards.

    It is slightly biased and much less noisy than :func:`ips`. The standard error comes from the delta method (Owen,
    Monte Carlo theory, 2013, section 9.2).
    """
    total = float(log.weights.sum())
    if total <= 0.0:
        return _result(log, "snips", math.nan, math.nan)
    value = float(log.weights @ log.rewards) / total
    error = math.sqrt(float(((log.weights * (log.rewards - value)) ** 2).sum())) / total if log.n > 1 else math.nan
    error = max(error, _error_by_propensities(log, np.full_like(log.target, value)))
    return _result(log, "snips", value, error, interval=normal_interval(value, error, alpha=alpha), kind="normal")


def direct(log: LoggedDecisions) -> Estimate:
    """Return the direct method's estimate, the mean of the reward model's predictions. It never has an interval.

    The spread of the predictions says nothing about the model's error: an interval based on it contained the true
    value in 13 % of 400 simulated logs of 5,000 decisions, instead of 95 %.
    """
    scores = (log.target * _predicted(log)).sum(axis=1)
    return _result(
        log,
        "direct",
        _mean(scores),
        math.nan,
        warnings=("no interval: a reward model's predictions do not reveal its error",),
    )


def doubly_robust(log: LoggedDecisions, *, anytime: bool = False, alpha: float = 0.05) -> Estimate:
    """Return the doubly robust estimate (Dudik, Langford & Li 2011): the model, corrected by weighted residuals.

    This is the estimate to report. It is unbiased whatever the model, and a better model makes it less noisy. With
    ``anytime`` the interval is an asymptotic confidence sequence; use it to decide while data are still arriving. For a
    policy that changes with the log, both intervals hold for its average value over the decisions.

    Examples
    --------
    >>> log = LoggedDecisions(chosen=np.arange(4) % 2, propensity=np.full(4, 0.5), reward=np.arange(4) % 2.0,
    ...                       target=np.array([[0.25, 0.75]] * 4), predicted=np.array([[0.0, 0.5]] * 4))
    >>> doubly_robust(log).value, direct(log).value
    (0.75, 0.375)
    """
    scores = doubly_robust_scores(log)
    by_propensities = _error_by_propensities(log, _predicted(log))
    if not anytime:
        return _from_scores(log, "doubly_robust", scores, by_propensities, alpha)
    low, high = (float(side[-1]) for side in asymptotic_sequence(scores, alpha=alpha)) if log.n else _NOTHING
    value, error = _mean(scores), _standard_error(scores)
    if 0.0 < error < by_propensities:
        low, high = (value + (end - value) * by_propensities / error for end in (low, high))
    return _result(
        log,
        "doubly_robust",
        value,
        max(error, by_propensities),
        interval=(low, high),
        kind="asymptotic confidence sequence",
    )


def doubly_robust_scores(log: LoggedDecisions) -> Vector:
    """Return each decision's doubly robust score, shape (n,); their mean is the value of :func:`doubly_robust`.

    The scores allow two policies to be compared decision by decision: the differences vary much less than the scores
    of either policy.

    Examples
    --------
    >>> log = LoggedDecisions(chosen=np.array([0, 1]), propensity=np.full(2, 0.5), reward=np.array([0.0, 1.0]),
    ...                       target=np.array([[0.0, 1.0]] * 2), predicted=np.array([[0.0, 0.5]] * 2))
    >>> doubly_robust_scores(log).tolist()
    [0.5, 1.5]
    """
    return _doubly_robust_scores(log, log.weights)


def switch(log: LoggedDecisions, *, threshold: float | None = None, alpha: float = 0.05) -> Estimate:
    """Return the SWITCH-DR estimate (Wang, Agarwal & Dudik 2017): doubly robust where ratios are small, else the model.

    By default the threshold minimises the estimated variance plus the square of the largest possible bias, which is the
    range of the rewards times the share of the policy's choices above the threshold (the paper's rule, applied to the
    scores of SWITCH-DR). The normal interval ignores the bias, so it is widened by that bound.
    """
    least, largest = _bounds(log)

    def scores(threshold: float) -> Vector:
        return _doubly_robust_scores(log, np.where(log.ratios <= threshold, log.weights, 0.0))

    def bias(threshold: float) -> float:
        return (largest - least) * log.share_above(threshold)

    if threshold is None:
        threshold = min(_thresholds(log), key=lambda t: _standard_error(scores(t)) ** 2 + bias(t) ** 2)
    by_propensities = _error_by_propensities(log, _predicted(log), threshold)
    plain = _from_scores(log, "switch", scores(threshold), by_propensities, alpha)
    interval = plain.low - bias(threshold), plain.high + bias(threshold)
    warnings = (f"above a ratio of {threshold:.3g} the model is used; the bias is at most {bias(threshold):.3g}",)
    return _result(
        log,
        "switch",
        plain.value,
        plain.standard_error,
        interval=interval,
        kind="normal plus bias bound",
        warnings=warnings,
    )


def estimates(log: LoggedDecisions, *, alpha: float = 0.05) -> tuple[Estimate, ...]:
    """Return every estimate that the table allows; the first is the one to report.

    Examples
    --------
    >>> half = np.full((2, 2), 0.5)
    >>> log = LoggedDecisions(chosen=np.arange(2), propensity=half[0], target=half, reward=np.array([0.0, 1.0]))
    >>> [(estimate.method, estimate.value) for estimate in estimates(log)]
    [('ips', 0.5), ('snips', 0.5)]
    """
    check_alpha(alpha)
    modelled, bounded = log.predicted is not None, log.bounds is not None
    wanted: list[tuple[bool, Callable[[], Estimate]]] = [
        (modelled, lambda: doubly_robust(log, alpha=alpha)),
        (modelled, lambda: doubly_robust(log, anytime=True, alpha=alpha)),
        (bounded, lambda: ips(log, anytime=True, alpha=alpha)),
        (True, lambda: ips(log, alpha=alpha)),
        (True, lambda: snips(log, alpha=alpha)),
        (modelled and bounded, lambda: switch(log, alpha=alpha)),
        (modelled, lambda: direct(log)),
    ]
    return tuple(estimate() for possible, estimate in wanted if possible)


def _from_scores(log: LoggedDecisions, method: str, scores: Vector, by_propensities: float, alpha: float) -> Estimate:
    value, error = _mean(scores), max(_standard_error(scores), by_propensities)
    return _result(log, method, value, error, interval=normal_interval(value, error, alpha=alpha), kind="normal")


def _result(
    log: LoggedDecisions,
    method: str,
    value: float,
    error: float,
    *,
    interval: tuple[float, float] = _NOTHING,
    kind: str = "none",
    warnings: tuple[str, ...] = (),
) -> Estimate:
    # If no weight is above 0, the spread of the scores says nothing; only the betting bounds account for that.
    if log.largest_weight <= 0.0 and kind != _BETTING:
        error, interval = math.nan, _NOTHING
    low, high = interval
    return Estimate(
        method=method,
        value=value,
        standard_error=error,
        low=low,
        high=high,
        interval="none" if interval == _NOTHING else kind,
        n=log.n,
        effective_sample_size=log.effective_sample_size,
        largest_weight=log.largest_weight,
        warnings=warnings + log.warnings,
    )


def _doubly_robust_scores(log: LoggedDecisions, weights: Vector) -> Vector:
    predicted = _predicted(log)
    residuals = log.rewards - log.at_chosen(predicted)
    return np.asarray((log.target * predicted).sum(axis=1) + weights * residuals)


def _thresholds(log: LoggedDecisions) -> list[float]:
    """Return 21 ratios spread geometrically between the 5 % and 95 % quantiles, and infinity: no switching."""
    positive = log.ratios[log.ratios > 0.0]
    if not len(positive):
        return [math.inf]
    low, high = np.quantile(positive, (0.05, 0.95))
    return [math.inf, *np.geomspace(low, high, 21).tolist()]


def _predicted(log: LoggedDecisions) -> Vector:
    if log.predicted is None:
        raise ConfigurationError("this estimator needs the predictions of a reward model: pass predicted")
    return np.asarray(log.predicted)


def _bounds(log: LoggedDecisions) -> tuple[float, float]:
    if log.bounds is None:
        raise ConfigurationError("this estimator needs the smallest and the largest possible reward: pass bounds")
    return log.bounds


def _mean(scores: Vector) -> float:
    return float(scores.mean()) if len(scores) else math.nan


def _error_by_propensities(log: LoggedDecisions, predicted: Vector, threshold: float = math.inf) -> float:
    """Return the standard error of the mean doubly robust score that follows from the probabilities of all actions.

    The observed spread of the scores misses large weights that could have occurred but did not, so it is too small
    exactly where overlap is poor. Over everything that could have been logged, the second moment of a decision's
    correction is ``sum(target**2 / logging * residual**2)``, where both probabilities are known. The mean square
    residual is estimated per action and shrunk towards that of all actions. The result is 0 if the logging
    probabilities are unknown.
    """
    if log.logging is None or log.n < 2:
        return 0.0
    enlarged = np.divide(log.weights, log.ratios, out=np.zeros(log.n), where=log.ratios > 0.0)
    corrections = enlarged * (log.rewards - log.at_chosen(predicted))
    squares = corrections**2
    actions = log.target.shape[1]
    count = np.bincount(log.chosen, minlength=actions)
    residual = np.bincount(log.chosen, squares, minlength=actions) + _SHRINKAGE * squares.mean()
    residual /= count + _SHRINKAGE
    ratios = np.divide(log.target, log.logging, out=np.zeros_like(log.target), where=log.logging > 0.0)
    spread = np.where(ratios <= threshold, log.target * ratios, 0.0) @ residual
    kept = np.where(log.ratios <= threshold, log.ratios, 0.0)
    corrected = max(0.0, float(spread.mean()) - float((kept * corrections).mean()) ** 2)
    modelled = (log.target * predicted).sum(axis=1)
    return math.sqrt((corrected + float(modelled.var())) / log.n)


def _standard_error(scores: Vector) -> float:
    return float(scores.std(ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
