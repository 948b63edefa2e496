"""Choosing for calls made without a router, and seeing what was chosen."""

import asyncio
from collections import Counter

import pytest

from conduit_litellm.decisions.drafts import attempts_of_request
from conduit_litellm.decisions.facts import Facts

ASK = [{"role": "user", "content": "What is 17 * 23?"}]


@pytest.fixture
def pool(deployment):
    return [deployment("a"), deployment("b")]


async def test_a_choice_is_noted_with_its_outcome(new_strategy, pool, snapshot, events):
    strategy = new_strategy()
    strategy._policies.update(snapshot({"a": 0.1, "b": 0.9}))
    request = {"metadata": {"mine": 1}}
    chosen = strategy.choose("chat", pool, ASK, request)
    assert chosen["model_info"]["id"] == "b" and request["metadata"]["mine"] == 1
    decision = request["metadata"]["conduit_decision_id"]
    strategy.record_outcome(decision, Facts("success", cost_usd=0.25, latency_s=1.5, input_tokens=3), "mine")
    strategy.record_outcome(decision, Facts("error"), "mine")
    strategy.record_outcome("nobody's", Facts("error"), "mine")
    selection, outcome = await events(strategy, "selection"), await events(strategy, "outcome")
    assert [one.decision_id for one in selection] == [decision] and selection[0].propensity == 1.0
    assert [(one.decision_id, one.status, one.cost_usd, one.source) for one in outcome] == [
        (decision, "success", 0.25, "mine")
    ]


async def test_nothing_learned_yet_spreads_the_calls(new_strategy, pool, events):
    strategy = new_strategy()
    chosen = Counter(strategy.choose("chat", pool, ASK)["model_info"]["id"] for _ in range(60))
    assert set(chosen) == {"a", "b"}
    assert {one.fallback for one in await events(strategy, "selection")} == {"no_snapshot"}


async def test_whoever_makes_a_request_can_see_its_selections(new_strategy, new_router, deployment):
    strategy = new_strategy()
    failing = deployment("bad", mock_response="litellm.InternalServerError")
    router = new_router(
        strategy,
        [failing, deployment("good", group="spare")],
        num_retries=1,
        retry_after=0,
        disable_cooldowns=True,
        fallbacks=[{"chat": ["spare"]}],
    )
    for _ in range(3):
        seen = []
        token = attempts_of_request.set(seen)
        try:
            response = await asyncio.create_task(router.acompletion(model="chat", messages=ASK))
        finally:
            attempts_of_request.reset(token)
        # The first attempt, its retry and the fallback.
        assert [one.arms[one.chosen] for one in seen] == ["bad", "bad", "good"]
        assert response._hidden_params["model_id"] == "good"
        assert seen[-1].decision_id == strategy.decision_id(response)
        assert len({one.decision_id for one in seen}) == 3
    assert attempts_of_request.get() is None
