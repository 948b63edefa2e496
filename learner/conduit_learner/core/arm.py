"""What is known about one deployment: its regressions, its counters and the changes found in it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from conduit_learner.models.drift import Change, Watch, rebase
from conduit_learner.models.regression import AdditiveRegression
from conduit_policy import ROWS, SIGNALS
from conduit_policy.algorithms import algorithm
from conduit_policy.vectors import INTERCEPT
from conduit_schemas import Alarm, LearningSettings

__all__ = ["Arm", "fresh_models", "fresh_watch"]


@dataclass(slots=True)
class Arm:
    """What is known about one deployment."""

    models: dict[str, AdditiveRegression]
    """By signal."""
    watch: Watch
    alarms: dict[str, Alarm] = field(default_factory=dict)
    """By signal, the latest."""
    model: str = ""
    """Name of the language model, for people."""
    seen: int = 0
    """Offset of the latest selection for which it was eligible."""
    selections: int = 0
    outcomes: int = 0
    errors: int = 0
    feedbacks: int = 0

    @classmethod
    def of(cls, settings: LearningSettings) -> Self:
        """Return an arm about which nothing is known yet."""
        models = fresh_models(settings)
        return cls(models, fresh_watch(models))

    def forget_contexts(self, settings: LearningSettings) -> None:
        """Start afresh what was learned with contexts, because they get another meaning; keep the rest."""
        fresh = fresh_models(settings)
        self.models = {
            name: fresh[name] if signal.is_contextual else self.models[name] for name, signal in SIGNALS.items()
        }
        for signal, row in ROWS.items():
            if self.models[signal] is fresh[signal]:
                self.watch.reset(row, fresh[signal].dimension)

    def learn(self, context: bytes | None, values: Sequence[float]) -> None:
        """Learn one number per signal, in the order of :data:`conduit_policy.SIGNALS`; NaN where there is none."""
        for model, value in zip(self.models.values(), values, strict=True):
            if math.isnan(value):
                continue
            if model.dimension == 1:
                model.learn_row(INTERCEPT, value)
            elif context is not None:
                # The intercept is 1, whatever the sender wrote.
                model.learn_row(INTERCEPT + context[len(INTERCEPT) :], value)

    def merge(self, other: "Arm") -> None:
        """Add what is known about another arm that was renamed to this one."""
        for signal, model in self.models.items():
            model.merge(other.models[signal])
        self.watch = fresh_watch(self.models)  # the observations of both are no longer in order of time
        self.seen = max(self.seen, other.seen)
        for counter in ("selections", "outcomes", "errors", "feedbacks"):
            setattr(self, counter, getattr(self, counter) + getattr(other, counter))

    def record_change(self, change: Change, now_ms: int) -> None:
        """Move what was learned before a change to the new level, and raise an alarm."""
        rebase(self.watch, ROWS[change.signal], self.models[change.signal], change)
        known = self.alarms.get(change.signal)
        self.alarms[change.signal] = Alarm(
            count=1 if known is None else known.count + 1,
            time_ms=now_ms,
            before=change.before,
            after=change.after,
            observations=change.observations,
        )


def fresh_models(settings: LearningSettings) -> dict[str, AdditiveRegression]:
    """Return a regression per signal that has learned nothing."""
    contextual = algorithm(settings).contextual
    return {
        name: AdditiveRegression.of_dimension(
            settings.dimension if contextual and signal.is_contextual else 1, fixed_point=True
        )
        for name, signal in SIGNALS.items()
    }


def fresh_watch(models: Mapping[str, AdditiveRegression]) -> Watch:
    """Return a watch over these regressions that has seen nothing."""
    return Watch({signal: model.dimension for signal, model in models.items()})
