"""Records exactly one outcome per decision, however often and in whichever order reports arrive."""

import time
from collections.abc import Callable

from conduit_litellm.decisions.drafts import OutcomeDraft
from conduit_litellm.decisions.facts import Facts
from conduit_litellm.decisions.ledger import Decision, Ledger
from conduit_litellm.events.counters import Counters
from conduit_litellm.events.emitter import Emitter
from conduit_schemas import OutcomeStatus

__all__ = ["OutcomeRecorder"]

FactsSince = Callable[[float], Facts]
"""Returns the facts of an attempt, given the time at which its deployment was selected, in seconds since 1970."""


class OutcomeRecorder:
    """Matches reports of attempts with decisions, and queues the outcomes.

    Only the first report of each decision counts. Reports of decisions that this process does not know, such as those
    of another strategy, are ignored.

    Parameters
    ----------
    paid
        Called with the decision and the cost (US dollars, None if unknown) of each attempt that called a model.
    """

    def __init__(
        self,
        ledger: Ledger,
        emitter: Emitter,
        counters: Counters,
        *,
        paid: Callable[[Decision, float | None], None],
    ) -> None:
        self._paid = paid
        self._ledger = ledger
        self._emitter = emitter
        self._counters = counters

    def is_known(self, decision_id: str) -> bool:
        """Return whether this process made a decision and still remembers it."""
        return self._ledger.get(decision_id) is not None

    def link(self, decision_id: str | None, call: str) -> None:
        """Remember which call followed a decision."""
        decision = self._known(decision_id)
        if decision is not None:
            self._ledger.link(decision, call)

    def report(self, decision_id: str | None, facts: FactsSince) -> None:
        """Record how an attempt went, from a report that arrives before any further attempt begins.

        All earlier attempts of the same request must have failed, so they are recorded as errors unless they already
        have an outcome.
        """
        newest = self._known(decision_id)
        if newest is None:
            return
        if not newest.has_outcome:
            self.record_outcome(newest, facts(newest.time))
        for decision in newest.attempts[:-1]:
            self.record_outcome(decision, Facts(OutcomeStatus.ERROR))

    def report_late_failure(self, decision_id: str | None, facts: FactsSince) -> None:
        """Record a failure that may be reported after the next attempt of a proxied request has begun.

        In that case ``decision_id`` is the next attempt's, and the report is about the first attempt that has no
        outcome.
        """
        newest = self._known(decision_id)
        if newest is None:
            return
        failure = facts(newest.time)
        decision = _failed_attempt(newest.attempts, failure)
        if decision is not None:
            self.record_outcome(decision, failure if decision is newest else facts(decision.time))

    def record_outcome(self, decision: Decision, facts: Facts, source: str = "litellm") -> None:
        """Record how an attempt went, unless the decision already has an outcome."""
        now = time.time()
        if facts.latency_s is None and facts.error_class is not None:
            facts = facts._replace(latency_s=max(0.0, now - decision.time))
        if self._ledger.claim_outcome(decision):
            if facts.status is OutcomeStatus.ERROR:
                decision.failure = facts.error_class, facts.error_code
            self._counters.add(f"outcomes_{facts.status}")
            if facts.status is not OutcomeStatus.CACHE_HIT:
                self._paid(decision, facts.cost_usd)
            self._emitter.put(OutcomeDraft(now, decision, facts, source))

    def _known(self, decision_id: str | None) -> Decision | None:
        return None if decision_id is None else self._ledger.get(decision_id)


def _failed_attempt(attempts: list[Decision], failure: Facts) -> Decision | None:
    """Return the attempt that a late report is about: the first one without an outcome.

    If only the newest attempt has none, and the failure equals one that is recorded already, the report is a repetition
    of that one: then return None.
    """
    waiting = [decision for decision in attempts if not decision.has_outcome]
    if waiting == attempts[-1:] and (failure.error_class, failure.error_code) in [one.failure for one in attempts]:
        return None
    return waiting[0] if waiting else None
