"""Conduit as a policy: the shipped decision code and the shipped learner, connected by encoded events."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.stream import Observed, Requests
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import StoredMessage
from conduit_policy import SIGNALS, Beliefs, Objective, TextFeaturizer, choose, pack_context, predictions
from conduit_schemas import Event, Feedback, LearningChange, LearningSettings, Outcome, OutcomeStatus, Selection, encode

__all__ = ["POLICY", "ConduitPolicy"]

POLICY = "default/benchmark"
_KEY = POLICY.encode()
_DECISION_MS = 1_000
"""Stream time between two decisions."""


class ConduitPolicy:
    """Routes with the newest snapshot of a learner that learns from this policy's own decisions.

    Parameters
    ----------
    requests
        The stream.
    settings
        The learning settings; None for the defaults.
    prices
        Whether LiteLLM's price map knows the models. As in the plugin, the learner is told when prices change.
    """

    def __init__(self, requests: Requests, settings: LearningSettings | None = None, *, prices: bool = True) -> None:
        from conduit_litellm.litellm_compat.prices import price_of  # noqa: PLC0415  # imports LiteLLM, which is slow
        from conduit_litellm.routing.price_list import PriceList  # noqa: PLC0415  # as above

        self._requests = requests
        self._objective = Objective(quality=1.0, cost=requests.tradeoff, latency=0.0)
        self._learner = PartitionLearner(0)
        self._now_ms = 0
        self._append(LearningChange(policy=POLICY, time=0.0, settings=settings or LearningSettings()))
        self._prices = PriceList(settings or LearningSettings(), price_of) if prices else None
        self.beliefs = Beliefs(self._learner.snapshot(POLICY))

    def choose(self, positions: range) -> NDArray[np.intp]:
        """Decide and log each decision."""
        names = self._requests.models
        weights = self._objective.weights()
        snapshot = self.beliefs.snapshot
        chosen = np.empty(len(positions), np.intp)
        for row, position in enumerate(positions):
            self._now_ms = position * _DECISION_MS
            self._tell_prices(position)
            context = self._requests.contexts[position]
            offered = self._requests.arms(position)
            arms = tuple([names[arm] for arm in offered])
            decision_id = self._decision_id(position)
            choice = choose(self.beliefs, context, arms, objective=self._objective, decision_id=decision_id)
            chosen[row] = offered[choice.index]
            self._append(
                Selection(
                    policy=POLICY,
                    time=self._now_ms / 1e3,
                    decision_id=decision_id,
                    arms=arms,
                    chosen=choice.index,
                    probabilities=tuple(choice.probabilities.tolist()),
                    snapshot_version=snapshot.offset,
                    snapshot_hash=snapshot.hash,
                    featurizer=TextFeaturizer.name,
                    context=pack_context(context),
                    predictions={
                        signal: tuple(means)
                        for signal, means in zip(
                            SIGNALS, predictions(self.beliefs, context, arms).tolist(), strict=True
                        )
                    },
                    objective=weights,
                    flags=choice.flags,
                )
            )
        return chosen

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        """Log the outcomes and feedback that have become known, and take the learner's next snapshot."""
        for row, position in enumerate(outcomes.positions.tolist()):
            failed = outcomes.failed is not None and bool(outcomes.failed[row])
            self._append(
                Outcome(
                    policy=POLICY,
                    time=self._now_ms / 1e3,
                    decision_id=self._decision_id(position),
                    status=OutcomeStatus.ERROR if failed else OutcomeStatus.SUCCESS,
                    cost_usd=float(outcomes.cost_usd[row]),
                    latency_s=_known(outcomes.latency_s[row]),
                    input_tokens=_count(outcomes.input_tokens[row]),
                    output_tokens=_count(outcomes.output_tokens[row]),
                )
            )
        for row, position in enumerate(feedback.positions.tolist()):
            if feedback.failed is not None and feedback.failed[row]:
                continue  # an answer that never arrived is not rated
            self._append(
                Feedback(
                    policy=POLICY,
                    time=self._now_ms / 1e3,
                    decision_id=self._decision_id(position),
                    quality=float(feedback.quality[row]),
                )
            )
        self.beliefs = Beliefs(self._learner.snapshot(POLICY))

    def _tell_prices(self, position: int) -> None:
        """Do what the plugin does before each selection; it checks the prices every half a minute."""
        if self._prices is None:
            return
        now = self._now_ms / 1e3
        settings = self._prices.changed(POLICY, self._deployments(position), now)
        if settings is not None:
            self._append(LearningChange(policy=POLICY, time=now, settings=settings))

    def _deployments(self, position: int) -> Iterator[Any]:
        """Yield what a LiteLLM Router would know about the available models."""
        prices = self._requests.price(position).tolist()
        for arm in self._requests.arms(position):
            name, (per_input, per_output) = self._requests.models[arm], prices[arm]
            params = {"model": name, "input_cost_per_token": per_input, "output_cost_per_token": per_output}
            yield {"model_info": {"id": name}, "litellm_params": params}

    def _append(self, event: Event) -> None:
        message = StoredMessage(0, self._learner.offset, self._now_ms, _KEY, encode(event))
        refused = self._learner.apply(message).dead_letters
        if refused:
            raise RuntimeError(f"the learner refused an event of the benchmark: {refused[0].message}")

    def _decision_id(self, position: int) -> str:
        return f"{self._requests.seed}-{position}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _count(value: float) -> int | None:
    return None if math.isnan(value) else round(value)
