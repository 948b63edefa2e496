"""The recent decisions of this process, which outcomes and feedback may still refer to."""

from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Decision", "Ledger"]

_PER_DEPLOYMENT = 1000


@dataclass(slots=True, eq=False)
class Decision:
    """One choice of a deployment, for one attempt of a request."""

    id: str
    policy: str
    deployment: str
    time: float
    """Seconds since 1970."""
    call: str | None = None
    """LiteLLM's id of the call that followed."""
    traces: tuple[str, ...] = ()
    """The ids of its trace, LiteLLM's and the caller's. Several requests may share a trace."""
    earlier: "Decision | None" = None
    """The decision of the previous attempt of the same proxied request, if any."""
    failure: tuple[str | None, str | None] | None = None
    """Class and code of the error that was reported, if any."""
    scope: str = ""
    """The team or key whose override applied; empty if none did."""
    has_outcome: bool = False
    has_feedback: bool = False
    is_checked: bool = False
    """Whether the answer was submitted to the answer checks."""

    @property
    def attempts(self) -> "list[Decision]":
        """The decisions of all attempts of the same proxied request so far, oldest first."""
        decisions = [self]
        while decisions[-1].earlier is not None:
            decisions.append(decisions[-1].earlier)
        return decisions[::-1]


class Ledger:
    """Remembers the newest decisions: each gets exactly one outcome, and feedback finds the decision it is about.

    Every operation takes one or two steps on a built-in container. Any thread may therefore call any method, and no
    lock is needed.

    Parameters
    ----------
    limit
        Number of decisions to remember. The oldest are forgotten first.

    Examples
    --------
    >>> ledger = Ledger(limit=2)
    >>> for number in range(3):
    ...     ledger.add(Decision(f"d{number}", "default/chat", "a", 0.0))
    >>> ledger.get("d0"), ledger.get("d2").id, ledger.newest_without_feedback("a").id
    (None, 'd2', 'd2')
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._decisions: dict[str, Decision] = {}
        self._order: deque[str] = deque()
        self._by_deployment: dict[str, deque[Decision]] = {}
        self._by_call: dict[str, Decision] = {}
        self._by_trace: dict[str, Decision] = {}
        self._policy_of: dict[str, str] = {}
        self._current: ContextVar[Decision | None] = ContextVar("conduit_decision", default=None)

    def add(self, decision: Decision) -> None:
        """Remember a decision, and make it the current one of the running task or thread."""
        self._decisions[decision.id] = decision
        self._policy_of[decision.deployment] = decision.policy
        self._order.append(decision.id)
        if len(self._order) > self._limit:
            oldest = self._decisions.pop(self._order.popleft(), None)
            if oldest is not None and oldest.call is not None:
                self._by_call.pop(oldest.call, None)
            for trace in () if oldest is None else oldest.traces:
                if self._by_trace.get(trace) is oldest:
                    self._by_trace.pop(trace, None)
        for trace in decision.traces:
            self._by_trace[trace] = decision
        newest = self._by_deployment.get(decision.deployment)
        if newest is None:
            newest = self._by_deployment.setdefault(decision.deployment, deque(maxlen=_PER_DEPLOYMENT))
        newest.append(decision)
        self._current.set(decision)

    def get(self, decision_id: str) -> Decision | None:
        """Return a decision, or None if it is unknown or forgotten."""
        return self._decisions.get(decision_id)

    def link(self, decision: Decision, call: str) -> None:
        """Remember which of LiteLLM's calls followed a decision."""
        if decision.call is None:
            decision.call = call
            self._by_call[call] = decision

    def of_call(self, call: str) -> Decision | None:
        """Return the decision that led to a call, or None."""
        return self._by_call.get(call)

    def of_trace(self, trace: str) -> Decision | None:
        """Return the newest decision in a trace, or None."""
        return self._by_trace.get(trace)

    def policy_of(self, deployment: str) -> str | None:
        """Return the policy that chose a deployment most recently, or None if none has."""
        return self._policy_of.get(deployment)

    @property
    def current(self) -> Decision | None:
        """The newest decision made in the running task or thread."""
        return self._current.get()

    def newest_without_feedback(self, deployment: str) -> Decision | None:
        """Return the newest decision for a deployment that has no feedback yet, or None."""
        newest = self._by_deployment.get(deployment)
        while newest:
            try:
                decision = newest[-1]
                if not decision.has_feedback:
                    return decision
                newest.pop()
            except IndexError:  # another thread removed the last one
                break
        return None

    def claim_outcome(self, decision: Decision) -> bool:
        """Mark the decision as having an outcome; return whether it had none before."""
        first = not decision.has_outcome
        decision.has_outcome = True
        return first
