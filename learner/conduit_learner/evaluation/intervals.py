"""Confidence intervals for the mean of per-decision scores.

Two kinds. An *interval* holds at one number of decisions that was fixed beforehand. A *confidence sequence* holds
at all numbers at once, so somebody may watch it grow and stop whenever it looks decided.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit_schemas import ConfigurationError

__all__ = ["asymptotic_reach", "asymptotic_sequence", "betting_bound", "betting_sequence", "normal_interval"]

Vector = NDArray[np.float64]

_WAGERS = 1.0 / (1.0 + np.exp(np.linspace(7.0, -7.0, 22)))
"""Shares of the capital that are bet: small ones win on noisy scores, large ones on quiet scores."""

_BISECTIONS = 32


def normal_interval(centre: float, standard_error: float, *, alpha: float = 0.05) -> tuple[float, float]:
    """Return the interval of the normal approximation, at a number of decisions fixed beforehand.

    Examples
    --------
    >>> low, high = normal_interval(0.5, 0.1)
    >>> round(low, 3), round(high, 3)
    (0.304, 0.696)
    """
    check_alpha(alpha)
    if not math.isfinite(standard_error):
        return -math.inf, math.inf
    reach = NormalDist().inv_cdf(1.0 - alpha / 2.0) * standard_error
    return centre - reach, centre + reach


def asymptotic_sequence(scores: Vector, *, alpha: float = 0.05, tight_at: int = 1000) -> tuple[Vector, Vector]:
    """Return an asymptotic confidence sequence for the running mean of the scores' conditional means.

    What the central limit theorem is to an interval, this is to a confidence sequence: no bound on the scores
    is needed, they may depend on the past, and their means may drift, but like the normal approximation it
    holds only once there are "enough" of them. With mean m and standard deviation s of the first t scores
    the interval is ``m -+ s sqrt(2 (t r + 1) / (t t r) ln(sqrt(t r + 1) / alpha))``.

    Parameters
    ----------
    scores
        Shape (n,), in the order of time.
    alpha
        Probability of ever excluding the truth.
    tight_at
        The number of scores at which to be narrowest; it sets r. To be chosen without looking at the scores.

    Returns
    -------
    low, high
        Each of shape (n,): the interval after 1, 2, ... n scores; infinite after the first.

    References
    ----------
    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence
    sequences", Annals of Statistics 2024. The best r solves ``y - ln y = 1 - 2 ln alpha`` with ``y = 1 + r tight_at``;
    two steps of a fixed-point iteration are exact enough.

    Examples
    --------
    >>> low, high = asymptotic_sequence(np.arange(1000) % 2.0)
    >>> low[-1].round(3).item(), high[-1].round(3).item()
    (0.452, 0.548)
    """
    count = np.arange(1, len(scores) + 1)
    mean = np.cumsum(scores) / count
    # Shifted by the overall mean so that the difference of two large sums cannot eat the variance.
    centred = scores - (scores.mean() if len(scores) else 0.0)
    variance = np.cumsum(centred * centred) / count - (np.cumsum(centred) / count) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt(np.maximum(variance, 0.0) * count / (count - 1.0))
    reach = asymptotic_reach(count, deviation, alpha=alpha, tight_at=tight_at)
    reach[:1] = math.inf
    return mean - reach, mean + reach


def asymptotic_reach(
    count: ArrayLike, deviation: ArrayLike, *, alpha: float = 0.05, tight_at: int = 1000
) -> NDArray[np.float64]:
    """Return how far an asymptotic confidence sequence reaches to either side; see :func:`asymptotic_sequence`.

    Parameters
    ----------
    count
        Scores so far, 2 or more.
    deviation
        Their standard deviation, of the same shape.

    Examples
    --------
    >>> round(float(asymptotic_reach(1000, 0.5)), 3)
    0.048
    """
    check_alpha(alpha)
    if tight_at < 1:
        raise ConfigurationError(f"tight_at={tight_at} must be a number of decisions, 1 or more")
    n = np.asarray(count, dtype=np.float64)
    spread = -2.0 * math.log(alpha)
    intrinsic = n * ((spread + math.log(spread + 1.0)) / tight_at)
    return np.asarray(
        deviation * np.sqrt(2.0 * (intrinsic + 1.0) / (n * intrinsic) * np.log(np.sqrt(intrinsic + 1.0) / alpha))
    )


def betting_bound(scores: Vector, *, alpha: float = 0.05) -> float:
    """Return a lower confidence bound for the mean of scores that are never negative.

    Somebody bets that the mean is above m: from a capital of 1, a share of it each time, at odds that are fair
    if the mean is m. If it is m or less the capital is a supermartingale and by Ville's inequality ever
    reaches ``1/alpha`` with probability alpha at most. The bound is the largest m at which it has. The capital is the
    average over gamblers who each bet a constant share. No upper bound of the scores is needed, nor any
    approximation: it holds at every n, at all n at once, and whatever the past taught those who made the data.

    A score larger than the truth would have it must not be given; one that is smaller (a clipped
    importance weight) leaves the bound valid.

    References
    ----------
    Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 2024 (with constant,
    diversified bets). Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro, "Anytime-valid off-policy inference for
    contextual bandits", 2024 (one-sided bounds from importance weights that have no known maximum).

    Examples
    --------
    >>> round(betting_bound(np.full(1000, 0.5)), 3)
    0.498
    """
    check_alpha(alpha)
    enough = math.log(len(_WAGERS) / alpha)
    low, high = 0.0, float(scores.mean()) if len(scores) else 0.0
    # The capital falls as m grows, and is at most 1 where m is the mean: bisection finds the one crossing.
    for _ in range(_BISECTIONS if high > 0.0 else 0):
        middle = 0.5 * (low + high)
        odds = scores / middle - 1.0
        gains = [float(np.log1p(wager * odds).sum()) for wager in _WAGERS]
        if np.logaddexp.reduce(gains) >= enough:
            low = middle
        else:
            high = middle
    return low


def betting_sequence(
    weights: Vector, rewards: Vector, *, bounds: tuple[float, float], alpha: float = 0.05
) -> tuple[float, float]:
    """Return the betting confidence sequence, after the last decision, of a mean importance-weighted reward.

    The lower end is the bound for the weighted rewards, counted from the least possible one; the upper end is
    the bound for what the weighted rewards leave to the largest possible one. Since weights average 1
    where the logging policy tries everything the target may choose, and less otherwise, both ends also hold for clipped
    weights and for targets without overlap: they are then wide, not wrong.

    Parameters
    ----------
    weights, rewards
        Each of shape (n,), in the order of time; a weight of 0 makes its reward irrelevant.
    bounds
        The least and the largest reward there can be.
    alpha
        Probability of ever excluding the truth.

    Examples
    --------
    >>> low, high = betting_sequence(np.ones(1000), np.arange(1000) % 2.0, bounds=(0.0, 1.0))
    >>> round(low, 2), round(high, 2)
    (0.44, 0.56)
    """
    least, largest = bounds
    span = largest - least
    above = np.where(weights > 0.0, rewards - least, 0.0) * weights
    below = np.where(weights > 0.0, largest - rewards, 0.0) * weights
    low = betting_bound(above / span, alpha=alpha / 2.0)
    high = 1.0 - betting_bound(below / span, alpha=alpha / 2.0)
    return least + span * low, least + span * max(low, high)


def check_alpha(alpha: float) -> None:
    """Refuse an error probability outside (0, 1).

    Raises
    ------
    ConfigurationError
        When it is.
    """
    if not 0.0 < alpha < 1.0:
        raise ConfigurationError(f"alpha={alpha} is no probability of error: give a number between 0 and 1, like 0.05")
