"""Which deployment serves: Conduit's choice if there is a snapshot, LiteLLM's own otherwise."""

import asyncio
import logging
import random
from collections import Counter

import litellm
import numpy as np
import pytest
from litellm.router import Router

from conduit_litellm import ConduitRoutingStrategy, ConfigurationError
from conduit_policy import Beliefs, Objective, TextFeaturizer, choose
from conduit_schemas import ExplorationRule, Fallback, LearningSettings

ASK = [{"role": "user", "content": "What is 17 * 23?"}]


async def ask(router, model="chat", **options):
    response = await router.acompletion(model=model, messages=ASK, **options)
    return response._hidden_params["model_id"]


async def test_without_a_snapshot_litellm_serves_and_the_selection_is_logged(
    strategy, new_router, deployment, events, caplog
):
    random.seed(1)
    router = new_router(strategy, [deployment("a", weight=9), deployment("b", weight=1)])
    with caplog.at_level(logging.INFO, logger="conduit"):
        served = Counter([await ask(router) for _ in range(60)])
    assert served["a"] > 40  # LiteLLM's own weights are respected
    assert strategy.counters["fallbacks"] == strategy.counters["fallback_no_snapshot"] == 60
    assert sum(Fallback.NO_SNAPSHOT.about in record.message for record in caplog.records) == 1
    first, *selections = await events(strategy)
    assert first.kind == "settings" and first.policy == "default/chat"
    assert first.settings.model_copy(update={"prices": None}) == strategy.settings
    assert set(first.settings.prices) == {"a", "b"}
    selections = [event for event in selections if event.kind == "selection"]
    assert len(selections) == 60
    for event in selections:
        assert event.arms == ("a", "b") and event.models == ("openai/gpt-4o-mini",) * 2
        assert event.probabilities is None and event.fallback == "no_snapshot" and event.propensity is None
        assert event.featurizer == "text64-v2" and len(event.context) == 128
    assert Counter(event.arm for event in selections) == served
    assert len({event.decision_id for event in selections}) == 60


async def test_with_a_snapshot_its_choice_serves_and_can_be_taken_again_from_the_log(
    strategy, new_router, snapshot, events
):
    newest = snapshot(
        {"a": 0.5, "b": 0.6, "c": 0.2}, rule=ExplorationRule(name="epsilon_greedy", params={"epsilon": 0.3})
    )
    assert strategy._policies.update(newest)
    router = new_router(strategy, ["a", "b", "c"])
    served = [await ask(router) for _ in range(200)]
    share = Counter(served)
    assert 120 < share["b"] < 190 and share["a"] > 3 and share["c"] > 3
    assert strategy.counters["fallbacks"] == 0
    selections = await events(strategy, "selection")
    assert [event.arm for event in selections] == served
    beliefs, expected = Beliefs(newest), TextFeaturizer()
    for event in selections:
        assert event.snapshot_hash == newest.hash and event.snapshot_version == 10 and event.fallback is None
        context = np.frombuffer(event.context, "<i2")
        assert context[0] == 1024 and context.shape == (expected.dimension,)
        again = choose(
            beliefs, context, event.arms, objective=Objective(**event.objective), decision_id=event.decision_id
        )
        assert again.index == event.chosen
        assert event.probabilities == tuple(again.probabilities)
        assert event.predictions["quality"] == pytest.approx((0.5, 0.6, 0.2))


async def test_an_objective_by_name_or_by_weights_decides_what_is_logged(new_strategy, new_router, events):
    for objective, weights in (("cost", Objective.preset("cost")), (Objective(1.0, 0.5, 0.0),) * 2):
        strategy = new_strategy(objective=objective, namespace=f"n{weights.cost}")
        await ask(new_router(strategy))
        selections = await events(strategy, "selection")
        assert selections[-1].objective == weights.weights()
        assert selections[-1].policy == f"n{weights.cost}/chat"


def test_synchronous_calls_choose_and_fall_back_in_the_same_way(strategy, new_router, deployment, snapshot):
    router = new_router(strategy, [deployment("a", weight=1), deployment("b", weight=1e-9)])

    def complete():
        return router.completion(model="chat", messages=ASK)._hidden_params["model_id"]

    assert {complete() for _ in range(20)} == {"a"}  # no snapshot: LiteLLM's weights
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}))
    assert {complete() for _ in range(20)} == {"b"}
    assert strategy.counters["fallback_no_snapshot"] == 20
    assert strategy.counters["selections"] == 40


