"""Metrics of a run: means with confidence intervals, and the frontier of quality against cost."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.stream import Stream

__all__ = ["Part", "Point", "Score", "cost_for", "frontier", "frontier_area", "interval", "jackknife", "score"]

Indices = NDArray[np.intp]


class Point(NamedTuple):
    """A policy's mean cost, in USD per request, and mean quality."""

    cost_usd: float
    quality: float


class Part(NamedTuple):
    """Means per request over a part of a stream."""

    utility: float
    quality: float
    cost_usd: float
    regret: float
    """Utility of the arm that is best over the whole stream, minus that of the policy, on the same requests."""
    oracle_regret: float
    """Utility of the best arm of each request, minus that of the policy."""


class Score(NamedTuple):
    """One policy on one stream."""

    whole: Part
    last_third: Part
    curve: tuple[float, ...]
    """Mean regret in each of ten equal parts of the stream."""


def score(stream: Stream, arms: Indices, *, counted_from: int = 0) -> Score:
    """Evaluate the arms chosen on a stream; positions before ``counted_from`` do not count."""
    positions = np.arange(len(stream))
    utility = stream.utility[positions, arms]
    best = stream.utility[:, stream.utility.mean(axis=0).argmax()]
    columns = (
        utility,
        stream.outcomes.quality[positions, arms],
        stream.outcomes.cost_usd[positions, arms],
        best - utility,
        stream.utility.max(axis=1) - utility,
    )
    whole = Part(*(float(column[counted_from:].mean()) for column in columns))
    last_third = Part(*(float(column[stream.last_third].mean()) for column in columns))
    curve = tuple(float(part.mean()) for part in np.array_split(best - utility, 10))
    return Score(whole, last_third, curve)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean over seeds and the half-width of its 95 % interval (Student's t), which is None for one seed.

    Examples
    --------
    >>> interval([1.0, 2.0, 3.0])
    (2.0, 2.484...)
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, _t95(len(values) - 1) * math.sqrt(variance / len(values))


def jackknife(estimate: Callable[[Sequence[int]], float | None], seeds: int) -> tuple[float | None, float | None]:
    """Return an estimate from all seeds, and the half-width of its 95 % jackknife interval.

    The half-width is None if there is only one seed, or if the estimate does not exist without one of them.
    """
    value = estimate(range(seeds))
    if value is None or seeds < 2:
        return value, None
    others = [estimate([seed for seed in range(seeds) if seed != left_out]) for left_out in range(seeds)]
    known = [other for other in others if other is not None]
    if len(known) < seeds:
        return value, None
    mean = math.fsum(known) / seeds
    variance = (seeds - 1) / seeds * math.fsum((other - mean) ** 2 for other in known)
    return value, _t95(seeds - 1) * math.sqrt(variance)


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the corners of what random mixes of the points can reach, by ascending cost and quality.

    Cost and quality of a random mix are the weighted means of the points' values, so this is the rising part of the
    upper concave hull.

    Examples
    --------
    >>> frontier([Point(1.0, 0.5), Point(2.0, 0.6), Point(3.0, 0.9), Point(4.0, 0.8)])
    [Point(cost_usd=1.0, quality=0.5), Point(cost_usd=3.0, quality=0.9)]
    """
    hull: list[Point] = []
    for point in sorted(set(points), key=lambda p: (p.cost_usd, -p.quality)):
        if hull and point.quality <= hull[-1].quality:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-2], point):
            hull.pop()
        hull.append(point)
    return hull


def cost_for(points: Sequence[Point], quality: float) -> float | None:
    """Return the lowest cost at which a mix of the points reaches a quality, or None if no mix does.

    Examples
    --------
    >>> cost_for([Point(1.0, 0.5), Point(3.0, 1.0)], 0.75)
    2.0
    """
    hull = frontier(points)
    if quality > hull[-1].quality:
        return None
    if quality <= hull[0].quality:
        return hull[0].cost_usd
    at = next(i for i, point in enumerate(hull) if point.quality >= quality)
    low, high = hull[at - 1], hull[at]
    return low.cost_usd + (high.cost_usd - low.cost_usd) * (quality - low.quality) / (high.quality - low.quality)


def frontier_area(points: Sequence[Point], cheapest: Point, most_expensive_usd: float) -> float:
    """Return the mean quality over all budgets from the cheapest model's cost to the most expensive model's.

    Budgets are spaced evenly on a log scale. Below its own cheapest point, a policy is mixed at random with the
    cheapest model; above its most expensive point, it keeps its best quality.
    """
    hull = frontier([*points, cheapest])
    budgets = np.geomspace(max(cheapest.cost_usd, 1e-3 * most_expensive_usd), most_expensive_usd, 200)
    return float(np.interp(budgets, [p.cost_usd for p in hull], [p.quality for p in hull]).mean())


def _slope(a: Point, b: Point) -> float:
    return (b.quality - a.quality) / (b.cost_usd - a.cost_usd)


def _t95(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t; beyond the table by Cornish and Fisher's expansion."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


_T95 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
