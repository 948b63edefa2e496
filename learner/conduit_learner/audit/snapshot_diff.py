"""What a policy learned between two snapshots, per arm and signal."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

from conduit_policy import SIGNALS
from conduit_schemas import ArmSnapshot, ConfigurationError, SignalPosterior, Snapshot

__all__ = ["ArmChange", "SignalChange", "SnapshotDiff", "diff_snapshots"]

_COUNTS = ("selections", "outcomes", "errors", "feedbacks")
_SURE = 2.0
"""Number of standard errors beyond which a change of a mean counts as more than chance."""


@dataclass(frozen=True, slots=True)
class SignalChange:
    """One signal of one arm, before and after."""

    before: float | None
    """The arm's average: 0..1 for quality and success, US dollars for cost, seconds for latency; None if unobserved."""
    after: float | None
    before_weight: float
    """Number of observations, where faded ones count in part."""
    after_weight: float
    is_clear: bool
    """Whether the change exceeds twice the combined standard error of the two averages."""


@dataclass(frozen=True, slots=True)
class ArmChange:
    """One arm, before and after."""

    status: str
    """``new``, ``gone`` or ``kept``."""
    model: str
    counts: dict[str, int]
    """How many ``selections``, ``outcomes``, ``errors`` and ``feedbacks`` were added."""
    signals: dict[str, SignalChange]


@dataclass(frozen=True)
class SnapshotDiff:
    """Two snapshots of one policy, compared."""

    policy: str
    before: Snapshot
    after: Snapshot
    settings: dict[str, tuple[object, object]]
    """Learning settings that changed: before and after."""
    arms: dict[str, ArmChange]


def diff_snapshots(before: Snapshot, after: Snapshot) -> SnapshotDiff:
    """Compare two snapshots of one policy.

    Raises
    ------
    ConfigurationError
        When the snapshots belong to different policies.

    Examples
    --------
    >>> from conduit_schemas import ExplorationRule, LearningSettings
    >>> old = Snapshot(policy="p", partition=0, offset=1, stream_time_ms=0, settings=LearningSettings(),
    ...                rule=ExplorationRule(name="greedy"), arms={"a": ArmSnapshot(selections=3)})
    >>> new = old.model_copy(update={"offset": 9, "arms": {"a": ArmSnapshot(selections=5), "b": ArmSnapshot()}})
    >>> diff = diff_snapshots(old, new)
    >>> diff.arms["a"].counts["selections"], diff.arms["b"].status
    (2, 'new')
    """
    if before.policy != after.policy:
        raise ConfigurationError(
            f"cannot compare snapshots of different policies: {before.policy!r} and {after.policy!r}"
        )
    old, new = before.settings.model_dump(), after.settings.model_dump()
    return SnapshotDiff(
        policy=before.policy,
        before=before,
        after=after,
        settings={key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)},
        arms={
            name: _arm_change(before.arms.get(name), after.arms.get(name))
            for name in sorted(before.arms.keys() | after.arms.keys())
        },
    )


def _arm_change(before: ArmSnapshot | None, after: ArmSnapshot | None) -> ArmChange:
    old, new = before or ArmSnapshot(), after or ArmSnapshot()
    return ArmChange(
        status="new" if before is None else "gone" if after is None else "kept",
        model=new.model or old.model,
        counts={count: getattr(new, count) - getattr(old, count) for count in _COUNTS} if after is not None else {},
        signals=dict(_signal_changes(old, new)),
    )


def _signal_changes(old: ArmSnapshot, new: ArmSnapshot) -> Iterator[tuple[str, SignalChange]]:
    for signal in [*old.signals, *(new.signals.keys() - old.signals.keys())]:
        before, after = _Average.of(old.signals.get(signal)), _Average.of(new.signals.get(signal))
        clear = False
        if before.mean is not None and after.mean is not None:
            clear = abs(after.mean - before.mean) > _SURE * math.hypot(before.error, after.error)
        yield (
            signal,
            SignalChange(before.shown(signal), after.shown(signal), before.weight, after.weight, is_clear=clear),
        )


class _Average(NamedTuple):
    mean: float | None
    error: float
    weight: float

    @classmethod
    def of(cls, posterior: SignalPosterior | None) -> Self:
        if posterior is None or not posterior.is_observed:
            return cls(None, 0.0, 0.0)
        return cls(posterior.average, posterior.sigma / math.sqrt(posterior.weight), posterior.weight)

    def shown(self, signal: str) -> float | None:
        return self.mean if self.mean is None or signal not in SIGNALS else SIGNALS[signal].shown(self.mean)
