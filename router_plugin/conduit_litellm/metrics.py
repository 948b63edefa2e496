"""Prometheus metrics of a strategy. They are read when Prometheus scrapes and cost the request path nothing."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas import ConfigurationError, EventFate

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

__all__ = ["StrategyCollector", "expose_metrics"]

_PREFIX = "conduit_plugin"
_BY = {
    "fallbacks": ("fallback_", "reason", "selections made by LiteLLM's own strategy instead of Conduit"),
    "outcomes": ("outcomes_", "status", "outcomes of decisions"),
}


class StrategyCollector:
    """A ``prometheus_client`` collector for the counters of one strategy.

    Parameters
    ----------
    strategy
        The strategy to report on.
    """

    def __init__(self, strategy: ConduitRoutingStrategy) -> None:
        self._strategy = strategy

    def describe(self) -> Iterable["Metric"]:
        """Yield the metrics with their names, so that a registry can detect duplicates."""
        return self.collect()

    def collect(self) -> Iterator["Metric"]:
        """Yield the metrics with their current values."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - an optional package

        counts = dict(self._strategy.counters)
        yield _single(CounterMetricFamily, "selections", "decisions made and recorded", counts.get("selections", 0))
        left_alone = counts.get("selections_left_alone", 0)
        yield _single(
            CounterMetricFamily,
            "left_alone",
            "requests for which Conduit made no decision",
            left_alone,
        )
        for name, (prefix, label, what) in _BY.items():
            family = CounterMetricFamily(f"{_PREFIX}_{name}", what, labels=[label])
            for counter, count in counts.items():
                if counter.startswith(prefix):
                    family.add_metric([counter.removeprefix(prefix)], count)
            yield family
        yield _single(CounterMetricFamily, "feedbacks", "feedback received", counts.get("feedbacks", 0))
        events = CounterMetricFamily(f"{_PREFIX}_events", "events on their way to the log", labels=["what"])
        for what in EventFate:
            events.add_metric([what.value], counts.get(f"events_{what}", 0))
        yield events
        errors = CounterMetricFamily(f"{_PREFIX}_errors", "errors inside Conduit", labels=["where"])
        for where, counter in (("selection", "fallback_error"), ("record", "selections_not_recorded")):
            errors.add_metric([where], counts.get(counter, 0))
        errors.add_metric(["callback"], counts.get("callback_errors", 0))
        yield errors
        waiting_events, spooled = self._strategy.events_waiting, self._strategy.events_spooled
        waiting = GaugeMetricFamily(
            f"{_PREFIX}_events_waiting", "events that the log has not confirmed yet", labels=["where"]
        )
        waiting.add_metric(["memory"], waiting_events - spooled)
        waiting.add_metric(["spool"], spooled)
        yield waiting
        yield _single(
            GaugeMetricFamily,
            "log_silence_seconds",
            "seconds since the log was last read",
            self._strategy.log_silence_s,
        )
        overdue = GaugeMetricFamily(
            f"{_PREFIX}_snapshot_overdue_seconds",
            "seconds for which delivered events have waited for a newer snapshot",
            labels=["policy"],
        )
        for policy, seconds in self._strategy.snapshots_overdue_s.items():
            overdue.add_metric([policy], seconds)
        yield overdue


def expose_metrics(strategy: ConduitRoutingStrategy, registry: "CollectorRegistry | None" = None) -> StrategyCollector:
    """Add a strategy's metrics to a Prometheus registry.

    Parameters
    ----------
    strategy
        The strategy whose metrics to add.
    registry
        The registry; by default ``prometheus_client``'s global one, which a LiteLLM proxy serves as ``/metrics``.

    Returns
    -------
    StrategyCollector
        The collector that was added. ``registry.unregister`` removes it.

    Raises
    ------
    ConfigurationError
        If ``prometheus-client`` is not installed, or the registry already has the metrics of another strategy.

    Examples
    --------
    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> _ = expose_metrics(ConduitRoutingStrategy(host_learner=False), registry)
    >>> registry.get_sample_value("conduit_plugin_selections_total")
    0.0
    """
    try:
        from prometheus_client import REGISTRY  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise ConfigurationError(
            f"metrics need a package that is not installed ({error}): pip install 'conduit-litellm[metrics]'"
        ) from error
    collector = StrategyCollector(strategy)
    try:
        (registry or REGISTRY).register(collector)
    except ValueError as error:
        raise ConfigurationError(
            f"this registry already has the metrics of another strategy ({error}): give each a registry of its own"
        ) from error
    return collector


def _single(family: Any, name: str, what: str, value: float) -> "Metric":
    """Return a metric without labels."""
    metric: Metric = family(f"{_PREFIX}_{name}", what, value=float(value))
    return metric
