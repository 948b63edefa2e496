"""Feedback finds its decision, and the application's reports count if LiteLLM has none."""

import asyncio
import contextvars

import numpy as np
import pytest

from conduit_litellm.decisions.ledger import Decision
from conduit_litellm.events import emitter

ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def _short_delay(monkeypatch):
    monkeypatch.setattr(emitter, "APP_OUTCOME_DELAY_S", 0.3)


async def select(router):
    """Let the router select without a call, like an application that calls the provider itself."""
    if hasattr(router, "select"):
        deployment = await router.select("chat", {}, messages=ASK)
    else:
        deployment = await router.async_get_available_deployment("chat", {}, ASK)
    return deployment["model_info"]["id"]


async def test_feedback_by_position_goes_to_the_decision_of_the_running_task(strategy, new_router, events):
    router = new_router(strategy, ["a"])
    first = await router.acompletion(model="chat", messages=ASK)
    second = await router.acompletion(model="chat", messages=ASK)
    decided = await strategy.record_feedback("a", None, None, 0.25, None)
    assert decided == strategy.decision_id(second) != strategy.decision_id(first)
    (feedback,) = await events(strategy, "feedback")
    assert (feedback.decision_id, feedback.quality, feedback.policy) == (decided, 0.25, "default/chat")
    assert feedback.source == "app"


async def test_concurrent_tasks_give_feedback_on_their_own_decisions(strategy, new_router, events):
    router = new_router(strategy, ["a"])
    together = asyncio.Barrier(10)

    async def one(number):
        response = await router.acompletion(model="chat", messages=ASK)
        await together.wait()
        decided = await strategy.record_feedback(deployment_id="a", quality_score=number / 10)
        assert decided == strategy.decision_id(response)
        return decided

    decided = await asyncio.gather(*(one(number) for number in range(10)))
    found = {event.decision_id: event.quality for event in await events(strategy, "feedback")}
    assert found == {decision: number / 10 for number, decision in enumerate(decided)}


async def test_the_decision_id_of_a_response_leads_from_anywhere(strategy, new_router, events):
    router = new_router(strategy, ["a"])
    responses = [await router.acompletion(model="chat", messages=ASK) for _ in range(3)]
    ids = [strategy.decision_id(response) for response in responses]
    assert len(set(ids)) == 3
    for number in (2, 0, 1):
        call = strategy.record_feedback("a", quality_score=number / 2, decision_id=ids[number])
        assert await asyncio.create_task(call, context=contextvars.Context()) == ids[number]
    found = {event.decision_id: event.quality for event in await events(strategy, "feedback")}
    assert found == {ids[0]: 0.0, ids[1]: 0.5, ids[2]: 1.0}


async def test_without_an_id_the_newest_decision_without_feedback_is_meant(strategy, new_router):
    router = new_router(strategy, ["a"])
    ids = [strategy.decision_id(await router.acompletion(model="chat", messages=ASK)) for _ in range(3)]

    async def elsewhere(**report):
        context = contextvars.Context()
        return await asyncio.create_task(strategy.record_feedback("a", **report), context=context)

    assert await elsewhere(quality_score=0.5) == ids[2]
    assert await elsewhere(quality_score=0.5) == ids[1]
    assert await elsewhere(quality_score=0.5) == ids[0]
    assert await elsewhere(quality_score=0.5) is None


async def test_a_response_of_somebody_else_has_no_decision(strategy, new_router):
    router = new_router(strategy, ["a"])
    await router.acompletion(model="chat", messages=ASK)
    assert strategy.decision_id() is not None
    assert strategy.decision_id(object()) is None


async def test_feedback_that_fits_no_decision_is_counted_and_said_once(strategy, new_router, caplog):
    for _ in range(2):
        assert await strategy.record_feedback("nobody", quality_score=0.5) is None
        assert await strategy.record_feedback("nobody", quality_score=0.5, decision_id="d9") is None
    assert strategy.counters["feedback_without_decision"] == 4
    assert sum("matches no decision" in record.message for record in caplog.records) == 1


async def test_an_id_of_another_process_is_believed_for_a_known_deployment(strategy, new_router, events):
    await new_router(strategy, ["a"]).acompletion(model="chat", messages=ASK)
    assert await strategy.record_feedback("a", quality_score=0.5, decision_id="elsewhere-1") == "elsewhere-1"
    (feedback,) = await events(strategy, "feedback")
    assert (feedback.decision_id, feedback.policy) == ("elsewhere-1", "default/chat")


