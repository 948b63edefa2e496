"""Summary statistics of durations in benchmark reports."""

from statistics import quantiles

__all__ = ["percentiles"]


def percentiles(times: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    cuts = quantiles(times, n=100)
    return {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2)}
