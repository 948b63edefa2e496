"""Records feedback from the application, with the decision it is about."""

import asyncio
import logging
import time
from collections.abc import Iterable
from numbers import Real
from typing import NamedTuple

from conduit_litellm.decisions.drafts import FeedbackDraft, OutcomeDraft
from conduit_litellm.decisions.facts import Facts, failure_facts
from conduit_litellm.decisions.judgements import Judgement
from conduit_litellm.decisions.ledger import Decision, Ledger
from conduit_litellm.events.counters import Counters
from conduit_litellm.events.emitter import Emitter
from conduit_schemas import OutcomeStatus

__all__ = ["About", "FeedbackRecorder", "Origin"]

_logger = logging.getLogger("conduit")

Error = BaseException | str | bool | None


class About(NamedTuple):
    """Identifies an answer by one of the ids."""

    decision_id: str | None = None
    call_id: str | None = None
    trace_id: str | None = None
    policy: str | None = None
    """The policy that made the decision; needed if another process did."""


class Origin(NamedTuple):
    """The decision, call and deployment behind a response, as far as the response reveals them."""

    decision_id: str | None = None
    call_id: str | None = None
    deployment_id: str | None = None


class FeedbackRecorder:
    """Finds the decision that feedback is about, and queues the events."""

    def __init__(self, ledger: Ledger, emitter: Emitter, counters: Counters) -> None:
        self._ledger = ledger
        self._emitter = emitter
        self._counters = counters

    def record(
        self,
        deployment_id: str,
        cost: float | None,
        latency: float | None,
        quality_score: float | None,
        *,
        error: Error,
        decision_id: str | None,
    ) -> str | None:
        """Queue the feedback. Return the decision's id, or None if no decision matches."""
        cost = _checked_if_given("cost", cost, 1e6, " of US dollars")
        latency = _checked_if_given("latency", latency, 1e6, " of seconds")
        quality = _checked_if_given("quality_score", quality_score, 1.0)
        decision = self._find(deployment_id, decision_id)
        if decision is None:
            self._counters.add("feedback_without_decision")
            if self._counters["feedback_without_decision"] == 1:
                _logger.warning(
                    "feedback on deployment %r matches no decision of this process and is ignored: pass the response's "
                    "decision_id, which identifies the decision (counted as feedback_without_decision, logged once)",
                    deployment_id,
                )
            return None
        now = time.time()
        if quality is not None:
            decision.has_feedback = True
            self._emitter.put(FeedbackDraft(now, decision.policy, decision.id, quality))
            self._counters.add("feedbacks")
        if not decision.has_outcome and (cost is not None or latency is not None or error):
            facts = _facts(cost, latency, error)
            self._emitter.put_app_outcome(OutcomeDraft(now, decision, facts, "app"))
        return decision.id

    def record_rating(self, judgement: Judgement, about: About) -> str | None:
        """Queue a rating of an answer. Return the decision's id, or None if the decision cannot be found."""
        decision = self._identified_by(about)
        if decision is not None and decision.failure is not None and decision.call is not None:
            decision = self._ledger.of_call(
                decision.call
            )  # the answer came from the last attempt, not from a failed one
        if decision is None and about.decision_id and about.policy:
            decision = Decision(about.decision_id, about.policy, "", time.time())  # made by another process
        if decision is None:
            self._counters.add("feedback_without_decision")
            return None
        decision.has_feedback = True
        self._emitter.put(FeedbackDraft.of(decision, judgement, time.time()))
        self._counters.add("feedbacks")
        return decision.id

    def _identified_by(self, about: About) -> Decision | None:
        if about.decision_id:
            return self._ledger.get(about.decision_id)
        if about.call_id:
            return self._ledger.of_call(about.call_id)
        return self._ledger.of_trace(about.trace_id or "")

    def decision_of(self, origin: Origin | None) -> str | None:
        """Return the id of the decision behind a response. Without a response: of the task's or thread's newest one."""
        current = self._ledger.current
        if origin is None:
            return None if current is None else current.id
        if origin.decision_id is not None:
            return origin.decision_id
        called = self._ledger.of_call(origin.call_id or "")
        if called is not None:
            return called.id
        return current.id if current is not None and current.deployment == origin.deployment_id else None

    def decision_behind(self, origins: Iterable[Origin]) -> Decision | None:
        """Return the first of these decisions that this process knows, or None."""
        for origin in origins:
            found = self._ledger.get(origin.decision_id or "") or self._ledger.of_call(origin.call_id or "")
            if found is not None:
                return found
        return None

    def _find(self, deployment_id: str, decision_id: str | None) -> Decision | None:
        if decision_id is not None:
            return self._ledger.get(decision_id) or self._unknown_decision(deployment_id, decision_id)
        current = self._ledger.current
        if current is not None and current.deployment == deployment_id:
            return current
        return self._ledger.newest_without_feedback(deployment_id)

    def _unknown_decision(self, deployment_id: str, decision_id: str) -> Decision | None:
        """Stand in for a decision that another process made, or that is so old that this one has forgotten it."""
        policy = self._ledger.policy_of(deployment_id)
        return None if policy is None else Decision(decision_id, policy, deployment_id, time.time())


def _facts(cost: float | None, latency: float | None, error: Error) -> Facts:
    if not error:
        return Facts(OutcomeStatus.SUCCESS, cost_usd=cost, latency_s=latency)
    if isinstance(error, asyncio.CancelledError):
        return Facts(OutcomeStatus.CANCELLED, cost_usd=cost, latency_s=latency)
    facts = failure_facts(error)
    if isinstance(error, str):
        facts = facts._replace(error_class=error[:256])
    return facts._replace(cost_usd=cost, latency_s=latency)


def _checked_if_given(name: str, value: float | None, maximum: float, unit: str = "") -> float | None:
    if value is None:
        return None
    if not (isinstance(value, Real) and 0.0 <= value <= maximum):  # refuses NaN, too
        raise ValueError(f"{name}={value!r} must be a number{unit} between 0 and {maximum:g}")
    return float(value)
