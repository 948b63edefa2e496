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
    """The newest beliefs of every policy, available without waiting. An entry is replaced as a whole.

    Age alone does not make a snapshot stale: without traffic, nothing changes. A snapshot is stale if the log could not
    be read for ``max_age_s``, or if events of its policy were delivered that long ago and no newer snapshot has
    followed, because then no learner is running.

    Parameters
    ----------
    max_age_s
        Seconds after which a snapshot is stale.
    clock
        Returns monotonic seconds.

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
        self._due_since: dict[str, float] = {}
        self._last_read = clock()

    def get(self, policy: str) -> Beliefs | None:
        """Return the newest beliefs of a policy, or None."""
        return self._beliefs.get(policy)

    def is_stale(self, policy: str) -> bool:
        """Return whether the log, or the policy's learner, has been silent for too long."""
        oldest = self._due_since.get(policy, self._last_read)
        return self._clock() - min(oldest, self._last_read) > self._max_age_s

    def silence_s(self) -> float:
        """Return the seconds since the log was last read."""
        return self._clock() - self._last_read

    def overdue_s(self) -> dict[str, float]:
        """Return, for every policy, how many seconds delivered events have waited for a newer snapshot."""
        now, due_since = self._clock(), self._due_since.copy()
        policies = {*self._beliefs.copy(), *due_since}
        return {policy: now - due_since.get(policy, now) for policy in policies}

    def update(self, snapshot: Snapshot) -> bool:
        """Use a snapshot unless a newer one is known; return whether it is used."""
        known = self._beliefs.get(snapshot.policy)
        if known is not None and snapshot.offset <= known.snapshot.offset:
            return False
        self._beliefs[snapshot.policy] = Beliefs(snapshot)
        self._due_since.pop(snapshot.policy, None)
        return True

    def delivered(self, policies: Iterable[str]) -> None:
        """Record that the log confirmed events of these policies, so that newer snapshots are due."""
        for policy in policies:
            self._due_since.setdefault(policy, self._clock())

    async def run(self, log: EventLog, topic: str) -> None:
        """Follow the snapshot topic forever."""
        async with log.reader(topic) as reader:
            while True:
                try:
                    messages = await reader.poll(timeout_s=_POLL_S)
                except ConduitError as error:
                    self._state.lost("snapshots", error)
                    await asyncio.sleep(_POLL_S)
                    continue
                self._state.back("snapshots")
                self._last_read = self._clock()
                for message in messages:
                    self._read(message.value)

    def _read(self, data: bytes) -> None:
        try:
            is_newer = self.update(decode_snapshot(data))
        except RecordError as error:
            self._counters.add("snapshots_refused")
            if self._counters["snapshots_refused"] == 1:
                _logger.warning(
                    "a snapshot cannot be used and is ignored: %s (counted as snapshots_refused, logged once)", error
                )
        else:
            if is_newer:
                self._counters.add("snapshots")
