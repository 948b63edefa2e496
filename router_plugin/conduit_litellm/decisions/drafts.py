"""Drafts of events: the request path and the callbacks only collect the data, a background thread builds the event."""

from contextvars import ContextVar
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from conduit_litellm.decisions.directive import Directive
from conduit_litellm.decisions.facts import Facts
from conduit_litellm.decisions.judgements import Judgement
from conduit_litellm.decisions.ledger import Decision
from conduit_policy import ROWS, Beliefs, Choice, pack_context, predictions
from conduit_schemas import Event, Fallback, Feedback, LearningChange, Outcome, RatedSignal, RoutingChange, Selection

__all__ = ["ChangeDraft", "Draft", "FeedbackDraft", "OutcomeDraft", "SelectionDraft", "attempts_of_request"]


class Draft(Protocol):
    """The data of an event. Collecting it is quick; the event is built later, in the background."""

    def event(self) -> Event:
        """Build the event."""
        ...


class SelectionDraft(NamedTuple):
    """The data of a selection, as the request path collects it."""

    time: float
    policy: str
    decision_id: str
    request_id: object
    arms: tuple[str, ...]
    models: tuple[str, ...]
    chosen: int
    context: NDArray[np.int16]
    featurizer: str
    choice: Choice | None
    beliefs: Beliefs | None
    fallback: Fallback | None
    directive: Directive | None = None
    shadow: Choice | None = None
    """What Conduit would have chosen, if LiteLLM chose because of the mode (shadow, or outside the canary)."""

    def event(self) -> Selection:
        """Build the event."""
        choice, beliefs, directive, shadow = self.choice or self.shadow, self.beliefs, self.directive, self.shadow
        return Selection(
            policy=self.policy,
            time=self.time,
            decision_id=self.decision_id,
            request_id=_valid_id(self.request_id),
            arms=self.arms,
            models=self.models,
            chosen=self.chosen,
            probabilities=self._probabilities(),
            fallback=self.fallback,
            snapshot_version=None if beliefs is None else beliefs.snapshot.offset,
            snapshot_hash=None if beliefs is None else beliefs.snapshot.hash,
            featurizer=self.featurizer,
            context=pack_context(self.context),
            predictions={} if beliefs is None else self._predictions(beliefs),
            objective={} if directive is None else directive.weights,
            constraints={} if directive is None else directive.logged,
            flags=() if choice is None else choice.flags,
            mode=None if directive is None else directive.mode,
            scope=None if directive is None else directive.scope,
            shadow_chosen=None if shadow is None else shadow.index,
            shadow_probabilities=None if shadow is None else tuple(shadow.probabilities.tolist()),
        )

    def _probabilities(self) -> tuple[float, ...] | None:
        if self.choice is not None:
            return tuple(self.choice.probabilities.tolist())
        return (1.0,) if len(self.arms) == 1 else None

    def _predictions(self, beliefs: Beliefs) -> dict[str, tuple[float, ...]]:
        rows = predictions(beliefs, self.context, self.arms).tolist()
        # Of a signal that nobody has observed, all predictions are mere assumptions. Of one that only some arms were
        # observed of, those of the others are too, but an event has a number for every arm. Readers ask the snapshot.
        return {signal: tuple(rows[row]) for signal, row in ROWS.items() if beliefs.is_observed(signal)}


class OutcomeDraft(NamedTuple):
    """How the attempt went, as a callback or the application reported it."""

    time: float
    decision: Decision
    facts: Facts
    source: str

    def event(self) -> Outcome:
        """Build the event."""
        return Outcome(
            policy=self.decision.policy,
            time=self.time,
            decision_id=self.decision.id,
            source=self.source,
            **self.facts._asdict(),
        )


class FeedbackDraft(NamedTuple):
    """A rating of the answer."""

    time: float
    policy: str
    decision_id: str
    quality: float
    source: str = "app"
    key: str = ""
    signal: RatedSignal = "quality"
    sampling_probability: float | None = None
    details: dict[str, str | float | bool | None] = {}  # noqa: RUF012 - never changed

    @classmethod
    def of(cls, decision: Decision, judgement: Judgement, time: float) -> Self:
        """Return the draft for a judgement about a decision."""
        return cls(
            time,
            decision.policy,
            decision.id,
            float(judgement.value),
            judgement.source,
            judgement.key,
            judgement.signal,
            judgement.sampling_probability,
            dict(judgement.details),
        )

    def event(self) -> Feedback:
        """Build the event."""
        return Feedback(**self._asdict())


class ChangeDraft(NamedTuple):
    """A change of a policy's settings. It is an event already."""

    change: LearningChange | RoutingChange

    def event(self) -> LearningChange | RoutingChange:
        """Return the event."""
        return self.change


attempts_of_request: ContextVar[list[SelectionDraft] | None] = ContextVar("conduit_attempts", default=None)
"""A list that collects the selections of the current request, one per attempt, oldest first.

Code that makes a request sets it in order to see them. None, the default, collects nothing.
"""


def _valid_id(value: object) -> str | None:
    """Return a caller's id, or None if the contract does not allow it."""
    return value if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable() else None
