"""Confidence intervals for the mean of per-decision scores.

There are two kinds. A confidence *interval* holds at one number of decisions, fixed in advance. A *confidence sequence*
holds at all numbers at once, so you may watch it as data arrive and stop at any time.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit_schemas import ConfigurationError

__all__ = ["asymptotic_reach", "asymptotic_sequence", "betting_bound", "betting_sequence", "normal_interval"]

Vector = NDArray[np.float64]

_WAGERS = 1.0 / (1.0 + np.exp(np.linspace(7.0, -7.0, 22)))
"""Shares of the capital to bet: small shares do well on noisy scores, large shares on scores with little noise."""

_BISECTIONS = 32


def normal_interval(centre: float, standard_error: float, *, alpha: float = 0.05) -> tuple[float, float]:
    """Return the interval of the normal approximation, for a number of decisions fixed in advance.

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

    It is to confidence sequences what the central limit theorem is to confidence intervals. The scores need no bounds,
    may depend on the past, and their means may drift. Like the normal approximation, it holds only once there are
    "enough" scores. With mean m and standard deviation s of the first t scores, the interval is
    ``m -+ s sqrt(2 (t r + 1) / (t t r) ln(sqrt(t r + 1) / alpha))``.

    Parameters
    ----------
    scores
        Shape (n,), in time order.
    alpha
        Probability of ever excluding the true value.
    tight_at
        Number of scores at which the sequence is narrowest; it determines r. Choose it without looking at the scores.

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
    # Shifted by the overall mean, so that the difference of two large sums does not lose the variance's digits.
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
    """Return the half-width of an asymptotic confidence sequence; see :func:`asymptotic_sequence`.

    Parameters
    ----------
    count
        Number of scores so far, 2 or more.
    deviation
        Standard deviation of the scores, in the same shape.

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
    """Return a lower confidence bound for the mean of non-negative scores.

    A gambler starts with a capital of 1 and repeatedly bets a share of it that the mean is above m, at odds that are
    fair if the mean equals m. If the mean is m or less, the capital is a supermartingale, and by Ville's inequality it
    ever reaches ``1/alpha`` with a probability of at most alpha. The bound is the largest m for which it has reached
    ``1/alpha``. The capital is averaged over gamblers who each bet a constant share. The scores need no upper bound,
    and nothing is approximated: the bound holds at all n at once, even if the logging policy learned from past scores.

    Scores must not be overestimated. Underestimated scores, such as those with clipped importance weights, keep the
    bound valid.

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
    # The capital falls as m grows, and is at most 1 where m is the mean, so bisection finds the only crossing.
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
    """Return the betting confidence sequence of the mean importance-weighted reward, after the last decision.

    The lower end bounds the weighted rewards, measured from the smallest possible reward. The upper end bounds the
    weighted distances to the largest possible reward. The weights average 1 if the logging policy tries everything
    that the target policy may choose, and less otherwise. Both ends therefore also hold for clipped weights and for
    targets without overlap: the interval is then wide, but not wrong.

    Parameters
    ----------
    weights, rewards
        Shape (n,) each, in time order; a weight of 0 makes its reward irrelevant.
    bounds
        The smallest and the largest possible reward.
    alpha
        Probability of ever excluding the true value.

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
    """Check an error probability.

    Raises
    ------
    ConfigurationError
        When it is not between 0 and 1.
    """
    if not 0.0 < alpha < 1.0:
        raise ConfigurationError(
            f"alpha={alpha} is not an error probability: give a number between 0 and 1, as in 0.05"
        )