@pytest.mark.parametrize(
    "routing_strategy", ["least-busy", "latency-based-routing", "cost-based-routing", "usage-based-routing-v2"]
)
async def test_whatever_strategy_litellm_is_configured_with_serves_the_fallback(  # noqa: PLR0917 - fixtures
    routing_strategy, strategy, new_router, deployment, snapshot, events
):
    cheap = deployment("cheap", input_cost_per_token=1e-6, output_cost_per_token=1e-6)
    dear = deployment("dear", input_cost_per_token=1e-3, output_cost_per_token=1e-3)
    router = new_router(strategy, [dear, cheap], routing_strategy=routing_strategy)
    asynchronous = [await ask(router) for _ in range(6)]
    synchronous = []
    if routing_strategy == "cost-based-routing":  # LiteLLM has no synchronous version of it
        assert set(asynchronous) == {"cheap"}
    else:
        synchronous = [
            (await asyncio.to_thread(router.completion, model="chat", messages=ASK))._hidden_params["model_id"]
            for _ in range(6)
        ]
    assert strategy.counters["fallback_no_snapshot"] == len(asynchronous + synchronous)
    logged = [event.arm for event in await events(strategy, "selection")]
    assert logged == asynchronous + synchronous
    strategy._policies.update(snapshot({"cheap": 0.1, "dear": 0.9}))
    assert {await ask(router) for _ in range(6)} == {"dear"}


async def test_a_deployment_in_cooldown_is_never_chosen(strategy, new_router, deployment, snapshot):
    strategy._policies.update(snapshot({"a": 0.1, "broken": 0.9}))
    broken = deployment("broken", mock_response="litellm.RateLimitError")
    router = new_router(strategy, [deployment("a"), broken], allowed_fails=0, cooldown_time=60)
    with pytest.raises(litellm.RateLimitError):
        await ask(router)
    await asyncio.sleep(0.1)
    assert {await ask(router) for _ in range(10)} == {"a"}
    assert strategy.counters["fallbacks"] == 0


async def test_a_request_for_one_deployment_gets_it_and_teaches_nothing(strategy, new_router, snapshot, events):
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}))
    router = new_router(strategy)
    assert await ask(router, model="a") == "a"
    assert await ask(router) == "b"
    assert router.completion(model="a", messages=ASK)._hidden_params["model_id"] == "a"
    assert [event.arm for event in await events(strategy, "selection")] == ["b"]
    outcomes = await events.outcomes(strategy, 1)
    assert len(outcomes) == 1 and strategy.counters["selections_left_alone"] == 2


async def test_unmanaged_groups_are_left_to_litellm(new_strategy, new_router, deployment, snapshot, events):
    strategy = new_strategy(model_groups=["chat"])
    for policy in ("default/chat", "default/other"):
        strategy._policies.update(snapshot({"a": 0.1, "b": 0.9, "c": 0.1, "d": 0.9}, policy=policy))
    router = new_router(
        strategy,
        [
            deployment("a"),
            deployment("b"),
            deployment("c", group="other", weight=1),
            deployment("d", group="other", weight=1e-9),
        ],
    )
    assert {await ask(router) for _ in range(10)} == {"b"}
    assert {await ask(router, model="other") for _ in range(10)} == {"c"}
    assert {event.policy for event in await events(strategy)} == {"default/chat"}
    assert strategy.counters["fallbacks"] == 0


async def test_an_alias_is_the_group_it_stands_for(strategy, new_router, snapshot, events):
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}))
    router = new_router(strategy, model_group_alias={"nickname": "chat"})
    assert await ask(router, model="nickname") == "b"
    assert (await events(strategy, "selection"))[0].policy == "default/chat"


async def test_a_single_healthy_deployment_is_chosen_with_certainty(strategy, new_router, events):
    router = new_router(strategy, ["only"])
    assert await ask(router) == "only"
    (selection,) = await events(strategy, "selection")
    assert selection.probabilities == (1.0,) and selection.fallback is None
    assert strategy.counters["fallbacks"] == 0


class _OnlyModel:
    """A LiteLLM routing plugin: a rule about which models may serve."""

    def __init__(self, *models):
        self.models = models

    async def run(self, context):
        context.candidate_models = [model for model in context.candidate_models if model in self.models]
        return context


