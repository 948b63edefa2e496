"""How a worker is and what it has done: plain numbers, kept per batch, for whoever shows them.

The worker writes them and its observers read them in the same event loop, so nothing is locked.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate
from typing import Protocol

from conduit_learner.core.partition_learner import PartitionLearner

__all__ = ["Durations", "OwnedPartition", "Publication", "WorkerStatus"]


class Publication(Protocol):
    """When a policy's snapshot was last published."""

    @property
    def at(self) -> float:
        """Seconds on the monotonic clock."""
        ...


class OwnedPartition(Protocol):
    """What can be seen of a partition that a worker owns."""

    @property
    def learner(self) -> PartitionLearner:
        """Its state."""
        ...

    @property
    def changed(self) -> Collection[str]:
        """Policies whose newest state is not published yet."""
        ...

    @property
    def published(self) -> Mapping[str, Publication]:
        """Policies that this worker has published."""
        ...


class Durations:
    """How many durations were how long.

    Examples
    --------
    >>> durations = Durations()
    >>> durations.observe(0.2)
    >>> durations.observe(0.02)
    >>> durations.count, dict(durations.cumulative())[0.1], dict(durations.cumulative())[0.25]
    (2, 1, 2)
    """

    BOUNDS_S = (
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
        30.0,
        60.0,
        300.0,
    )

    def __init__(self) -> None:
        self.total_s = 0.0
        self._counts = [0] * (len(self.BOUNDS_S) + 1)

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self.BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield each bound, infinity last, with how many durations did not exceed it."""
        return zip((*self.BOUNDS_S, float("inf")), accumulate(self._counts), strict=True)


class WorkerStatus:
    """What a worker tells about itself. Times are seconds on the monotonic clock."""

    def __init__(self) -> None:
        self.turned_at = time.monotonic()
        """When the worker last got on with its work, be it by finding nothing to do."""
        self.working_since: float | None = None
        """Since when the log has answered without a failure and the partitions have not changed."""
        self.partitions: Mapping[int, OwnedPartition] = {}
        self.lag: dict[int, int] = {}
        """Events of each owned partition still to be applied, when last measured."""
        self.events = 0
        self.dead_letters: Counter[str] = Counter()
        """By reason."""
        self.snapshots = Durations()
        """How long building each took."""
        self.checkpoints = Durations()
        """How long building and writing each took."""
        self.restores = Durations()
        """How long restoring each newly owned partition took."""
        self.away_since: float | None = None
        """Since when the log has been away; None while it is there."""
        self.failures = 0
        """Calls that the log did not answer."""
        self._away_s = 0.0

    @property
    def away_s(self) -> float:
        """Seconds for which the log has been away in all."""
        return self._away_s + (0.0 if self.away_since is None else time.monotonic() - self.away_since)

    def turned(self) -> None:
        """Note that the worker gets on."""
        self.turned_at = time.monotonic()

    def worked(self) -> None:
        """Note that the log answered."""
        self.turned()
        if self.working_since is None:
            self.working_since = self.turned_at

    def reassigned(self) -> None:
        """Note that partitions came or went."""
        self.working_since = None
        self.lag = {number: lag for number, lag in self.lag.items() if number in self.partitions}

    def failed(self) -> None:
        """Note that the log did not answer."""
        self.turned()
        self.failures += 1
        self.working_since = None
        if self.away_since is None:
            self.away_since = self.turned_at

    def back(self) -> None:
        """Note that the log is there again."""
        self._away_s, self.away_since = self.away_s, None
