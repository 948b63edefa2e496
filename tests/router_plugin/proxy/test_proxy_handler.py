"""The proxy's callback alone: settings, routers that are created late, errors; with real routers."""

import asyncio
import inspect
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from litellm.router import Router
from prometheus_client import CollectorRegistry

from conduit_litellm import ConduitRoutingStrategy, ConfigurationError
from conduit_litellm.metrics import expose_metrics
from conduit_litellm.proxy import proxy_handler as conduit_proxy
from conduit_litellm.proxy.proxy_handler import DECISION_HEADER, POLICY_HEADER, ProxyHandler
from conduit_litellm.proxy.settings import read_settings
from conduit_litellm.settings import SETTINGS
from conduit_policy import Objective
from conduit_schemas import Budget, QualityFloor, Weights

ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture
def hosted(tmp_path, monkeypatch, deployment):
    """A stand-in for the proxy's module, with the attributes that Conduit reads, and a handler in it."""
    ended = []

    async def last_step(worker=None):
        ended.append(worker)

    config = {"conduit": {"log_path": str(tmp_path / "log"), "host_learner": False}}
    server = SimpleNamespace(
        llm_router=None,
        user_config_file_path="/etc/config.yaml",
        proxy_config=SimpleNamespace(config=config),
        proxy_shutdown_event=last_step,
        ended=ended,
        new_router=lambda: Router(model_list=[deployment("a"), deployment("b")]),
    )
    monkeypatch.setitem(sys.modules, "litellm.proxy.proxy_server", server)
    # A proxy has one strategy, but this process has many, so each has a metrics registry of its own.
    monkeypatch.setattr(conduit_proxy, "expose_metrics", lambda strategy: expose_metrics(strategy, CollectorRegistry()))
    server.handler = ProxyHandler()
    yield server
    if server.handler.strategy is not None:
        server.handler.strategy.close(timeout_s=0.5)


