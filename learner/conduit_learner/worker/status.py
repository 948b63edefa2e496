"""A worker's health and activity as plain numbers, updated after every batch.

The worker writes them and its observers read them in the same event loop, so no lock is needed.
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
    """The observable state of a partition that a worker owns."""

    @property
    def learner(self) -> PartitionLearner:
        """The partition's learner."""
        ...

    @property
    def changed(self) -> Collection[str]:
        """Policies whose newest state is not published yet."""
        ...

    @property
    def published(self) -> Mapping[str, Publication]:
        """The policies that this worker has published, by name."""
        ...


class Durations:
    """A histogram of durations.

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
        """Number of durations observed."""
        return sum(self._counts)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self.BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield each upper bound in seconds, infinity last, with the number of durations up to it."""
        return zip((*self.BOUNDS_S, float("inf")), accumulate(self._counts), strict=True)


class WorkerStatus:
    """A worker's status. Times are seconds on the monotonic clock."""

    def __init__(self) -> None:
        self.progressed_at = time.monotonic()
        """When the worker last made progress, even if it found nothing to do."""
        self.working_since: float | None = None
        """Since when the log has answered without failure and the partitions have stayed the same."""
        self.partitions: Mapping[int, OwnedPartition] = {}
        self.lag: dict[int, int] = {}
        """Events of each owned partition that were not applied yet, when last measured."""
        self.events = 0
        self.dead_letters: Counter[str] = Counter()
        """By reason."""
        self.snapshots = Durations()
        """Time to build each snapshot."""
        self.checkpoints = Durations()
        """Time to build and write each checkpoint."""
        self.restores = Durations()
        """Time to restore each newly owned partition."""
        self.unreachable_since: float | None = None
        """Since when the log has been unreachable; None while it answers."""
        self.failures = 0
        """Calls that the log did not answer."""
        self._unreachable_s = 0.0

    @property
    def unreachable_s(self) -> float:
        """Total seconds for which the log has been unreachable."""
        return self._unreachable_s + (
            0.0 if self.unreachable_since is None else time.monotonic() - self.unreachable_since
        )

    def progressed(self) -> None:
        """Record that the worker made progress."""
        self.progressed_at = time.monotonic()

    def log_answered(self) -> None:
        """Record that the log answered."""
        self.progressed()
        if self.working_since is None:
            self.working_since = self.progressed_at

    def reassigned(self) -> None:
        """Record that partitions were assigned or revoked."""
        self.working_since = None
        self.lag = {number: lag for number, lag in self.lag.items() if number in self.partitions}

    def log_failed(self) -> None:
        """Record that the log did not answer."""
        self.progressed()
        self.failures += 1
        self.working_since = None
        if self.unreachable_since is None:
            self.unreachable_since = self.progressed_at

    def log_returned(self) -> None:
        """Record that the log is reachable again."""
        self._unreachable_s, self.unreachable_since = self.unreachable_s, None
