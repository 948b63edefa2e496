"""Outcomes: one per decision, whatever is told, how often, and in which order."""

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
"""Returns what is told of an attempt, given when its deployment was selected, in seconds since 1970."""


class OutcomeRecorder:
    """Brings what is told of attempts to their decisions, and queues the events.

    The ledger lets the first report of a decision through. Reports of decisions that this process does not know, such
    as another strategy's, are passed over.

    Parameters
    ----------
    paid
        Is told what each attempt was billed.
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
        """Say whether this process made a decision and remembers it."""
        return self._ledger.get(decision_id) is not None

    def link(self, decision_id: str | None, call: str) -> None:
        """Note which call came of a decision."""
        decision = self._known(decision_id)
        if decision is not None:
            self._ledger.link(decision, call)

    def report(self, decision_id: str | None, facts: FactsSince) -> None:
        """Record how an attempt went, told before any further attempt begins.

        So the attempts at the same request before it have failed, whether or not anybody says so.
        """
        newest = self._known(decision_id)
        if newest is None:
            return
        if not newest.has_outcome:
            self.record_outcome(newest, facts(newest.time))
        for decision in newest.attempts[:-1]:
            self.record_outcome(decision, Facts(OutcomeStatus.ERROR))

    def report_late_failure(self, decision_id: str | None, facts: FactsSince) -> None:
        """Record a failure that may be told when the next attempt of a proxied request is under way already.

        Then the id is that attempt's, and the report is about the first attempt that has no outcome.
        """
        newest = self._known(decision_id)
        if newest is None:
            return
        told = facts(newest.time)
        decision = _that_failed(newest.attempts, told)
        if decision is not None:
            self.record_outcome(decision, told if decision is newest else facts(decision.time))

    def record_outcome(self, decision: Decision, told: Facts, source: str = "litellm") -> None:
        """Record how an attempt went, unless that is known already."""
        now = time.time()
        if told.latency_s is None and told.error_class is not None:
            told = told._replace(latency_s=max(0.0, now - decision.time))
        if self._ledger.claim_outcome(decision):
            if told.status is OutcomeStatus.ERROR:
                decision.failure = told.error_class, told.error_code
            self._counters.add(f"outcomes_{told.status}")
            if told.status is not OutcomeStatus.CACHE_HIT:
                self._paid(decision, told.cost_usd)
            self._emitter.put(OutcomeDraft(now, decision, told, source))

    def _known(self, decision_id: str | None) -> Decision | None:
        return None if decision_id is None else self._ledger.get(decision_id)


def _that_failed(attempts: list[Decision], told: Facts) -> Decision | None:
    """Return the attempt that a late report is about: the first one without an outcome.

    Where only the newest has none, a failure like one that is known already is that one, told again.
    """
    waiting = [decision for decision in attempts if not decision.has_outcome]
    if waiting == attempts[-1:] and (told.error_class, told.error_code) in [one.failure for one in attempts]:
        return None
    return waiting[0] if waiting else None
