"""The results of each policy, and of fixed policies on the same requests."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conduit_demo.world import MAX_ATTEMPTS, Table
from conduit_policy import Objective, place, scale_of

__all__ = [
    "WARM_UP",
    "Served",
    "always",
    "at_random",
    "best_by_objective",
    "best_by_quality",
    "figures",
    "mixed_quality",
    "most_expensive",
    "replayed",
]

Array = NDArray[np.float64]

WARM_UP = 1000
"""Number of requests after which a learning policy counts as trained."""


@dataclass(frozen=True, slots=True)
class Served:
    """A policy's results on n requests, in order."""

    chosen: NDArray[np.int64]
    """Shape (n,): the model that was called last; -1 if none was called."""
    quality: Array
    """Shape (n,), 0..1. A request that ends without an answer has quality 0."""
    cost_usd: Array
    """Shape (n,)."""
    latency_s: Array
    """Shape (n,), real seconds, including failed calls; NaN where unknown."""
    error: NDArray[np.bool_]
    """Shape (n,): no answer, even after the retries."""
    retried: NDArray[np.bool_]
    """Shape (n,): at least one call failed."""


def replayed(table: Table, calls: Mapping[int, list[int]]) -> Served:
    """Return the results of a policy, given the models that it called for each request, in order.

    The last call of a request returned its answer, unless it failed as well.
    """
    count = len(table)
    served = Served(
        chosen=np.full(count, -1),
        quality=np.zeros(count),
        cost_usd=np.zeros(count),
        latency_s=np.zeros(count),
        error=np.ones(count, np.bool_),
        retried=np.zeros(count, np.bool_),
    )
    for row, models in calls.items():
        for model in sorted(set(models)):
            failed = min(models.count(model), int(table.failures[row, model]))
            if failed:
                served.retried[row] = True
                served.latency_s[row] += table.lost_s[row, model] * failed / table.failures[row, model]
        last = models[-1]
        served.chosen[row] = last
        if models.count(last) > table.failures[row, last]:
            served.error[row] = False
            served.quality[row] = table.quality[row, last]
            served.cost_usd[row] = table.cost_usd[row, last]
            served.latency_s[row] += table.latency_s[row, last]
    return served


def always(table: Table, model: int) -> Served:
    """Return the results of using one model for every request."""
    calls = {
        row: [model] * min(MAX_ATTEMPTS, 1 + int(failures)) for row, failures in enumerate(table.failures[:, model])
    }
    return replayed(table, calls)


def at_random(table: Table, seed: int) -> Served:
    """Return the results of a uniformly random choice; a failed call is retried on another model."""
    random = Random(f"{seed}/random")
    calls = {}
    for row in range(len(table)):
        order = random.sample(range(len(table.models)), min(MAX_ATTEMPTS, len(table.models)))
        tried = [
            model for place, model in enumerate(order) if all(table.failures[row, before] for before in order[:place])
        ]
        calls[row] = tried
    return replayed(table, calls)


def most_expensive(table: Table) -> int:
    """Return the model with the highest total cost over all requests."""
    return int(table.cost_usd.sum(axis=0).argmax())


def best_by_quality(table: Table) -> int:
    """Return the model with the highest mean quality over all requests."""
    return int(np.argmax([always(table, model).quality.mean() for model in range(len(table.models))]))


def best_by_objective(table: Table, objective: Objective) -> int:
    """Return the fixed model with the highest utility in hindsight, under the objective that Conduit was given.

    A failure counts as quality 0, so success does not count again. The table has no time to the first token, because
    none of the requests streams.
    """
    quality = np.array([always(table, model).quality.mean() for model in range(len(table.models))])
    amounts = {"cost": table.cost_usd, "latency": table.latency_s}
    places = {name: where for name, values in amounts.items() if (where := _places(values)) is not None}
    return int(np.argmax(objective.utility(quality, 1.0, objective.price(places))))


def _places(values: Array) -> Array | None:
    """Return the position of each model's mean ln in the pool, shape (models,); None if a model has no values."""
    known = np.where(np.nan_to_num(values) > 0.0, values, math.nan)
    if np.isnan(known).all(axis=0).any():
        return None
    means: Array = np.nanmean(np.log(known), axis=0)
    return place(means, scale_of(means))


def mixed_quality(table: Table, cost_usd: float, start: int = 0) -> float:
    """Return the best mean quality that a fixed random mix of models reaches at a mean cost per request.

    A policy that has learned from the requests' content must do better than this, because a random mix ignores their
    content. The result lies on the upper hull of the models' (cost, quality) points.

    Parameters
    ----------
    cost_usd
        Mean cost allowed per request.
    start
        The first request that counts.
    """
    cost, quality = table.cost_usd[start:].mean(axis=0), table.quality[start:].mean(axis=0)
    best = max(
        (float(q) for c, q in zip(cost, quality, strict=True) if c <= cost_usd), default=float(quality[cost.argmin()])
    )
    for low in np.flatnonzero(cost <= cost_usd):
        for high in np.flatnonzero(cost > cost_usd):
            share = (cost_usd - cost[low]) / (cost[high] - cost[low])
            best = max(best, float((1.0 - share) * quality[low] + share * quality[high]))
    return best


def figures(served: Served, models: tuple[str, ...], start: int = 0) -> dict[str, Any]:
    """Return the figures of one policy from request ``start`` on.

    ``cost_usd`` is per request, ``latency_s`` is the mean in real seconds (null if unknown), ``errors`` is the share of
    requests without an answer and ``retried`` the share of requests with at least one failed call.

    Examples
    --------
    >>> one = np.array([1.0])
    >>> served = Served(np.array([0]), one, one * 0.5, one * 2.0, np.array([False]), np.array([True]))
    >>> figures(served, ("a",))["cost_usd"], figures(served, ("a",))["share"]
    (0.5, {'a': 1.0})
    """
    chosen, latency = served.chosen[start:], served.latency_s[start:]
    known = latency[~np.isnan(latency)]
    cost = served.cost_usd[start:]
    return {
        "quality": float(served.quality[start:].mean()),
        "cost_usd": float(cost.mean()),
        "cost_usd_total": float(cost.sum()),
        "latency_s": float(known.mean()) if len(known) else None,
        "latency_p95_s": float(np.quantile(known, 0.95)) if len(known) else None,
        "errors": float(served.error[start:].mean()),
        "retried": float(served.retried[start:].mean()),
        "share": {model: float((chosen == column).mean()) for column, model in enumerate(models)},
    }
