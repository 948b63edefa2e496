"""What the plugin reports to Prometheus and OpenTelemetry."""

import subprocess
import sys

import pytest
from opentelemetry import trace
from prometheus_client import CollectorRegistry, generate_latest

from conduit_litellm import ConfigurationError
from conduit_litellm.metrics import expose_metrics

ASK = [{"role": "user", "content": "hello"}]


async def ask(router, model="chat"):
    return (await router.acompletion(model=model, messages=ASK))._hidden_params["model_id"]


async def test_the_metrics_are_the_counts(strategy, new_router, deployment, snapshot, events):
    registry = CollectorRegistry()
    expose_metrics(strategy, registry)

    def value(name, **labels):
        return registry.get_sample_value(f"conduit_plugin_{name}", labels)

    assert value("selections_total") == 0.0 and value("log_silence_seconds") < 600.0
    broken = deployment("c", group="broken", mock_response="litellm.InternalServerError")
    router = new_router(strategy, ["a", "b", broken])
    await ask(router)
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}))
    assert [await ask(router), await ask(router, "b")] == ["b", "b"]
    with pytest.raises(Exception, match="mock internal server error"):
        await ask(router, "broken")
    await strategy.record_feedback("b", quality_score=1.0)
    await events.outcomes(strategy, 3)
    await events(strategy)
    assert (value("selections_total"), value("left_alone_total")) == (3.0, 1.0)
    assert value("fallbacks_total", reason="no_snapshot") == 1.0
    assert value("outcomes_total", status="success") == 2.0 and value("outcomes_total", status="error") == 1.0
    assert value("feedbacks_total") == 1.0
    assert value("events_total", what="delivered") == strategy.counters["events_delivered"] >= 9.0
    assert value("events_total", what="dropped") == value("events_waiting", where="memory") == 0.0
    assert value("events_waiting", where="spool") == 0.0
    assert value("errors_total", where="selection") == value("errors_total", where="callback") == 0.0
    # Events of both policies were delivered, and there is no learner to respond.
    overdue = value("snapshot_overdue_seconds", policy="default/broken")
    assert 0.0 < overdue <= value("snapshot_overdue_seconds", policy="default/broken")
    strategy._policies._last_read -= 100.0
    assert value("log_silence_seconds") >= 99.0
    assert b"# TYPE conduit_plugin_fallbacks_total counter" in generate_latest(registry)


async def test_what_waits_is_told_by_its_place(new_strategy, new_router, until):
    strategy = new_strategy(bootstrap_servers="127.0.0.1:1", queue_size=50)
    registry = CollectorRegistry()
    expose_metrics(strategy, registry)
    router = new_router(strategy, ["only"])
    for _ in range(5):
        await ask(router)
    await until(lambda: strategy._emitter.spooled >= 10, timeout_s=180.0)
    spooled = registry.get_sample_value("conduit_plugin_events_waiting", {"where": "spool"})
    in_memory = registry.get_sample_value("conduit_plugin_events_waiting", {"where": "memory"})
    assert spooled >= 10.0 and spooled + in_memory == strategy.events_waiting
    assert registry.get_sample_value("conduit_plugin_events_total", {"what": "spooled"}) == spooled


def test_two_strategies_need_two_registries(new_strategy):
    registry = CollectorRegistry()
    collector = expose_metrics(new_strategy(), registry)
    with pytest.raises(ConfigurationError, match="a registry of its own"):
        expose_metrics(new_strategy(), registry)
    registry.unregister(collector)
    expose_metrics(new_strategy(), registry)


@pytest.mark.process
def test_neither_package_is_needed(tmp_path):
    program = """
import sys
sys.modules["prometheus_client"] = sys.modules["opentelemetry.trace"] = None
from conduit_litellm import ConduitRoutingStrategy, ConfigurationError
from conduit_litellm.metrics import expose_metrics
from conduit_litellm.decisions import tracing
assert tracing._current_span is None
tracing.annotate_span(None)
try:
    expose_metrics(ConduitRoutingStrategy(host_learner=False))
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "pip install 'conduit-litellm[metrics]'" in done.stdout


class Span(trace.NonRecordingSpan):
    def __init__(self, recording):
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self.recording, self.attributes = recording, {}

    def is_recording(self):
        return self.recording

    def set_attributes(self, attributes):
        self.attributes |= attributes


async def test_a_decision_is_on_the_span_that_is_current(strategy, new_router, snapshot, events):
    router = new_router(strategy)
    first, second, third = Span(True), Span(True), Span(False)
    with trace.use_span(first):
        served = await ask(router)
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}))
    for span in (second, third):
        with trace.use_span(span):
            await ask(router)
    selections = await events(strategy, "selection")
    assert first.attributes == {
        "conduit.decision.id": selections[0].decision_id,
        "conduit.policy": "default/chat",
        "conduit.deployment": served,
        "conduit.deployments": 2,
        "conduit.fallback": "no_snapshot",
    }
    assert second.attributes["conduit.decision.id"] == selections[1].decision_id
    assert (second.attributes["conduit.deployment"], second.attributes["conduit.propensity"]) == ("b", 1.0)
    assert "conduit.fallback" not in second.attributes
    assert third.attributes == {}
