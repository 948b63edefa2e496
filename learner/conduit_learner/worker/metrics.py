"""A worker's status as Prometheus metrics, computed when they are scraped."""

import time
from collections.abc import Callable, Iterable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.worker.status import Durations, WorkerStatus
from conduit_policy import SIGNALS

__all__ = ["MAX_NAMED_POLICIES", "OTHER_POLICIES", "registry_of"]

MAX_NAMED_POLICIES = 100
"""Maximum number of policies with their own time series; the others share one."""

OTHER_POLICIES = ""
"""Label of the shared time series; a policy's name is never empty."""

_PREFIX = "conduit_learner"
*_MOST, _LAST = (signal.title for signal in SIGNALS.values())


def registry_of(status: WorkerStatus) -> CollectorRegistry:
    """Return a registry with the metrics of a worker and of its process only.

    Examples
    --------
    >>> registry = registry_of(WorkerStatus())
    >>> registry.get_sample_value("conduit_learner_log_up")
    1.0
    """
    registry = CollectorRegistry()
    registry.register(_WorkerCollector(status))
    ProcessCollector(registry=registry)
    return registry


class _WorkerCollector(Collector):
    def __init__(self, status: WorkerStatus) -> None:
        self._status = status
        self._named: dict[str, None] = {}
        """Policies with their own time series, oldest series first."""

    def collect(self) -> Iterable[Metric]:
        status = self._status
        yield InfoMetricFamily(_PREFIX, "The installed release.", {"version": version("conduit-litellm")})
        yield _counter("events", "Events applied.", status.events)
        yield _gauge("partitions", "Partitions owned.", len(status.partitions))
        yield _by_partition("lag_events", "Events not applied yet, measured every 2 s.", status.lag)
        for name, about, read in _STATES:
            values = {number: read(owned.learner) for number, owned in sorted(status.partitions.items())}
            yield _by_partition(name, about, values)
        for name, about, read in _COUNTS:
            values = {number: read(owned.learner) for number, owned in sorted(status.partitions.items())}
            yield _by_partition(name, about, values, CounterMetricFamily)
        refused = CounterMetricFamily(
            f"{_PREFIX}_dead_letters", "Records put on the dead-letter topic.", labels=["reason"]
        )
        for reason, count in sorted(status.dead_letters.items()):
            refused.add_metric([reason], count)
        yield refused
        yield _counter("snapshots", "Snapshots published.", status.snapshots.count)
        yield _counter("checkpoints", "Checkpoints written.", status.checkpoints.count)
        yield from self._snapshot_ages()
        yield _histogram("snapshot_build_seconds", "How long a snapshot took to build.", status.snapshots)
        yield _histogram("checkpoint_seconds", "How long a checkpoint took to build and write.", status.checkpoints)
        yield _histogram("restore_seconds", "How long a newly owned partition took to restore.", status.restores)
        yield _gauge("log_up", "1 while the event log answers, else 0.", float(status.unreachable_since is None))
        yield _counter("log_failures", "Calls that the event log did not answer.", status.failures)
        yield _counter(
            "log_unavailable_seconds", "Seconds for which the event log was unreachable.", status.unreachable_s
        )

    def _snapshot_ages(self) -> Iterable[Metric]:
        now = time.monotonic()
        ages = {
            policy: now - publication.at
            for owned in self._status.partitions.values()
            for policy, publication in owned.published.items()
        }
        # A policy keeps its series for as long as this worker owns it, so that series do not come and go.
        self._named = {policy: None for policy in self._named if policy in ages}
        for policy in sorted(ages):
            if len(self._named) < MAX_NAMED_POLICIES:
                self._named.setdefault(policy)
        family = GaugeMetricFamily(
            f"{_PREFIX}_snapshot_age_seconds",
            "Seconds since this learner published the policy's snapshot; the unnamed series is the others' maximum.",
            labels=["policy"],
        )
        for policy in self._named:
            family.add_metric([policy], ages.pop(policy))
        if ages:
            family.add_metric([OTHER_POLICIES], max(ages.values()))
        yield family
        behind = [
            now - owned.published[policy].at
            for owned in self._status.partitions.values()
            for policy in owned.changed
            if policy in owned.published
        ]
        yield _gauge(
            "unpublished_seconds",
            "Age of the oldest published snapshot whose policy has learned since; 0 if there is none.",
            max(behind, default=0.0),
        )


_Read = Callable[[PartitionLearner], float]

_STATES: tuple[tuple[str, str, _Read], ...] = (
    ("offset", "The next offset to apply.", lambda learner: learner.offset),
    ("policies", "Policies known.", lambda learner: len(learner.policies)),
    (
        "open_decisions",
        "Decisions still waiting for their outcome.",
        lambda learner: sum(policy.open.awaiting for policy in learner.policies.values()),
    ),
)
_COUNTS: tuple[tuple[str, str, _Read], ...] = (
    (
        "censored",
        "Decisions closed without an outcome, since the start of the partition.",
        lambda learner: sum(policy.censored for policy in learner.policies.values()),
    ),
    (
        "duplicates",
        "Events received more than once, since the start of the partition.",
        lambda learner: sum(policy.duplicates for policy in learner.policies.values()),
    ),
    (
        "alarms",
        f"Detected changes of a deployment's {', '.join(_MOST)} or {_LAST}, since the start of the partition.",
        lambda learner: sum(policy.alarms for policy in learner.policies.values()),
    ),
)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", about, value=value)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", about, value=value)


def _by_partition(
    name: str,
    about: str,
    values: dict[int, int] | dict[int, float],
    family: type[CounterMetricFamily] | type[GaugeMetricFamily] = GaugeMetricFamily,
) -> Metric:
    metric = family(f"{_PREFIX}_{name}", about, labels=["partition"])
    for number, value in values.items():
        metric.add_metric([str(number)], value)
    return metric


def _histogram(name: str, about: str, durations: Durations) -> Metric:
    buckets: list[tuple[str, float]] = [
        ("+Inf" if bound == float("inf") else repr(bound), count) for bound, count in durations.cumulative()
    ]
    return HistogramMetricFamily(f"{_PREFIX}_{name}", about, buckets=buckets, sum_value=durations.total_s)
