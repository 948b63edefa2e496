"""Decide whether a canary is promoted or rolled back, on evidence that may be checked after every event."""

import math
from collections.abc import Mapping
from typing import Any

from conduit_learner.models.elementary import ln
from conduit_schemas import AutomaticRollout, Interval, RolloutStage, RolloutState

__all__ = ["METRICS", "MeanSequence", "Rollout"]

METRICS = ("quality", "success")
GROUPS = ("conduit", "control")

_LARGEST_BET = 0.5


class MeanSequence:
    """The mean of numbers in 0..1, with bounds that hold at all times simultaneously.

    The predictable plug-in empirical-Bernstein confidence sequence of Waudby-Smith & Ramdas (2023, "Estimating means
    of bounded random variables by betting", theorem 2). It holds for any sequence whose conditional mean is constant,
    no matter how often and why the bounds are checked.

    Parameters
    ----------
    error
        Probability that the bounds are ever wrong, 0..1.

    Examples
    --------
    >>> sequence = MeanSequence(0.05)
    >>> for _ in range(1000):
    ...     sequence.add(1.0)
    >>> low, high = sequence.bounds()
    >>> low > 0.97, high
    (True, 1.0)
    """

    FIELDS = ("count", "total", "squares", "bets", "weighed", "variation", "low", "high")

    def __init__(self, error: float) -> None:
        self._log_term = ln(2.0 / error)
        self.count = 0
        self.total = 0.0
        """Sum of the numbers."""
        self.squares = 0.25
        """Sum of squared deviations from the mean at that time, plus an initial guess."""
        self.bets = 0.0
        """Sum of the bets lambda."""
        self.weighed = 0.0
        """Sum of lambda * x."""
        self.variation = 0.0
        """Sum of 4 (x - mean before)**2 psi(lambda)."""
        self.low = 0.0
        self.high = 1.0

    def add(self, value: float) -> None:
        """Add the next number, 0..1."""
        before = (0.5 + self.total) / (self.count + 1.0)
        variance = self.squares / (self.count + 1.0)
        self.count += 1
        bet = min(_LARGEST_BET, math.sqrt(2.0 * self._log_term / (variance * self.count * ln(1.0 + self.count))))
        self.bets += bet
        self.weighed += bet * value
        self.variation += (value - before) ** 2 * (-ln(1.0 - bet) - bet)
        self.total += value
        after = (0.5 + self.total) / (self.count + 1.0)
        self.squares += (value - after) ** 2
        # A value that was excluded once stays excluded, because the bounds of all times hold simultaneously.
        center, radius = self.weighed / self.bets, (self._log_term + self.variation) / self.bets
        self.low = max(self.low, center - radius)
        self.high = min(self.high, center + radius)

    def bounds(self) -> tuple[float, float]:
        """Return the lower and the upper bound of the mean."""
        return self.low, self.high

    def interval(self) -> Interval:
        """Return mean and bounds for the snapshot."""
        mean = self.total / self.count if self.count else 0.5
        return Interval(mean=mean, low=self.low, high=self.high, count=self.count)

    def dump(self) -> list[float]:
        """Return the state as numbers."""
        return [getattr(self, name) for name in self.FIELDS]

    def load(self, numbers: list[float]) -> None:
        """Restore a state that :meth:`dump` returned."""
        for name, number in zip(self.FIELDS, numbers, strict=True):
            setattr(self, name, number)


class Rollout:
    """The stages of one automatic roll-out.

    Conduit's share of a canary is compared with the rest, for which LiteLLM chooses, in quality (the first rating of
    each decision) and success. Each of the four means has its own bounds. The probability that any of them is ever
    wrong is at most ``1 - confidence``. Without ratings nothing is known about quality, and nothing is promoted.

    Examples
    --------
    >>> rollout = Rollout(AutomaticRollout(margin=0.1))
    >>> for _ in range(2000):
    ...     for group in GROUPS:
    ...         rollout.observe(group, "success", 1.0, 0)
    ...         rollout.observe(group, "quality", 0.8, 0)
    >>> rollout.state.stage.value
    'promoted'
    """

    def __init__(self, rules: AutomaticRollout) -> None:
        self._rules = rules
        self.state = RolloutState()
        self._sequences = self._fresh()

    def observe(self, group: str, metric: str, value: float, now_ms: int) -> None:
        """Add an observation of one decision, and change the stage if the evidence suffices.

        Parameters
        ----------
        group
            One of :data:`GROUPS`.
        metric
            One of :data:`METRICS`.
        value
            0..1.
        now_ms
            Stream time.
        """
        if self.state.stage is RolloutStage.ROLLED_BACK:
            return
        self._sequences[f"{metric}.{group}"].add(value)
        rules = self._rules
        if rules.rollback and self._is_worse(metric):
            self._enter(
                RolloutStage.ROLLED_BACK,
                f"{metric} is worse than without Conduit by more than {rules.margin:g}",
                now_ms,
            )
        elif rules.promote and self.state.stage is RolloutStage.TESTING and all(map(self._is_no_worse, METRICS)):
            self._enter(RolloutStage.PROMOTED, f"quality and success are no more than {rules.margin:g} worse", now_ms)
            self._sequences = self._fresh()  # the new stage starts with fresh evidence

    def published(self) -> RolloutState:
        """Return the state with the evidence of its stage."""
        if self.state.evidence:
            return self.state
        return self.state.model_copy(update={"evidence": self._evidence()})

    def dump(self) -> dict[str, Any]:
        """Return the state as numbers and names."""
        sequences = {name: sequence.dump() for name, sequence in self._sequences.items()}
        return {"state": self.state.model_dump(mode="json"), "sequences": sequences}

    def load(self, fields: Mapping[str, Any]) -> None:
        """Restore a state that :meth:`dump` returned."""
        self.state = RolloutState.model_validate(fields["state"])
        for name, numbers in fields["sequences"].items():
            self._sequences[name].load(numbers)

    def _is_worse(self, metric: str) -> bool:
        conduit, control = (self._sequences[f"{metric}.{group}"] for group in GROUPS)
        return conduit.high < control.low - self._rules.margin

    def _is_no_worse(self, metric: str) -> bool:
        conduit, control = (self._sequences[f"{metric}.{group}"] for group in GROUPS)
        return conduit.low > control.high - self._rules.margin

    def _enter(self, stage: RolloutStage, reason: str, now_ms: int) -> None:
        evidence = self._evidence() if stage is RolloutStage.ROLLED_BACK else {}
        self.state = RolloutState.model_validate(
            {"stage": stage, "since_ms": max(0, now_ms), "reason": reason, "evidence": evidence}
        )

    def _evidence(self) -> dict[str, Interval]:
        return {name: sequence.interval() for name, sequence in self._sequences.items() if sequence.count}

    def _fresh(self) -> dict[str, MeanSequence]:
        error = (1.0 - self._rules.confidence) / (len(METRICS) * len(GROUPS))
        return {f"{metric}.{group}": MeanSequence(error) for metric in METRICS for group in GROUPS}
