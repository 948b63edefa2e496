"""Outcomes as LiteLLM's callbacks report them: real HTTP calls, and one outcome per decision."""

import asyncio
from datetime import datetime, timedelta

import litellm
import pytest
from litellm.router import Router

from conduit_litellm.litellm_compat.callbacks import not_before
from conduit_litellm.litellm_compat.stamps import read_stamp

ASK = [{"role": "user", "content": "hello"}]


async def select(router, request_kwargs):
    """Select a deployment without calling it, as the first step of LiteLLM's calls does."""
    if hasattr(router, "select"):
        return await router.select("chat", request_kwargs, messages=ASK)
    return await router.async_get_available_deployment(model="chat", request_kwargs=request_kwargs, messages=ASK)


async def test_a_success_tells_cost_latency_and_tokens(strategy, new_router, served, events):
    router = new_router(strategy, [served("a", "pause")])
    response = await router.acompletion(model="chat", messages=ASK)
    (outcome,) = await events.outcomes(strategy, 1)
    assert outcome.status == "success" and outcome.source == "litellm"
    assert outcome.decision_id == strategy.decision_id(response)
    assert outcome.cost_usd == pytest.approx(100 * 0.15e-6 + 20 * 0.6e-6)  # gpt-4o-mini, USD per token
    assert outcome.latency_s >= 0.2 and outcome.ttft_s is None
    assert (outcome.input_tokens, outcome.output_tokens) == (100, 20)
    assert outcome.error_class is None and outcome.error_code is None


async def test_a_synchronous_success_and_a_synchronous_error_are_told(strategy, new_router, served, events):
    router = new_router(strategy, [served("a"), served("b", "status-500", group="broken")])
    response = await asyncio.to_thread(router.completion, model="chat", messages=ASK)
    assert response.choices[0].message.content == "hello"
    assert strategy.decision_id(response) is not None
    with pytest.raises(litellm.InternalServerError):
        await asyncio.to_thread(router.completion, model="broken", messages=ASK)
    outcomes = {event.policy: event for event in await events.outcomes(strategy, 2)}
    assert outcomes["default/chat"].status == "success"
    assert outcomes["default/chat"].decision_id == strategy.decision_id(response)
    assert outcomes["default/broken"].status == "error"
    assert outcomes["default/broken"].error_class == "InternalServerError"
    assert outcomes["default/broken"].error_code == "500"


async def test_every_retry_is_a_decision_of_its_own(strategy, new_router, served, server, events):
    router = new_router(strategy, [served("a", "status-500")], num_retries=2, retry_after=0)
    with pytest.raises(litellm.InternalServerError):
        await router.acompletion(model="chat", messages=ASK)
    assert len(server.calls) == 3
    outcomes = await events.outcomes(strategy, 3)
    selections = await events(strategy, "selection")
    assert len(selections) == len(outcomes) == 3
    assert {event.decision_id for event in selections} == {event.decision_id for event in outcomes}
    assert len({event.decision_id for event in selections}) == 3
    assert len({event.request_id for event in selections}) == 1
    assert {event.status for event in outcomes} == {"error"}
    assert all(event.latency_s > 0.0 for event in outcomes)


async def test_a_fallback_to_another_group_is_told_apart_from_the_failure(strategy, new_router, served, events):
    router = new_router(
        strategy,
        [served("a", "status-429"), served("b", "ok", group="spare")],
        fallbacks=[{"chat": ["spare"]}],
    )
    response = await router.acompletion(model="chat", messages=ASK)
    assert response._hidden_params["model_id"] == "b"
    outcomes = {event.policy: event for event in await events.outcomes(strategy, 2)}
    assert outcomes["default/chat"].error_class == "RateLimitError"
    assert outcomes["default/chat"].error_code == "429"
    assert outcomes["default/spare"].status == "success"
    assert strategy.decision_id(response) == outcomes["default/spare"].decision_id


async def test_a_fallback_to_an_unmanaged_group_does_not_repair_the_failure(new_strategy, new_router, served, events):
    strategy = new_strategy(model_groups=["chat"])
    router = new_router(
        strategy,
        [served("a", "status-500"), served("b", "ok", group="spare")],
        fallbacks=[{"chat": ["spare"]}],
    )
    response = await router.acompletion(model="chat", messages=ASK)
    assert response._hidden_params["model_id"] == "b"
    await asyncio.sleep(0.3)
    (outcome,) = await events.outcomes(strategy, 1)
    assert outcome.status == "error" and outcome.policy == "default/chat"


async def test_concurrent_calls_that_share_a_metadata_dict_keep_their_own_decisions(
    strategy, new_router, served, events
):
    router = new_router(strategy, [served("a", "tokens-11"), served("b", "tokens-22")])
    shared = {"team": "red"}
    calls = [router.acompletion(model="chat", messages=ASK, metadata=shared) for _ in range(20)]
    responses = await asyncio.gather(*calls)
    assert shared["team"] == "red" and read_stamp({"metadata": shared}) is None
    ids = [strategy.decision_id(response) for response in responses]
    assert len(set(ids)) == 20
    chosen = {event.decision_id: event.arm for event in await events(strategy, "selection")}
    assert [chosen[decision] for decision in ids] == [response._hidden_params["model_id"] for response in responses]
    outcomes = await events.outcomes(strategy, 20)
    assert {event.decision_id for event in outcomes} == set(ids)
    for event in outcomes:
        assert event.output_tokens == {"a": 11, "b": 22}[chosen[event.decision_id]]


