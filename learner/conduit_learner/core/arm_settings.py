"""The settings of single arms: priors and prices."""

from conduit_learner.models.drift import Watch
from conduit_learner.models.elementary import ln
from conduit_learner.models.regression import AdditiveRegression, Statistics
from conduit_policy import ROWS, SIGNALS, Signal
from conduit_schemas import ArmPrice, ArmPrior

__all__ = ["price_level", "price_step", "reprice", "with_prior"]


def with_prior(signal: str, statistics: Statistics, prior: ArmPrior | None) -> Statistics:
    """Return an arm's sums with its prior added, as observations with the prior mean and the usual noise.

    The prior is added only for a snapshot and never stored, so it neither fades nor adds up.
    """
    mean = None if prior is None else _mean(SIGNALS[signal], prior)
    if prior is None or mean is None:
        return statistics
    count, sigma = prior.observations, SIGNALS[signal].sigma
    gram, moment = statistics.gram.copy(), statistics.moment.copy()
    gram[0, 0] += count
    moment[0] += count * mean
    return Statistics(gram, moment, statistics.energy + count * (mean * mean + sigma * sigma))


def _mean(signal: Signal, prior: ArmPrior) -> float | None:
    value: float | None = getattr(prior, signal.field or signal.name)
    return value if value is None or not signal.is_amount else ln(max(value, signal.least))


def price_level(price: ArmPrice | None) -> float | None:
    """Return the logarithm of the price of three input tokens and one output token, the usual mix for comparisons.

    None if the price is unknown or 0. The number of tokens per request is learned from the costs of the whole pool.
    """
    mix = 0.0 if price is None else 3.0 * price.input + price.output
    return ln(mix) if mix > 0.0 else None


def price_step(before: ArmPrice | None, after: ArmPrice | None) -> float:
    """Return by how much ln cost changes with the price.

    If input and output prices change by the same factor, as they usually do, the mix of tokens does not matter. The
    result is 0 if a price is unknown or 0.

    Examples
    --------
    >>> price_step(ArmPrice(input=1.0, output=4.0), ArmPrice(input=2.0, output=8.0)) == ln(14.0) - ln(7.0)
    True
    """
    old, new = price_level(before), price_level(after)
    return 0.0 if old is None or new is None else new - old


def reprice(model: AdditiveRegression, watch: Watch, step: float) -> None:
    """Shift everything learned about an arm's cost by a step of its logarithm."""
    _, total, _ = model.sums
    model.move(step, model.context_sum.copy(), total)
    watch.reset(ROWS["cost"], model.dimension)
