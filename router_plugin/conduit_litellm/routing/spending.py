"""What this process has spent since the newest snapshot, which does not include it yet."""

import threading
from collections import deque
from typing import NamedTuple

from conduit_policy import spent
from conduit_schemas import Spend

__all__ = ["Spending"]

_MAX_PAYMENTS = 100_000


class _Payment(NamedTuple):
    time_ms: int
    scope: str
    usd: float


class Spending:
    """Costs by policy and scope, kept until a snapshot includes them.

    This process's clock decides which costs a snapshot includes, so a total may be off by what is spent in a moment.

    Examples
    --------
    >>> spending = Spending()
    >>> spending.pay("default/chat", "", 0.5, now_ms=2_000)
    >>> spending.total("default/chat", "", Spend(day_usd=1.0, thousand_requests=7), now_ms=3_000).day_usd
    1.5
    >>> spending.forget_until("default/chat", until_ms=2_500)
    >>> spending.total("default/chat", "", Spend(day_usd=1.5, thousand_requests=8), now_ms=3_000).day_usd
    1.5
    """

    def __init__(self) -> None:
        self._payments: dict[str, deque[_Payment]] = {}
        self._sums: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()  # held for an addition only, never while waiting for a network

    def pay(self, policy: str, scope: str, usd: float, now_ms: int) -> None:
        """Add the cost of a request to its scope and to the whole policy."""
        with self._lock:
            payments = self._payments.setdefault(policy, deque(maxlen=_MAX_PAYMENTS))
            payments.append(_Payment(now_ms, scope, usd))
            self._add(policy, scope, usd)

    def forget_until(self, policy: str, until_ms: int) -> None:
        """Forget what was paid up to this time, which the policy's newest snapshot includes."""
        with self._lock:
            payments = self._payments.get(policy)
            if not payments:
                return
            while payments and payments[0].time_ms <= until_ms:
                payments.popleft()
            for key in [key for key in self._sums if key[0] == policy]:
                del self._sums[key]
            for payment in payments:
                self._add(policy, payment.scope, payment.usd)

    def total(self, policy: str, scope: str, known: Spend, now_ms: int) -> Spend:
        """Return the spending in a snapshot plus what came since. A window that has ended starts again at 0."""
        return spent(known, now_ms, *self._sums.get((policy, scope), (0.0, 0)))

    def _add(self, policy: str, scope: str, usd: float) -> None:
        for name in {"", scope}:
            before, requests = self._sums.get((policy, name), (0.0, 0))
            self._sums[policy, name] = before + usd, requests + 1