async def test_a_stream_tells_the_first_token_and_the_last(strategy, new_router, served, events):
    router = new_router(strategy, [served("a")])
    stream = await router.acompletion(model="chat", messages=ASK, stream=True)
    decision = strategy.decision_id(stream)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "word " * 4
    (outcome,) = await events.outcomes(strategy, 1)
    assert outcome.status == "success" and outcome.decision_id == decision
    assert 0.1 <= outcome.ttft_s < outcome.latency_s
    assert outcome.latency_s >= 0.4 and outcome.output_tokens > 0 and outcome.cost_usd > 0.0


async def test_a_stream_that_breaks_is_an_error(strategy, new_router, served, events):
    router = new_router(strategy, [served("a", "drop")])
    stream = await router.acompletion(model="chat", messages=ASK, stream=True)
    with pytest.raises(Exception, match=r".+"):
        async for _ in stream:
            pass
    outcomes = await events.outcomes(strategy, 1)
    assert [event.status for event in outcomes] == ["error"]
    assert outcomes[0].error_class


async def test_litellms_own_timeout_is_an_error(strategy, new_router, served, events):
    router = new_router(strategy, [served("a", "slow")])
    with pytest.raises(litellm.Timeout):
        await router.acompletion(model="chat", messages=ASK, timeout=0.3)
    (outcome,) = await events.outcomes(strategy, 1)
    assert outcome.status == "error" and outcome.error_class == "Timeout" and outcome.error_code == "408"


async def test_a_cached_answer_is_marked_as_such(strategy, new_router, events):
    # What LiteLLM's callback receives when the response cache answers. The cache itself needs LiteLLM's proxy.
    router = new_router(strategy)
    kwargs = {"metadata": {}}
    await select(router, kwargs)
    record = {"cache_hit": True, "response_cost": 0.0, "prompt_tokens": 100, "status": "success"}
    told = {"litellm_params": kwargs, "standard_logging_object": record, "cache_hit": True}
    await strategy._callbacks.async_log_success_event(told, None, datetime(2026, 1, 1), datetime(2026, 1, 2))
    (outcome,) = await events.outcomes(strategy, 1)
    assert outcome.status == "cache_hit" and outcome.cost_usd is None and outcome.latency_s is None


async def test_a_model_without_a_price_is_not_taken_for_free(strategy, events):
    params = {"model": "openai/nobody-knows-its-price", "api_key": "unused"}
    router = Router(model_list=[{"model_name": "chat", "litellm_params": params}])
    strategy.install(router)
    await router.acompletion(model="chat", messages=[{"role": "user", "content": "hi"}], mock_response="hello")
    (outcome,) = await events.outcomes(strategy, 1)
    assert outcome.status == "success" and outcome.cost_usd is None


async def test_a_client_that_left_in_the_middle_is_marked_as_such(strategy, new_router, events):
    # What LiteLLM's proxy reports when the caller of a stream disconnects.
    router = new_router(strategy)
    kwargs = {"metadata": {}}
    await select(router, kwargs)
    record = {"error_information": {"error_class": "ClientDisconnected"}, "completion_tokens": 3, "response_cost": 0.1}
    told = {"litellm_params": kwargs, "standard_logging_object": record}
    await strategy._callbacks.async_log_success_event(
        told, None, datetime(2026, 1, 1, 0, 0, 0), datetime(2026, 1, 1, 0, 0, 2)
    )
    (outcome,) = await events.outcomes(strategy, 1)
    assert (outcome.status, outcome.cost_usd, outcome.latency_s) == ("client_disconnect", 0.1, 2.0)
    assert outcome.output_tokens == 3


async def test_an_embedding_is_learned_from_like_a_chat(strategy, new_router, deployment, events):
    entry = deployment("a", model="openai/text-embedding-3-small", mock_response=[0.1, 0.2])
    router = new_router(strategy, [entry])
    await router.aembedding(model="chat", input=["some text"])
    (outcome,) = await events.outcomes(strategy, 1)
    (selection,) = await events(strategy, "selection")
    assert outcome.decision_id == selection.decision_id and outcome.status == "success"


async def test_the_responses_and_messages_interfaces_are_learned_from_too(strategy, new_router, served, events):
    claude = served("b", group="claude", model="anthropic/claude-sonnet-4-5")
    router = new_router(strategy, [served("a"), claude])
    answer = await router.aresponses(model="chat", input="hello")
    message = await router.aanthropic_messages(model="claude", messages=ASK, max_tokens=10)
    outcomes = {event.policy: event for event in await events.outcomes(strategy, 2)}
    for response, policy in ((answer, "default/chat"), (message, "default/claude")):
        assert outcomes[policy].status == "success"
        assert (outcomes[policy].input_tokens, outcomes[policy].output_tokens) == (10, 5)
        assert outcomes[policy].decision_id == strategy.decision_id(response)