class TestSettings:
    def test_every_argument_of_the_strategy_is_a_key(self):
        parameters = inspect.signature(ConduitRoutingStrategy).parameters
        assert {name: parameter.default for name, parameter in parameters.items()} == SETTINGS
        assert [name for name, parameter in parameters.items() if parameter.kind is not parameter.KEYWORD_ONLY] == [
            "bandit_algorithm",
            "lambda_reg",
            "window_size",
        ]

    def test_the_section_comes_before_the_environment_and_that_before_the_defaults(self):
        environment = {"CONDUIT_OBJECTIVE": "speed", "CONDUIT_WINDOW_SIZE": "300", "CONDUIT_NAMESPACE": ""}
        assert read_settings({"objective": "cost"}, "f", environment) == {"objective": "cost", "window_size": 300}
        assert read_settings(None, "f", {}) == {}

    def test_values_of_every_kind(self):
        environment = {
            "CONDUIT_MODEL_GROUPS": "chat, code",
            "CONDUIT_OBJECTIVE": '{"cost": 0.5}',
            "CONDUIT_HOST_LEARNER": "false",
            "CONDUIT_FEATURIZER": "text64-v2",
            "CONDUIT_PARAMS": '{"scale": 2}',
        }
        assert read_settings({}, "f", environment) == {
            "model_groups": ["chat", "code"],
            "objective": Objective(cost=0.5),
            "host_learner": False,
            "featurizer": "text64-v2",
            "params": {"scale": 2.0},
        }

    def test_short_forms_are_read_from_the_section_and_the_environment(self, new_strategy):
        environment = {
            "CONDUIT_OBJECTIVE": "quality=1,cost=0.2",
            "CONDUIT_OVERRIDES": '{"key:ci": {"budget": "2/day"}}',
        }
        section = {"constraints": {"budget": "25/day", "quality_floor": "0.9@0.99", "max_latency_s": 3}}
        own = new_strategy(**read_settings(section, "f", environment))._directives.own
        assert own.goal.objective == Weights(cost=0.2)
        assert own.goal.budget == Budget(usd=25.0) and own.overrides["key:ci"].budget == Budget(usd=2.0)
        assert own.goal.quality_floor == QualityFloor(relative=0.9, confidence=0.99)

    def test_zero_is_a_number(self):
        given = {"spool_limit_bytes": 0, "params": {"floor": 0.0}}
        assert read_settings(given, "f", {"CONDUIT_OBJECTIVE": "cost=1,quality=0"}) == given | {
            "objective": Objective(quality=0.0, cost=1.0)
        }

    def test_variables_of_the_log_are_left_to_the_log(self):
        assert read_settings({"log": "nats://n:1"}, "f", {"CONDUIT_LOG": "x:"}) == {"log": "nats://n:1"}
        assert (
            read_settings({}, "f", {"CONDUIT_LOG": "x:", "CONDUIT_TOPIC_PREFIX": "p", "CONDUIT_KAFKA_OPTIONS": "x"})
            == {}
        )

    @pytest.mark.parametrize(
        ("section", "environment", "message"),
        [
            (
                {"window": 5},
                {},
                r"f\.yaml: conduit: has no key 'window'; there are bandit_algorithm, .*\(did you mean 'window_size'",
            ),
            ({1: 5}, {}, r"f\.yaml: conduit: has no key 1"),
            ([], {}, r"f\.yaml: conduit: must be a mapping of settings, not \[\]"),
            ({"window_size": "many"}, {}, r"f\.yaml: conduit: window_size='many': .*valid integer"),
            ({"objective": {"cots": 1}}, {}, r"f\.yaml: conduit: objective={'cots': 1}: .*cots"),
            ({"model_groups": "chat"}, {}, r"f\.yaml: conduit: model_groups='chat': must be a list of names"),
            ({"kafka_options": "secret"}, {}, r"f\.yaml: conduit: kafka_options=\.\.\.: "),
            ({}, {"CONDUIT_LAMBDA_REG": "x"}, r"the environment: CONDUIT_LAMBDA_REG='x': .*valid number"),
            ({}, {"CONDUIT_PARAMS": "{x"}, r"the environment: CONDUIT_PARAMS='{x' is not valid JSON"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_key_and_place(self, section, environment, message):
        with pytest.raises(ConfigurationError, match=message):
            read_settings(section, "f.yaml", environment)


@pytest.mark.process
def test_importing_the_module_without_a_proxy_does_nothing(tmp_path):
    source = """
import asyncio, threading
async def main():
    from conduit_litellm.proxy.proxy_handler import handler
    handler.start()
    handler.keep_installed()
    assert handler.strategy is None and len(asyncio.all_tasks()) == 1 and threading.active_count() == 1
    assert await handler.async_pre_call_hook(None, None, {}, "acompletion") is None
    assert await handler.async_post_call_response_headers_hook({}, None, None) is None
    import sys
    assert "litellm.proxy.proxy_server" not in sys.modules
asyncio.run(main())
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", source], check=True, env=environment)
    assert list(tmp_path.iterdir()) == []


async def test_a_router_made_later_is_found_and_so_is_one_that_replaces_it(hosted, until, monkeypatch):
    monkeypatch.setattr(conduit_proxy, "_WATCH_S", 0.01)
    hosted.handler.start()
    watch = hosted.handler._watch
    hosted.handler.start()
    assert hosted.handler._watch is watch
    await asyncio.sleep(0.05)
    assert hosted.handler.strategy is None
    for _ in range(2):
        hosted.llm_router = router = hosted.new_router()
        await until(lambda: hosted.handler.strategy is not None)
        await until(lambda router=router: hosted.handler.strategy.is_installed_on(router))
        response = await router.acompletion(model="chat", messages=ASK)
        assert hosted.handler.strategy.decision_id(response) is not None
    router.update_settings(routing_strategy="latency-based-routing")
    assert not hosted.handler.strategy.is_installed_on(router)
    await until(lambda: hosted.handler.strategy.is_installed_on(router))
    watch.cancel()


async def test_without_a_running_loop_the_first_request_starts_the_watch(hosted):
    hosted.llm_router = hosted.new_router()
    await asyncio.to_thread(hosted.handler.start)
    assert hosted.handler._watch is None
    await hosted.handler.async_pre_call_hook(None, None, {}, "acompletion")
    assert hosted.handler.strategy.is_installed_on(hosted.llm_router)
    hosted.handler._watch.cancel()


async def test_a_strategy_that_refuses_its_settings_is_not_tried_again(hosted, caplog):
    hosted.proxy_config.config["conduit"]["bandit_algorithm"] = "guesswork"
    hosted.llm_router = hosted.new_router()
    for _ in range(3):
        await hosted.handler.async_pre_call_hook(None, None, {}, "acompletion")
    assert hosted.handler.strategy is None
    (record,) = [record for record in caplog.records if record.name == "conduit"]
    assert "/etc/config.yaml: conduit: " in record.message and "guesswork" in record.message
    assert (await hosted.llm_router.acompletion(model="chat", messages=ASK)).choices[0].message.content


async def test_a_bug_of_ours_is_said_once_and_disturbs_nobody(hosted, monkeypatch, caplog):
    hosted.llm_router = hosted.new_router()

    def broken(*arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr(ConduitRoutingStrategy, "install", broken)
    monkeypatch.setattr(ConduitRoutingStrategy, "decision_behind", broken)
    for _ in range(3):
        hosted.handler.keep_installed()
        assert await hosted.handler.async_post_call_response_headers_hook({}, None, None) is None
    said = [record for record in caplog.records if record.name == "conduit"]
    assert ["a bug" in record.exc_text for record in said] == [False, True, True]
    assert said[0].message.startswith("POST /conduit/feedback is not served")  # the stand-in serves nothing
    monkeypatch.undo()


async def test_the_headers_name_the_decision_even_where_headers_know_no_such_letters(hosted, deployment):
    hosted.llm_router = Router(model_list=[deployment("a", group="größte Modelle")])
    hosted.handler.keep_installed()
    response = await hosted.llm_router.acompletion(model="größte Modelle", messages=ASK)
    headers = await hosted.handler.async_post_call_response_headers_hook({}, None, response)
    assert headers == {
        DECISION_HEADER: hosted.handler.strategy.decision_id(response),
        POLICY_HEADER: "default/gr%C3%B6%C3%9Fte%20Modelle",
    }


async def test_the_end_of_a_worker_delivers_and_then_lets_the_proxy_end(hosted, events):
    hosted.llm_router = hosted.new_router()
    hosted.handler.keep_installed()
    strategy = hosted.handler.strategy
    await asyncio.gather(*[hosted.llm_router.acompletion(model="chat", messages=ASK) for _ in range(20)])
    await hosted.proxy_shutdown_event("worker")
    assert hosted.ended == ["worker"]
    stored = await events.stored(strategy.log_settings)
    assert sum(event.kind == "selection" for event in stored) == 20
    assert sum(event.kind == "outcome" for event in stored) == 20
