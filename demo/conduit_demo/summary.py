"""A run's results in words and tables, for both the terminal and the report."""

from collections.abc import Mapping
from typing import Any

from conduit_demo.metrics import WARM_UP

__all__ = ["POLICIES", "cells", "judged", "sentences"]

POLICIES = {
    "conduit": "Conduit",
    "simple_shuffle": "simple-shuffle",
    "random": "random",
    "best_fixed": "best fixed",
    "best_quality": "best quality",
    "most_expensive": "most expensive",
}
"""The policies in display order, with their display names."""

COLUMNS = ("quality", "$ / 1,000", "latency", "p95", "failed", "retried")
"""The columns of every table."""


def judged(result: Mapping[str, Any], policy: str) -> dict[str, Any]:
    """Return a policy's figures after the warm-up, or over the whole run if it is shorter."""
    entry: dict[str, Any] = result["policies"][policy]
    return entry["after_1000"] or entry


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Return the results as sentences, both the good and the bad ones.

    Examples
    --------
    >>> entry = {"quality": 0.8, "cost_usd": 0.001, "errors": 0.0, "mix_quality": 0.79, "after_1000": None}
    >>> dear = {**entry, "quality": 1.0, "cost_usd": 0.004, "model": "big"}
    >>> fixed = {**entry, "model": "small"}
    >>> policies = {"conduit": entry, "most_expensive": dear, "best_fixed": fixed}
    >>> print(sentences({"requests": 500, "policies": policies})[0])
    Over all 500 requests Conduit cost 75 % less than always using big, at 80.0 % of its quality.
    """
    conduit, dear = judged(result, "conduit"), judged(result, "most_expensive")
    name = result["policies"]["most_expensive"]["model"]
    long_enough = result["policies"]["conduit"]["after_1000"] is not None
    when = f"After the first {WARM_UP:,} requests" if long_enough else f"Over all {result['requests']:,} requests"
    saved = 1.0 - conduit["cost_usd"] / dear["cost_usd"] if dear["cost_usd"] else 0.0
    difference = (
        f"{saved:.0%}".replace("%", " %") + " less" if saved >= 0.0 else f"{-saved:.0%}".replace("%", " %") + " more"
    )
    share = f"{100.0 * conduit['quality'] / dear['quality']:.1f} %" if dear["quality"] else "an unknown share"
    failed = result["policies"]["conduit"]["errors"] * result["requests"]
    served = "Every request was served." if not failed else f"{failed:.0f} requests ended without an answer."
    fixed, best = judged(result, "best_fixed"), result["policies"]["best_fixed"]["model"]
    against = "above" if conduit["quality"] > conduit["mix_quality"] else "below"
    return [
        f"{when} Conduit cost {difference} than always using {name}, at {share} of its quality.",
        f"The best single model in hindsight, {best}, reached quality {fixed['quality']:.3f} at "
        f"{_money(fixed['cost_usd'])} per 1,000 requests. Conduit, which had to learn this, reached "
        f"{conduit['quality']:.3f} at {_money(conduit['cost_usd'])}. That is {against} the "
        f"{conduit['mix_quality']:.3f} that the best random mix of models reaches at Conduit's cost when all outcomes "
        "are known in advance.",
        served,
    ]


def cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a policy's figures as text, in the order of :data:`COLUMNS`."""
    return (
        f"{entry['quality']:.3f}",
        _money(entry["cost_usd"]),
        _seconds(entry["latency_s"]),
        _seconds(entry["latency_p95_s"]),
        f"{100.0 * entry['errors']:.1f} %",
        f"{100.0 * entry['retried']:.1f} %",
    )


def _money(per_request: float) -> str:
    return f"${1000.0 * per_request:.3f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