async def test_streams_of_the_responses_and_messages_interfaces_are_learned_from_at_their_end(
    strategy, new_router, served, events
):
    claude = served("b", group="claude", model="anthropic/claude-sonnet-4-5")
    router = new_router(strategy, [served("a"), claude])
    answer = await router.aresponses(model="chat", input="hello", stream=True)
    assert [event.type async for event in answer][-1] == "response.completed"
    message = await router.aanthropic_messages(model="claude", messages=ASK, max_tokens=10, stream=True)
    assert b"message_stop" in b"".join([part async for part in message])
    outcomes = {event.policy: event for event in await events.outcomes(strategy, 2)}
    selections = {event.policy: event for event in await events(strategy, "selection")}
    assert len(outcomes) == len(selections) == 2
    for policy, selection in selections.items():
        outcome = outcomes[policy]
        assert (outcome.decision_id, outcome.status) == (selection.decision_id, "success")
        assert (outcome.input_tokens, outcome.output_tokens) == (10, 5) and outcome.cost_usd > 0.0
        assert 0.0 < outcome.ttft_s <= outcome.latency_s and outcome.latency_s >= 0.2


async def test_two_strategies_each_hear_of_their_own_calls_only(new_strategy, new_router, served, events, tmp_path):
    one, two = new_strategy(), new_strategy(log_path=tmp_path / "other")
    for strategy in (one, two):
        await new_router(strategy, [served("a")]).acompletion(model="chat", messages=ASK)
    for strategy in (one, two):
        (outcome,) = await events.outcomes(strategy, 1)
        (selection,) = await events(strategy, "selection")
        assert outcome.decision_id == selection.decision_id


async def test_replacing_litellms_callbacks_does_not_silence_the_outcomes(strategy, new_router, served, events):
    router = new_router(strategy, [served("a")])
    litellm.callbacks = []
    await router.acompletion(model="chat", messages=ASK)
    assert len(await events.outcomes(strategy, 1)) == 1


async def test_a_callback_that_cannot_be_read_disturbs_nobody(strategy, new_router, events, caplog):
    await new_router(strategy).acompletion(model="chat", messages=ASK)
    await events.outcomes(strategy, 1)
    strategy._ledger.current.has_outcome = False
    stamped = {"metadata": {"conduit_decision_id": strategy.decision_id()}}
    for _ in range(2):
        strategy._callbacks.log_success_event(
            {"litellm_params": stamped, "standard_logging_object": "not a mapping"}, None, None, None
        )
    assert strategy.counters["callback_errors"] == 2
    assert sum("could not be recorded" in record.message for record in caplog.records) == 1


class TestAttemptsAtOneRequest:
    """In the proxy, all attempts share one metadata dict. Reports may come after the next attempt has stamped it."""

    async def attempts(self, strategy, router, number):
        kwargs = {"metadata": {}, "litellm_logging_obj": object()}
        for attempt in range(number):
            if attempt:
                kwargs["metadata"]["previous_models"] = ["a"]
            await select(router, kwargs)
        return {"litellm_params": kwargs}, strategy.decision_behind(kwargs, None).attempts

    async def test_a_late_failure_belongs_to_the_attempt_that_failed(self, strategy, new_router, events):
        told, attempts = await self.attempts(strategy, new_router(strategy), 2)
        now = datetime.now()
        late = told | {"exception": TimeoutError("too late")}
        await strategy._callbacks.async_log_failure_event(late, None, now, now)
        await strategy._callbacks.async_log_failure_event(late, None, now, now)  # reported twice
        await strategy._callbacks.async_log_success_event(told, None, now, now)
        outcomes = {event.decision_id: event for event in await events.outcomes(strategy, 2)}
        assert [outcomes[one.id].status for one in attempts] == ["error", "success"]
        assert outcomes[attempts[0].id].error_class == "TimeoutError"

    async def test_who_reports_on_a_later_attempt_says_that_the_earlier_ones_failed(self, strategy, new_router, events):
        told, attempts = await self.attempts(strategy, new_router(strategy), 3)
        await strategy._callbacks.async_post_call_failure_deployment_hook(
            told["litellm_params"], TimeoutError(), "acompletion"
        )
        outcomes = {event.decision_id: event for event in await events.outcomes(strategy, 3)}
        assert [outcomes[one.id].status for one in attempts] == ["error"] * 3
        assert [outcomes[one.id].error_class for one in attempts] == [None, None, "TimeoutError"]

    def test_an_attempt_begins_when_its_deployment_was_selected(self):
        start = datetime(2026, 1, 1, 12, 0, 0)
        end = start + timedelta(seconds=10)
        selected = start + timedelta(seconds=4)
        assert not_before(start, selected.timestamp(), end) == selected
        assert not_before(start, (start - timedelta(seconds=1)).timestamp(), end) == start
        assert not_before(start, (end + timedelta(seconds=1)).timestamp(), end) == start  # a clock was set
        assert not_before(None, selected.timestamp(), end) is None
