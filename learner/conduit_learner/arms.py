"""What settings say about single arms: what is known beforehand, that one was renamed, what one charges."""

from collections.abc import Mapping

from conduit_learner.drift import Watch
from conduit_learner.elementary import ln
from conduit_learner.regression import AdditiveRegression, Statistics
from conduit_learner.signals import LEAST_COST_USD, SIGNALS
from conduit_schemas import ArmPrice, ArmPrior

__all__ = ["merged_watch", "price_step", "reprice", "with_prior"]


def with_prior(signal: str, statistics: Statistics, prior: ArmPrior | None) -> Statistics:
    """Return an arm's sums with what is known beforehand, as observations of the mean and the usual noise.

    It is added to what a snapshot is made of and never stored, so it neither fades nor adds up.
    """
    mean = None if prior is None else _means(prior)[signal]
    if prior is None or mean is None:
        return statistics
    count, sigma = prior.observations, SIGNALS[signal].sigma
    gram, moment = statistics.gram.copy(), statistics.moment.copy()
    gram[0, 0] += count
    moment[0] += count * mean
    return Statistics(gram, moment, statistics.energy + count * (mean * mean + sigma * sigma))


def _means(prior: ArmPrior) -> dict[str, float | None]:
    return {
        "quality": prior.quality,
        "success": prior.success,
        "cost": None if prior.cost_usd is None else ln(max(prior.cost_usd, LEAST_COST_USD)),
        "latency": None if prior.latency_s is None else ln(prior.latency_s),
    }


def price_step(before: ArmPrice | None, after: ArmPrice | None) -> float:
    """Return by how much ln cost changes with the price of three input tokens and one output token.

    That is the mix that price comparisons use; where input and output change alike, which is usual, the mix
    does not matter. Prices that are unknown or nothing tell of no step.

    Examples
    --------
    >>> price_step(ArmPrice(input=1.0, output=4.0), ArmPrice(input=2.0, output=8.0)) == ln(2.0)
    True
    """
    if before is None or after is None:
        return 0.0
    old, new = (3.0 * price.input + price.output for price in (before, after))
    return ln(new / old) if old > 0.0 and new > 0.0 and old != new else 0.0


def reprice(model: AdditiveRegression, watch: Watch, step: float) -> None:
    """Move everything that is known of an arm's cost by a step of its logarithm."""
    _, total, _ = model.sums
    model.move(step, model.context_sum.copy(), total)
    watch.reset(list(SIGNALS).index("cost"), model.dimension)


def merged_watch(models: Mapping[str, AdditiveRegression]) -> Watch:
    """Return a watch that begins anew: two arms' pasts are no longer in the order in which they happened."""
    return Watch({signal: model.dimension for signal, model in models.items()})
