"""What a snapshot says about the arms: their posteriors and counters, as far as they fit into one record."""

from collections.abc import Mapping, Sequence

from conduit_learner.core.arm import Arm
from conduit_learner.core.arm_settings import price_level, with_prior
from conduit_learner.models.posterior import posteriors
from conduit_learner.models.regression import Statistics
from conduit_policy import SIGNALS, Prior, Signal
from conduit_schemas import MAX_EVENT_BYTES, MAX_SNAPSHOT_BYTES, ArmSnapshot, LearningSettings

__all__ = ["arm_snapshots"]

_OVERHEAD = 1_500
"""A generous bound, in bytes, for a snapshot and for each of its arms, without vectors, texts and settings. A character
takes up to 6 bytes and a component 16/3. Settings and routing are at most as long as the events they came in."""


def arm_snapshots(arms: Mapping[str, Arm], settings: LearningSettings) -> dict[str, ArmSnapshot]:
    """Return what is published about the arms, by name. Their sums must be up to date."""
    names = sorted(_publishable(arms, settings.dimension))
    published = [arms[name] for name in names]
    priors, prices = settings.priors or {}, settings.prices or {}
    statistics = {
        signal: [
            with_prior(signal, arm.models[signal].statistics(), priors.get(name))
            for name, arm in zip(names, published, strict=True)
        ]
        for signal in SIGNALS
        if published
    }
    statistics = {signal: column for signal, column in statistics.items() if _is_published(SIGNALS[signal], column)}
    levels = {"cost": [price_level(prices.get(name)) for name in names]}
    beliefs = posteriors(statistics, prior=Prior.of(settings), levels=levels)
    return {
        name: ArmSnapshot(
            model=arm.model,
            selections=arm.selections,
            outcomes=arm.outcomes,
            errors=arm.errors,
            feedbacks=arm.feedbacks,
            alarms=arm.alarms or None,
            signals={signal: column[index] for signal, column in beliefs.items()},
        )
        for index, (name, arm) in enumerate(zip(names, published, strict=True))
    }


def _is_published(signal: Signal, arms: Sequence[Statistics]) -> bool:
    return not signal.is_optional or any(arm.observations > 0.0 for arm in arms)


def _publishable(arms: Mapping[str, Arm], dimension: int) -> list[str]:
    """Return the arms that fit into one record. Those that were eligible longest ago are left out."""
    vectors = len(SIGNALS) * 2 * (6 * dimension + 4)
    space = MAX_SNAPSHOT_BYTES - 2 * MAX_EVENT_BYTES - _OVERHEAD
    fitting = []
    for name in sorted(arms, key=lambda name: (-arms[name].seen, name)):
        space -= vectors + _OVERHEAD + 6 * (len(name) + len(arms[name].model))
        if space < 0:
            break
        fitting.append(name)
    return fitting