async def test_litellms_routing_plugins_are_obeyed(strategy, new_router, deployment, snapshot):
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}))
    entries = [deployment("a", model="openai/gpt-4o-mini"), deployment("b", model="openai/gpt-4o")]
    router = new_router(strategy, entries, plugins=[_OnlyModel("openai/gpt-4o-mini")])
    assert {await ask(router) for _ in range(5)} == {"a"}
    nothing_allowed = new_router(strategy, entries, plugins=[_OnlyModel()])
    with pytest.raises(Exception, match="routing-plugin filtering"):
        await ask(nothing_allowed)
    with pytest.raises(ValueError, match="routing-plugin pipeline"):
        nothing_allowed.completion(model="chat", messages=ASK)


async def test_a_group_without_healthy_deployments_raises_litellms_own_error(strategy, new_router):
    router = new_router(strategy)
    with pytest.raises(litellm.BadRequestError):
        await ask(router, model="unknown")
    with pytest.raises(litellm.BadRequestError):
        router.completion(model="unknown", messages=ASK)
    assert await ask(router) in {"a", "b"}


async def test_a_silent_log_makes_a_snapshot_stale(new_strategy, new_router, deployment, snapshot, caplog):
    strategy = new_strategy(max_snapshot_age_s=0.01)
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}))
    strategy._policies._last_read -= 10.0
    strategy._service.tell_to_stop()  # nobody reads the log
    router = new_router(strategy, [deployment("a", weight=1), deployment("b", weight=1e-9)])
    assert {await ask(router) for _ in range(5)} == {"a"}
    assert strategy.counters["fallback_stale_snapshot"] == 5
    assert sum(Fallback.STALE_SNAPSHOT.about in record.message for record in caplog.records) == 1


async def test_a_snapshot_learned_with_another_featurizer_is_not_used(strategy, new_router, deployment, snapshot):
    other = LearningSettings(featurizer="other-v9", dimension=8)
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}, settings=other))
    router = new_router(strategy, [deployment("a", weight=1), deployment("b", weight=1e-9)])
    assert await ask(router) == "a"
    assert strategy.counters["fallback_unknown_featurizer"] == 1


class _Broken:
    name = "broken-v1"
    dimension = 3

    def __call__(self, request):
        raise RuntimeError("a bug in a featurizer")


async def test_an_error_of_ours_leaves_the_request_to_litellm(new_strategy, new_router, events, caplog):
    strategy = new_strategy(featurizer=_Broken())
    router = new_router(strategy)
    served = [await ask(router) for _ in range(3)]
    assert set(served) <= {"a", "b"}
    assert strategy.counters["fallback_error"] == 3
    assert sum(Fallback.ERROR.about in record.message for record in caplog.records) == 1
    assert "a bug in a featurizer" in caplog.text
    assert await events(strategy) == []


async def test_an_error_while_choosing_is_logged_as_a_fallback(strategy, new_router, snapshot, events):
    strategy._policies.update(snapshot({"a": 0.1}, rule=ExplorationRule(name="from-the-future")))
    router = new_router(strategy)
    served = await ask(router)
    (selection,) = await events(strategy, "selection")
    assert selection.fallback == "error" and selection.arm == served and selection.probabilities is None


async def test_an_error_while_recording_costs_only_the_record(strategy, new_router, monkeypatch, caplog):
    def refuse(pending):
        raise RuntimeError("no room")

    router = new_router(strategy)
    await ask(router)  # the policy and its prices are in the log
    monkeypatch.setattr(strategy._emitter, "put", refuse)
    assert await ask(router) in {"a", "b"}
    assert strategy.counters["selections_not_recorded"] == 1
    assert "nothing is learned from it" in caplog.text


async def test_more_deployments_than_a_policy_may_have_are_left_to_litellm(strategy, new_router, events):
    router = new_router(strategy, [f"d{number}" for number in range(257)])
    assert (await ask(router)).startswith("d")
    assert strategy.counters["fallback_too_many_deployments"] == 1
    assert await events(strategy) == []


