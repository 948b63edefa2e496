"""The whole loop: requests, choices, outcomes and feedback, a learner, and better choices."""

import asyncio
from collections import Counter
from contextlib import suppress

import litellm
import pytest
from folder_log import offer
from litellm.router import Router

from conduit_litellm import ConduitRoutingStrategy
from conduit_log import Message, open_log
from conduit_schemas import RoutingChange, RoutingSettings, encode

ASK = [{"role": "user", "content": "What is 17 * 23?"}]
QUALITY = {"good": 0.9, "bad": 0.3}


async def ask_and_judge(strategy, router, times):
    """Serve requests, each with feedback; return how many each deployment served."""
    served = Counter()
    for _ in range(times):
        response = await router.acompletion(model="chat", messages=ASK)
        name = response._hidden_params["model_id"]
        served[name] += 1
        await strategy.record_feedback(name, quality_score=QUALITY[name], decision_id=strategy.decision_id(response))
    return served


async def test_on_one_machine_the_better_deployment_gets_the_traffic(new_strategy, new_router, until):
    strategy = new_strategy(host_learner=True)
    router = new_router(strategy, ["bad", "good"])
    await ask_and_judge(strategy, router, 150)
    learned = strategy._policies
    await until(lambda: (beliefs := learned.get("default/chat")) and beliefs.snapshot.feedbacks == 150, 30.0)
    after = await ask_and_judge(strategy, router, 100)
    assert after["good"] >= 90
    assert 0 < strategy.counters["fallbacks"] <= 150


@pytest.fixture
def _folder_log(tmp_path, monkeypatch):
    """The tests' adapter, as if its package were installed."""
    offer(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("_folder_log")
@pytest.mark.parametrize("scheme", ["memory", "folder"])
async def test_it_learns_on_whatever_log_lets_it(scheme, new_strategy, new_router, until, tmp_path):
    address = f"{scheme}:{tmp_path}/elsewhere"
    strategy = new_strategy(log=address, host_learner=True)
    router = new_router(strategy, ["bad", "good"])
    await ask_and_judge(strategy, router, 60)
    learned = strategy._policies
    await until(lambda: (beliefs := learned.get("default/chat")) and beliefs.snapshot.feedbacks == 60, 30.0)
    assert (await ask_and_judge(strategy, router, 50))["good"] >= 40
    assert strategy.log_settings.address.scheme == scheme
    assert strategy._emitter.spooled == 0
    assert not (tmp_path / "log").exists()


async def test_a_deployment_that_only_fails_loses_the_traffic_without_any_feedback(
    new_strategy, new_router, deployment, until
):
    strategy = new_strategy(host_learner=True)
    entries = [deployment("bad", mock_response="litellm.InternalServerError"), deployment("good")]
    router = new_router(strategy, entries, disable_cooldowns=True)
    for _ in range(80):
        with suppress(litellm.InternalServerError):
            await router.acompletion(model="chat", messages=ASK)
    learned = strategy._policies
    await until(lambda: (beliefs := learned.get("default/chat")) and beliefs.snapshot.outcomes >= 80, 30.0)
    already = strategy.counters["outcomes_error"]
    assert already >= 1
    for _ in range(50):
        with suppress(litellm.InternalServerError):
            await router.acompletion(model="chat", messages=ASK)
    assert strategy.counters["outcomes_error"] - already <= 10


async def test_what_was_learned_outlives_the_process(new_strategy, new_router, until):
    first = new_strategy(host_learner=True)
    await ask_and_judge(first, new_router(first, ["bad", "good"]), 100)
    learned = first._policies
    await until(lambda: (beliefs := learned.get("default/chat")) and beliefs.snapshot.feedbacks == 100, 30.0)
    await first.aclose()
    second = new_strategy(host_learner=False)
    router = new_router(second, ["bad", "good"])
    await router.acompletion(model="chat", messages=ASK)
    await until(lambda: second._policies.get("default/chat") is not None)
    served = await ask_and_judge(second, router, 50)
    assert served["good"] >= 44


async def test_the_smallest_program_there_is(tmp_path, monkeypatch, deployment):
    monkeypatch.setenv("CONDUIT_HOME", str(tmp_path))
    strategy = ConduitRoutingStrategy()
    router = Router(model_list=[deployment("a"), deployment("b")])
    router.set_custom_routing_strategy(strategy)
    response = await router.acompletion(model="chat", messages=ASK)
    cost, latency, quality_score, error = 0.001, 0.5, 0.8, None
    deployment_id = response._hidden_params["model_id"]
    assert await strategy.record_feedback(deployment_id, cost, latency, quality_score, error) is not None
    await asyncio.sleep(0.1)
    await strategy.aclose()
    assert strategy.events_waiting == 0 and (tmp_path / "log.sqlite3").exists()


async def test_what_an_operator_says_through_the_log_is_obeyed(new_strategy, new_router, until):
    strategy = new_strategy(host_learner=True)
    router = new_router(strategy, ["bad", "good"])
    await ask_and_judge(strategy, router, 20)

    def published(name):
        beliefs = strategy._policies.get("default/chat")
        routing = None if beliefs is None else beliefs.snapshot.routing
        return None if routing is None else getattr(routing, name)

    await until(lambda: published("origin") == "application", 30.0)
    off = RoutingChange(policy="default/chat", time=1.0, routing=RoutingSettings(mode="off"), changed_by="ada")
    async with open_log(strategy.log_settings) as log:
        await log.append(log.topics.events, [Message(b"default/chat", encode(off))])
    await until(lambda: published("changed_by") == "ada", 30.0)
    await ask_and_judge(strategy, router, 5)
    assert strategy.counters["selections_off"] == 5