async def test_what_the_application_saw_counts_when_litellm_saw_nothing(strategy, new_router, events):
    router = new_router(strategy, ["a"])
    await select(router)
    await strategy.record_feedback("a", cost=0.002, latency=1.5, quality_score=None, error=None)
    await select(router)
    await strategy.record_feedback("a", 0.001, 0.5, 0.0, "ProviderError")
    await select(router)
    await strategy.record_feedback("a", latency=0.1, error=TimeoutError())
    await select(router)
    await strategy.record_feedback("a", latency=0.1, error=asyncio.CancelledError())
    await select(router)
    await strategy.record_feedback("a", error=True)
    outcomes = await events.outcomes(strategy, 5)
    assert [(event.status, event.error_class, event.cost_usd, event.latency_s) for event in outcomes] == [
        ("success", None, 0.002, 1.5),
        ("error", "ProviderError", 0.001, 0.5),
        ("error", "TimeoutError", None, 0.1),
        ("cancelled", None, None, 0.1),
        ("error", None, None, None),
    ]
    assert {event.source for event in outcomes} == {"app"}
    assert len({event.decision_id for event in outcomes}) == 5
    assert len(await events(strategy, "feedback")) == 1


async def test_litellms_own_outcome_wins_over_the_applications(strategy, new_router, events):
    router = new_router(strategy, ["a"])
    await router.acompletion(model="chat", messages=ASK)
    # LiteLLM's callback has not run yet, because the event loop had no chance to run it.
    await strategy.record_feedback("a", cost=99.0, latency=99.0, quality_score=1.0, error=None)
    await asyncio.sleep(0.6)
    (outcome,) = await events(strategy, "outcome")
    assert outcome.source == "litellm" and outcome.latency_s < 99.0


async def test_a_thumb_up_and_a_numpy_number_are_numbers(strategy, new_router, events):
    router = new_router(strategy, ["a"])
    for quality in (True, np.float32(0.25)):
        await select(router)
        await strategy.record_feedback("a", quality_score=quality)
    assert [event.quality for event in await events(strategy, "feedback")] == [1.0, 0.25]


@pytest.mark.parametrize(
    "report",
    [
        {"quality_score": 1.01},
        {"quality_score": -0.1},
        {"quality_score": float("nan")},
        {"cost": -1.0},
        {"cost": float("inf")},
        {"latency": -0.5},
        {"latency": "fast"},
    ],
)
async def test_a_number_out_of_range_is_refused(strategy, new_router, report):
    await select(new_router(strategy, ["a"]))
    with pytest.raises(ValueError, match=f"{next(iter(report))}=.* must be a number.* between 0 and"):
        await strategy.record_feedback("a", **report)
    assert strategy.counters["feedbacks"] == 0


async def test_a_rating_by_id_finds_its_decision_and_the_answer_of_a_request_that_failed_first(
    strategy, new_router, served, events
):
    router = new_router(strategy, [served("a")])
    response = await router.acompletion(model="chat", messages=ASK)
    (outcome,) = await events.outcomes(strategy, 1)
    call = response._hidden_params["litellm_call_id"]
    assert strategy.rate(0.5, call_id=call, source="judge", key="tone") == outcome.decision_id
    failed = Decision("failed", "default/chat", "b", 0.0, call=call, failure=("Timeout", "408"))
    strategy._ledger.add(failed)
    assert strategy.rate(1.0, decision_id="failed") == outcome.decision_id
    assert strategy.rate(1.0, decision_id="elsewhere") is None and strategy.rate(1.0) is None
    assert strategy.rate(1.0, decision_id="elsewhere", policy="default/chat") == "elsewhere"
    with pytest.raises(ValueError, match="quality=2 must be a number between 0 and 1"):
        strategy.rate(2, decision_id=outcome.decision_id)
    given = await events.of_kind(strategy, "feedback", 3)
    assert [(one.decision_id, one.quality, one.source, one.key) for one in given] == [
        (outcome.decision_id, 0.5, "judge", "tone"),
        (outcome.decision_id, 1.0, "app", ""),
        ("elsewhere", 1.0, "app", ""),
    ]
    assert strategy.counters["feedbacks"] == 3 and strategy.counters["feedback_without_decision"] == 2