async def test_a_legacy_strategy_that_selects_synchronously_serves_as_before(strategy, new_router, events):
    router = new_router(strategy, routing_strategy="usage-based-routing")
    served = [await ask(router) for _ in range(3)]
    assert set(served) <= {"a", "b"}
    # Up to LiteLLM 1.108, such a call uses Conduit's synchronous method and is recorded. Later versions do not.
    counters = strategy.counters
    assert counters["selections"] + counters["selections_left_alone"] == 3
    assert len(await events(strategy, "selection")) == counters["selections"]


async def test_one_strategy_serves_several_routers(strategy, new_router, snapshot):
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9, "c": 0.1, "d": 0.9}))
    one, two = new_router(strategy, ["a", "b"]), new_router(strategy, ["c", "d"])
    assert [await ask(router) for router in (one, two, one)] == ["b", "d", "b"]


async def test_litellms_own_ways_of_installing_work_without_a_warning_of_ours(
    new_strategy, deployment, snapshot, recwarn
):
    strategy = new_strategy(bandit_algorithm="contextual_thompson", lambda_reg=1.0, window_size=1000)
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}))
    router = Router(model_list=[deployment("a"), deployment("b")])
    router.set_custom_routing_strategy(strategy)
    assert await ask(router) == "b"
    assert router.completion(model="chat", messages=ASK)._hidden_params["model_id"] == "b"
    assert strategy.counters["selections"] == 2
    if hasattr(router, "register_plugin"):
        router = Router(model_list=[deployment("a"), deployment("b")])
        router.register_plugin(strategy)
        assert await ask(router) == "b"
    assert not [warning for warning in recwarn if "conduit" in str(warning.message).lower()]


async def test_a_router_that_was_given_the_methods_by_hand_is_found(strategy, deployment, snapshot):
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}))
    router = Router(model_list=[deployment("a"), deployment("b")])
    router.async_get_available_deployment = strategy.async_get_available_deployment
    assert await ask(router) == "b"


async def test_without_a_router_the_error_says_what_to_do(strategy):
    with pytest.raises(ConfigurationError, match=r"strategy\.install\(router\)"):
        await strategy.async_get_available_deployment(model="chat", request_kwargs={})
    with pytest.raises(ConfigurationError, match=r"strategy\.install\(router\)"):
        strategy.get_available_deployment(model="chat")


async def test_a_selection_leaves_the_router_as_it_was(strategy, new_router):
    router = new_router(strategy)
    core = router.__dict__.get("_core", router)
    before = {name: id(value) for name, value in core.__dict__.items()}
    await ask(router)
    router.completion(model="chat", messages=ASK)
    after = {name: id(value) for name, value in core.__dict__.items()}
    assert all(name.endswith(("_view", "_snapshot")) for name in set(after) - set(before))  # LiteLLM's own caches
    assert after["get_available_deployment"] == before["get_available_deployment"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"bandit_algorithm": "thomson"}, "no algorithm 'thomson'; there are contextual_thompson"),
        ({"lambda_reg": 0.0}, "lambda_reg=0.0"),
        ({"lambda_reg": float("nan")}, "lambda_reg=nan"),
        ({"window_size": 1}, "window_size=1"),
        ({"params": {"scale": "wide"}}, "params.scale='wide'"),
        ({"objective": "fame"}, "no objective preset 'fame'"),
        ({"max_snapshot_age_s": 0.0}, "max_snapshot_age_s=0.0: .*greater than 0"),
        ({"queue_size": 0}, "queue_size=0: .*greater than or equal to 1"),
        ({"model_groups": "chat"}, "must be a list"),
        ({"model_groups": [7]}, "must be a list"),
        ({"window": 7}, "no setting 'window'; there are .*did you mean 'window_size'"),
        ({"priors": {"a": {"qualty": 1.0}}}, "no 'priors.a.qualty'; .*did you mean 'quality'"),
        ({"featurizer": "text65"}, "no featurizer 'text65'; .*did you mean 'text64-v2'"),
        ({"topic_prefix": "a b"}, "topic prefix"),
        ({"log": "pigeon://roof"}, "no adapter for the scheme 'pigeon'"),
        ({"log": "kafka://k:9", "bootstrap_servers": "k:9"}, "both say where the log is"),
        ({"bootstrap_servers": "k:9", "kafka_options": {"sasl_user": "x"}}, "unknown Kafka option 'sasl_user'"),
    ],
)
def test_a_bad_setting_is_refused_at_once(settings, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        ConduitRoutingStrategy(**settings)
