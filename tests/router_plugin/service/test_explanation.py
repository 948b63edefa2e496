"""Explanations in plain words, for every kind of reason."""

import numpy as np
import pytest

from conduit_litellm.decisions.drafts import attempts_of_request
from conduit_litellm.service.explanation import explain
from conduit_schemas import ExplorationRule

ASK = [{"role": "user", "content": "What is 17 * 23?"}]


def choose(strategy, pool):
    seen = []
    token = attempts_of_request.set(seen)
    try:
        strategy.choose("chat", pool, ASK)
    finally:
        attempts_of_request.reset(token)
    return seen


@pytest.fixture
def pool(deployment):
    return [deployment("a"), deployment("b")]


def test_no_decision():
    assert explain([]) == "Conduit made no decision: LiteLLM chose the model."


def test_a_single_model(strategy, pool):
    assert explain(choose(strategy, pool[:1])) == (
        "openai/gpt-4o-mini (a) served: it was the only deployment available."
    )


@pytest.mark.parametrize("mode", ["off", "shadow", "canary"])
def test_a_choice_that_is_left_to_litellm_on_purpose_says_so(mode, new_strategy, pool, snapshot):
    strategy = new_strategy(mode=mode, rollout={"canary_share": 0.0})
    strategy._policies.update(snapshot({"a": 0.9, "b": 0.2}))
    (selection,) = seen = choose(strategy, pool)
    assert selection.fallback == {"canary": "control"}.get(mode, mode)
    (arm,) = [arm for arm in ("a", "b") if arm == selection.arms[selection.chosen]]
    told = f"LiteLLM's own selection took openai/gpt-4o-mini ({arm}). {selection.fallback.about}"
    if mode != "off":
        told += " Conduit would have chosen openai/gpt-4o-mini (a)."
    assert explain(seen) == told


def test_a_failed_attempt_comes_first(strategy, pool):
    both = choose(strategy, pool[:1]) + choose(strategy, pool[1:])
    assert explain(both).startswith("openai/gpt-4o-mini (a) failed. openai/gpt-4o-mini (b) served: it was the only")


def test_an_unknown_model_and_an_unlikely_choice(strategy, pool, snapshot, deployment):
    rule = ExplorationRule(name="epsilon_greedy", params={"epsilon": 0.5, "floor": 0.0, "cold_ratings": 0.0})
    strategy._policies.update(snapshot({"a": 0.9, "b": 0.2}, rule=rule))
    told = {}
    for _ in range(200):
        (selection,) = seen = choose(strategy, [*pool, deployment("new")])
        told[selection.arms[selection.chosen]] = explain(seen)
    assert "Nothing was known about it yet." in told["new"] and "Nothing was known" not in told["a"]
    assert "(b) was tried out, with a probability of " in told["b"] and "(a) looked better and had " in told["b"]
    assert "tried out" not in told["a"]


def test_what_was_only_assumed_of_a_deployment_is_not_told_as_expected(strategy, pool, snapshot):
    made = snapshot({"a": 0.9, "b": 0.9})
    unrated = made.arms["b"].signals["quality"].model_copy(update={"weight": 0.0})
    signals = {**made.arms["b"].signals, "quality": unrated, **priced(made)}
    arms = {**made.arms, "b": made.arms["b"].model_copy(update={"signals": signals})}
    strategy._policies.update(made.model_copy(update={"arms": arms}).sealed())
    told = {}
    for _ in range(50):
        (selection,) = seen = choose(strategy, pool)
        told[selection.arms[selection.chosen]] = explain(seen)
    assert "Predicted: quality 0.90, success 1.00." in told["a"]
    assert "Predicted: success 1.00, cost $0.002, latency 1.5 s." in told["b"]


def test_every_prediction_is_in_the_units_of_people(strategy, pool, snapshot):
    made = snapshot({"a": 0.9, "b": 0.2})
    arms = {
        name: arm.model_copy(update={"signals": {**arm.signals, **priced(made)}}) for name, arm in made.arms.items()
    }
    strategy._policies.update(made.model_copy(update={"arms": arms}).sealed())
    assert "quality 0.90, success 1.00, cost $0.002, latency 1.5 s." in explain(choose(strategy, pool))


@pytest.mark.parametrize("backend", ["litellm", "pydantic_ai"])
async def test_limits_and_wishes_of_one_request_are_obeyed_and_told(backend, new_service, model, snapshot):
    service = await new_service(execution_backend=backend, models=[model("a"), model("b")])
    made = snapshot({"a": 0.8, "b": 0.7}, policy="default/service")
    known = made.arms["a"].signals["quality"]
    arms = {}
    for name, price in (("a", 0.1), ("b", 0.001)):
        cost = known.model_copy(update={"baseline": float(np.log(price)), "average": float(np.log(price))})
        arm = made.arms[name]
        arms[name] = arm.model_copy(update={"signals": {**arm.signals, "cost": cost}})
    service.strategy._policies.update(made.model_copy(update={"arms": arms}).sealed())
    assert (await service.complete("Hello?")).deployment_id == "a"
    limited = await service.complete("Hello?", constraints={"max_cost_usd": 0.01})
    assert limited.deployment_id == "b"
    assert "Deployments above the request's cost limit were left out." in limited.explanation
    wished = await service.complete("Hello?", objective="cost")
    assert wished.deployment_id == "b" and "cost 0.2" in wished.explanation


def priced(made):
    known = made.arms["a"].signals["quality"]
    return {
        signal: known.model_copy(update={"baseline": float(np.log(value)), "average": float(np.log(value))})
        for signal, value in (("cost", 0.002), ("latency", 1.5))
    }
