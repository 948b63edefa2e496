"""Convert the savings of a view into plain numbers and sentences; see :mod:`conduit_learner.view.report`."""

import math
from collections.abc import Callable
from typing import Any

from conduit_learner.evaluation.measures import BOUNDS
from conduit_learner.view.policy import PolicyView
from conduit_learner.view.savings import COMPARED, Comparison, Moments
from conduit_policy import SIGNALS

__all__ = ["savings_report"]

_MIN_SELECTIONS = 20
"""Minimum number of selections for any statement about an arm's savings."""

_MAX_BLIND = 0.01
"""Maximum share of requests in which an arm had probability 0, for any statement about its savings."""

_COST = SIGNALS["cost"].field
_UNBOUNDED = (-math.inf, math.inf)


def savings_report(policy: PolicyView, named: Callable[[str], str]) -> dict[str, Any]:
    """Return what each arm would have cost and earned, had it served every request.

    Parameters
    ----------
    named
        Returns the display name of an arm.
    """
    found = policy.ledger.comparisons(policy.scale)
    arms = [_fixed(arm, named(arm), comparison) for arm, comparison in found.items()]
    sound = [arm for arm in arms if not arm["doubt"]]
    best = [arm for arm in sound if arm["utility"] is not None]
    decisions = sum(comparison.selections for comparison in found.values())
    return {
        "decisions": decisions,
        "left_out": policy.selections - decisions,
        "judging_usd": policy.judging_usd,
        "arms": sorted(arms, key=lambda arm: -(arm[_COST] or {"mean": 0.0})["mean"]),
        # Compare lower bounds, not means: among arms with little data, the one with the best mean was mostly lucky.
        "best": max(best, key=lambda arm: arm["utility"]["low"])["id"] if best else None,
        "most_expensive": max(
            (arm for arm in sound if arm[_COST]), key=lambda arm: arm[_COST]["mean"], default={"id": None}
        )["id"],
    }


def _fixed(arm: str, name: str, comparison: Comparison) -> dict[str, Any]:
    cost = comparison.ahead.get(_COST, Moments())
    doubt = ""
    requests = max((moments.n for moments in comparison.value.values()), default=0)
    if comparison.selections < _MIN_SELECTIONS:
        doubt = f"it has served only {comparison.selections} requests"
    elif comparison.blind > _MAX_BLIND * requests:
        doubt = f"it had no chance in {comparison.blind:,} of {requests:,} requests"
    return {
        "id": arm,
        "name": name,
        "selections": comparison.selections,
        "requests": requests,
        "doubt": doubt,
        **{name: _interval(comparison.value.get(name), bounds=BOUNDS.get(name, _UNBOUNDED)) for name in COMPARED},
        "quality_ahead": _interval(comparison.ahead.get("quality")),
        "saved_usd": _interval(comparison.ahead.get(_COST), times=cost.n),
        "total_usd": comparison.value[_COST].mean * cost.n if _COST in comparison.value else None,
    }


def _interval(
    moments: Moments | None, *, times: int = 1, bounds: tuple[float, float] = _UNBOUNDED
) -> dict[str, float] | None:
    if moments is None or moments.n < 2:
        return None
    mean, reach = moments.mean * times, moments.reach * times
    least, most = bounds
    found = {"mean": mean, "low": mean - reach, "high": mean + reach}
    return {name: min(most, max(least, value)) for name, value in found.items()}
