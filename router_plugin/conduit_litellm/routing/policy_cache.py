"""The newest snapshot of every policy, kept in memory by a background reader."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from conduit_litellm.events.connectivity import LogState
from conduit_litellm.events.counters import Counters
from conduit_log import EventLog
from conduit_policy import Beliefs
from conduit_schemas import ConduitError, RecordError, Snapshot, decode_snapshot

__all__ = ["PolicyCache"]

_logger = logging.getLogger("conduit")

_POLL_S = 1.0


class PolicyCache:
    """Looks up beliefs without waiting; an entry is replaced as a whole.

    When is a snapshot stale? Not when it is old: without traffic nothing changes. It is stale when for
    ``max_age_s`` the log could not be read, or when for as long events of its policy were delivered to the
    log and no newer snapshot came of them: then no learner is at work.

    Parameters
    ----------
    max_age_s
        Seconds.
    clock
        Monotonic seconds.

    Examples
    --------
    >>> cache = PolicyCache(max_age_s=900.0, counters=Counters(), state=LogState())
    >>> cache.get("default/chat") is None
    True
    """

    def __init__(
        self,
        *,
        max_age_s: float,
        counters: Counters,
        state: LogState,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_age_s = max_age_s
        self._counters = counters
        self._state = state
        self._clock = clock
        self._beliefs: dict[str, Beliefs] = {}
        self._unanswered: dict[str, float] = {}
        self._heard = clock()

    def get(self, policy: str) -> Beliefs | None:
        """Return the newest beliefs of a policy, or None."""
        return self._beliefs.get(policy)

    def is_stale(self, policy: str) -> bool:
        """Say whether nothing has been heard of the log or of the policy's learner for too long."""
        oldest = self._unanswered.get(policy, self._heard)
        return self._clock() - min(oldest, self._heard) > self._max_age_s

    def silence_s(self) -> float:
        """Return the seconds since the log was last read."""
        return self._clock() - self._heard

    def overdue_s(self) -> dict[str, float]:
        """Return for every policy the seconds for which delivered events have waited for a newer snapshot."""
        now, unanswered = self._clock(), self._unanswered.copy()
        policies = {*self._beliefs.copy(), *unanswered}
        return {policy: now - unanswered.get(policy, now) for policy in policies}

    def update(self, snapshot: Snapshot) -> bool:
        """Take a snapshot unless it is older than what is known; say whether it was taken."""
        known = self._beliefs.get(snapshot.policy)
        if known is not None and snapshot.offset <= known.snapshot.offset:
            return False
        self._beliefs[snapshot.policy] = Beliefs(snapshot)
        self._unanswered.pop(snapshot.policy, None)
        return True

    def delivered(self, policies: Iterable[str]) -> None:
        """Note that the log has taken events of these policies: newer snapshots are due."""
        for policy in policies:
            self._unanswered.setdefault(policy, self._clock())

    async def run(self, log: EventLog, topic: str) -> None:
        """Follow the snapshot topic for ever."""
        async with log.reader(topic) as reader:
            while True:
                try:
                    messages = await reader.poll(timeout_s=_POLL_S)
                except ConduitError as error:
                    self._state.lost("snapshots", error)
                    await asyncio.sleep(_POLL_S)
                    continue
                self._state.back("snapshots")
                self._heard = self._clock()
                for message in messages:
                    self._take(message.value)

    def _take(self, data: bytes) -> None:
        try:
            taken = self.update(decode_snapshot(data))
        except RecordError as error:
            self._counters.add("snapshots_refused")
            if self._counters["snapshots_refused"] == 1:
                _logger.warning("a snapshot cannot be used and is ignored: %s", error)
        else:
            if taken:
                self._counters.add("snapshots")
