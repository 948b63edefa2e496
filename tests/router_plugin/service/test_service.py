"""The service as its users see it, with each backend."""

import asyncio
from collections import Counter
from typing import Literal

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from provider_server import INPUT_TOKENS, OUTPUT_TOKENS
from pydantic import BaseModel, Field

from conduit_litellm import ConfigurationError, create_service
from conduit_litellm.service import InvalidResultError, ModelUnavailableError, RequestRefusedError
from conduit_policy import Objective
from conduit_schemas import Budget, RoutingGoal

PRICES = {"input_cost_per_token": 1e-5, "output_cost_per_token": 2e-5}
COST = INPUT_TOKENS * 1e-5 + OUTPUT_TOKENS * 2e-5
POLICY = "default/service"


class City(BaseModel):
    name: str
    people: int = Field(ge=0)


async def validation(events, service, count):
    """Feedback from the service itself; the strategy's answer checks may add their own."""
    for _ in range(200):
        told = await events(service.strategy, "feedback")
        found = [one for one in told if one.source == "validation"]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{told} instead of {count}")


async def test_an_answer_comes_with_what_it_took(backend, new_service, model, events):
    service = await new_service(execution_backend=backend, models=[model("a", **PRICES), model("b", **PRICES)])
    answer = await service.complete("Hello?", user_id="ann")
    assert answer.data == "hello" and answer.model == "openai/gpt-4.1" and answer.deployment_id in {"a", "b"}
    assert answer.cost_usd == pytest.approx(COST) and answer.total_tokens == INPUT_TOKENS + OUTPUT_TOKENS
    assert 0.0 < answer.latency_s <= answer.elapsed_s and answer.attempts == 1 and not answer.repaired
    assert "Nothing had been learned" in answer.explanation
    (outcome,) = await events.outcomes(service.strategy, 1)
    assert (outcome.policy, outcome.decision_id, outcome.status) == (POLICY, answer.decision_id, "success")
    assert outcome.cost_usd == pytest.approx(COST) and outcome.output_tokens == OUTPUT_TOKENS
    assert outcome.source == backend


async def test_what_was_learned_decides_and_is_explained(backend, new_service, model, snapshot):
    service = await new_service(execution_backend=backend, models=[model("a"), model("b")])
    service.strategy._policies.update(snapshot({"a": 0.2, "b": 0.9}, policy=POLICY))
    answers = [await service.complete("Hello?") for _ in range(5)]
    assert {answer.deployment_id for answer in answers} == {"b"}
    told = answers[0].explanation
    assert "openai/gpt-4.1 (b) looked best of 2 and was chosen with a probability of 100 %." in told
    assert "Predicted: quality 0.90, success 1.00." in told and "cost 0.05" in told


async def test_a_prompt_comes_after_the_messages(backend, new_service, model, providers):
    service = await new_service(execution_backend=backend, models=[model("a")])
    so_far = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One?"}]},
        {"role": "assistant", "content": "1"},
    ]
    await service.complete("Two?", messages=so_far, temperature=0.5, stop="x")
    ((_, _, body),) = providers.requests["openai-a"]
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][-1]["content"] == "Two?" and body["temperature"] == 0.5
    assert body["stop"] in ("x", ["x"])


async def test_each_attempt_is_at_another_model(backend, new_service, model, providers):
    for name in ("a", "b"):
        providers.script[f"openai-{name}"] = [500] * 20
    service = await new_service(execution_backend=backend, models=[model("a"), model("b"), model("c")], retries=2)
    answers = [await service.complete("Hello?") for _ in range(10)]
    assert {answer.deployment_id for answer in answers} == {"c"}


async def test_a_wanted_type_is_validated(backend, new_service, model, providers, events):
    providers.script["openai-a"] = ['{"name": "Ulm", "people": 130000}']
    service = await new_service(execution_backend=backend, models=[model("a")], default_result_type=City)
    answer = await service.complete("A city?")
    assert answer.data == City(name="Ulm", people=130000) and not answer.repaired
    assert "Ulm" in answer.text
    ((_, _, body),) = providers.requests["openai-a"]
    assert "people" in str(body)
    (told,) = await validation(events, service, 1)
    assert (told.decision_id, told.quality, told.source, told.key) == (answer.decision_id, 1.0, "validation", "City")


async def test_an_invalid_answer_is_repaired_once_by_the_same_model(backend, new_service, model, providers, events):
    for name in ("a", "b"):
        providers.script[f"openai-{name}"] = ['{"name": "Ulm", "people": -1}', '{"name": "Ulm", "people": 1}']
    service = await new_service(
        execution_backend=backend, models=[model("a", **PRICES), model("b", **PRICES)], default_result_type=City
    )
    answer = await service.complete("A city?")
    assert answer.data == City(name="Ulm", people=1) and answer.repaired and answer.attempts == 1
    assert answer.cost_usd == pytest.approx(2 * COST) and answer.input_tokens == 2 * INPUT_TOKENS
    first, second = providers.requests[f"openai-{answer.deployment_id}"]
    assert "greater than or equal to 0" in str(second[2]) and "greater than or equal to 0" not in str(first[2])
    (told,) = await validation(events, service, 1)
    assert (told.decision_id, told.quality) == (answer.decision_id, 0.5)


async def test_what_cannot_be_repaired_is_an_error_and_bad_quality(backend, new_service, model, providers, events):
    providers.script["openai-a"] = ['{"name": "Ulm", "people": -1}', '{"name": "Ulm", "people": -2}']
    service = await new_service(execution_backend=backend, models=[model("a")], default_result_type=City)
    with pytest.raises(InvalidResultError, match="gave no valid City") as caught:
        await service.complete("A city?")
    assert caught.value.model == "openai/gpt-4.1" and "-2" in caught.value.text
    (told,) = await validation(events, service, 1)
    assert (told.decision_id, told.quality) == (caught.value.decision_ids[0], 0.0)
    (outcome,) = await events.outcomes(service.strategy, 1)
    assert outcome.status == "success"  # the model answered, after all


async def test_validation_may_be_kept_out_of_learning(new_service, model, providers, events):
    providers.script["openai-a"] = ["[1, 2]"]
    service = await new_service(models=[model("a")], default_result_type=City, learn_from_validation=False)
    assert (await service.complete("Numbers?", result_type=list[int])).data == [1, 2]
    assert (await service.complete("Text?", result_type=str)).data == "hello"
    await events.outcomes(service.strategy, 2)
    assert await events(service.strategy, "feedback") == []


async def test_a_failing_model_is_replaced(backend, new_service, model, providers, events):
    providers.script["openai-a"] = [500] * 40
    service = await new_service(execution_backend=backend, models=[model("a"), model("b")], retries=2)
    # The first choices are random, and with so many requests "a" is among them.
    answers = [await service.complete("Hello?") for _ in range(30)]
    assert {answer.deployment_id for answer in answers} == {"b"}
    after = next(answer for answer in answers if answer.attempts == 2)
    assert after.explanation.startswith("openai/gpt-4.1 (a) failed.")
    failed = [one for one in await events.outcomes(service.strategy, 31) if one.status == "error"]
    assert failed and {one.error_code for one in failed} == {"500"}


async def test_fallbacks_serve_when_all_have_failed(backend, new_service, model, providers):
    providers.script["openai-a"] = [503] * 10
    service = await new_service(execution_backend=backend, models=[model("a")], fallbacks=[model("spare")], retries=1)
    answer = await service.complete("Hello?")
    assert answer.deployment_id == "spare" and answer.attempts >= 2
    assert service.supported_models() == ["openai/gpt-4.1"]
    assert answer.policy == "default/service-fallback"


async def test_when_all_fail_the_error_says_so(backend, new_service, model, providers, events):
    providers.script["openai-a"] = [502] * 10
    service = await new_service(execution_backend=backend, models=[model("a")], retries=1)
    with pytest.raises(ModelUnavailableError, match=r"openai/gpt-4\.1: .*refused with 502") as caught:
        await service.complete("Hello?")
    assert len(caught.value.decision_ids) == len(providers.requests["openai-a"]) >= 1
    assert caught.value.__cause__ is not None and caught.value.model == "openai/gpt-4.1"


async def test_a_refused_request_is_not_repeated(backend, new_service, model, providers):
    providers.script["openai-a"] = [400] * 10
    service = await new_service(execution_backend=backend, models=[model("a")], retries=3)
    with pytest.raises(RequestRefusedError):
        await service.complete("Hello?")
    assert len(providers.requests["openai-a"]) == 1


async def test_a_model_that_takes_too_long_is_an_error(backend, new_service, model, providers, events):
    providers.delay_s = 30.0
    service = await new_service(execution_backend=backend, models=[model("a")], retries=0, timeout_s=0.2)
    with pytest.raises(TimeoutError) as caught:
        await service.complete("Hello?")
    assert type(caught.value).__name__ == "ModelTimeoutError"
    (outcome,) = await events.outcomes(service.strategy, 1)
    assert outcome.status == "error" and outcome.latency_s >= 0.2


async def test_a_cancelled_request_is_noted_as_such(backend, new_service, model, providers, events):
    providers.delay_s = 30.0
    service = await new_service(execution_backend=backend, models=[model("a")])
    task = asyncio.create_task(service.complete("Hello?"))
    while not providers.requests["openai-a"]:  # noqa: ASYNC110 - the server has no event to wait for
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (outcome,) = await events.outcomes(service.strategy, 1)
    assert outcome.status == "cancelled"


async def test_a_stream_comes_in_pieces_and_ends_in_a_completion(backend, new_service, model, providers, events):
    providers.script["openai-a"] = ["one two three"]
    service = await new_service(execution_backend=backend, models=[model("a", **PRICES)])
    async with service.stream("Count!") as stream:
        with pytest.raises(ConfigurationError, match="the stream has not ended"):
            _ = stream.completion
        pieces = [piece async for piece in stream]
    assert len(pieces) > 3 and "".join(pieces) == stream.completion.text == stream.completion.data == "one two three"
    assert stream.completion.cost_usd == pytest.approx(COST)
    (outcome,) = await events.outcomes(service.strategy, 1)
    assert (outcome.status, outcome.decision_id) == ("success", stream.completion.decision_id)
    assert outcome.cost_usd == pytest.approx(COST)


async def test_a_stream_of_a_wanted_type_is_checked_at_its_end(backend, new_service, model, providers, events):
    providers.script["openai-a"] = ['{"name": "Ulm", "people": 1}', '{"name": "Ulm"}']
    service = await new_service(execution_backend=backend, models=[model("a")], default_result_type=City)
    async with service.stream("A city?") as stream:
        assert [piece async for piece in stream]
    assert stream.completion.data == City(name="Ulm", people=1)
    with pytest.raises(InvalidResultError, match="people: Field required"):
        async with service.stream("A city?") as stream:
            assert [piece async for piece in stream]
    qualities = [one.quality for one in await validation(events, service, 2)]
    assert qualities == [1.0, 0.0]


async def test_a_stream_that_is_left_is_noted_as_such(backend, new_service, model, providers, events):
    providers.script["openai-a"] = ["word " * 50]
    service = await new_service(execution_backend=backend, models=[model("a")])
    async with service.stream("Count!") as stream:
        async for _ in stream:
            break
    (outcome,) = await events.outcomes(service.strategy, 1)
    assert outcome.status == "cancelled"


async def test_a_stream_that_breaks_is_an_error(backend, new_service, model, providers, events):
    providers.script["openai-a"] = ["word!!!!"]
    service = await new_service(execution_backend=backend, models=[model("a")], retries=0)
    with pytest.raises(ModelUnavailableError):
        async with service.stream("Count!") as stream:
            assert [piece async for piece in stream]
    (outcome,) = await events.outcomes(service.strategy, 1)
    assert outcome.status == "error"


async def test_a_stream_that_cannot_begin_goes_to_another_model(backend, new_service, model, providers):
    providers.script["openai-a"] = [500] * 10
    service = await new_service(execution_backend=backend, models=[model("a"), model("b")])
    for _ in range(4):
        async with service.stream("Hello?") as stream:
            assert "".join([piece async for piece in stream]) == "hello"
        assert stream.completion.deployment_id == "b"


async def test_feedback_by_completion_or_id(new_service, model, events):
    service = await new_service(models=[model("a")])
    answer = await service.complete("Hello?")
    assert await service.feedback(answer, 0.25) == answer.decision_id
    assert await service.feedback(answer.decision_id, 0.75, source="judge", key="tone") == answer.decision_id
    assert await service.feedback("made-elsewhere", 1.0) == "made-elsewhere"
    told = await events.of_kind(service.strategy, "feedback", 3)
    assert [(one.quality, one.source, one.key, one.policy) for one in told] == [
        (0.25, "app", "", POLICY),
        (0.75, "judge", "tone", POLICY),
        (1.0, "app", "", POLICY),
    ]
    with pytest.raises(ValueError, match=r"quality=1\.5"):
        await service.feedback(answer, 1.5)
    with pytest.raises(ConfigurationError, match="made no decision"):
        await service.feedback("", 0.5)


async def test_the_service_learns_which_model_is_good(new_service, model, until):
    service = await new_service(models=[model("good"), model("bad")], host_learner=True)
    for _ in range(80):
        answer = await service.complete("Hello?")
        await service.feedback(answer, 0.9 if answer.deployment_id == "good" else 0.2)
    learned = service.strategy._policies
    await until(lambda: (beliefs := learned.get(POLICY)) and beliefs.snapshot.feedbacks >= 80, 30.0)
    served = Counter([(await service.complete("Hello?")).deployment_id for _ in range(40)])
    assert served["good"] >= 34


class Accounting(CustomLogger):
    """Records the entries that LiteLLM's callbacks report."""

    def __init__(self):
        super().__init__()
        self.entries = []

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        record = kwargs["standard_logging_object"]
        self.entries.append((record["response_cost"], (end_time - start_time).total_seconds(), record["total_tokens"]))


@pytest.mark.parametrize("streamed", [False, True])
async def test_cost_and_latency_are_those_of_litellms_own_books(streamed, new_service, model, providers, until):
    books = Accounting()
    litellm.callbacks.append(books)
    providers.delay_s = 1.0
    service = await new_service(models=[model("a")])
    if streamed:
        async with service.stream("Hello?") as stream:
            assert [piece async for piece in stream]
        answer = stream.completion
    else:
        answer = await service.complete("Hello?")
    await until(lambda: books.entries)
    ((cost, seconds, tokens),) = books.entries
    assert answer.cost_usd == pytest.approx(cost, rel=0.05) and answer.total_tokens == tokens
    assert answer.latency_s == pytest.approx(seconds, rel=0.05)


async def test_pydantic_ai_costs_what_litellm_charges(new_service, model):
    name = {"model": "openai/gpt-4.1"}
    costs = [
        (await (await new_service(execution_backend=one, models=[model("a") | name])).complete("Hello?")).cost_usd
        for one in ("litellm", "pydantic_ai")
    ]
    assert costs[0] == pytest.approx(costs[1]) and costs[0] > 0.0


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_one_request_wants_goes_with_it(streamed, new_service, model):
    seen = []

    class Reader(CustomLogger):
        def log_pre_api_call(self, model, messages, kwargs):
            seen.append((kwargs["litellm_params"]["metadata"], kwargs.get("user") or kwargs["optional_params"]["user"]))

    litellm.callbacks.append(Reader())
    service = await new_service(models=[model("a"), model("b")])
    wants = {
        "user_id": "ann",
        "constraints": {"max_cost_usd": 0.01},
        "objective": Objective(cost=0.5),
        "metadata": {"mine": 1},
    }
    if streamed:
        async with service.stream("Hello?", **wants) as stream:
            assert [piece async for piece in stream]
    else:
        await service.complete("Hello?", **wants)
    metadata, user = seen[0]
    assert metadata["conduit"] == {
        "max_cost_usd": 0.01,
        "objective": {"quality": 1.0, "cost": 0.5, "latency": 0.01},
    }
    assert metadata["mine"] == 1 and user == "ann"


@pytest.mark.parametrize(
    ("wants", "said"),
    [
        ({}, "give a prompt, or messages"),
        ({"prompt": "x", "objective": "fame"}, "no objective preset 'fame'"),
        (
            {"prompt": "x", "constraints": {"max_price": 1}},
            "cannot set 'max_price'; it can set objective, max_cost_usd",
        ),
        (
            {"prompt": "x", "constraints": {"budget": "3/day"}},
            "constraints and objective: a request cannot set 'budget'",
        ),
        ({"prompt": "x", "constraints": RoutingGoal(budget=Budget(usd=3.0))}, "a request cannot set 'budget'"),
        ({"prompt": "x", "constraints": {"max_cost_usd": -1}}, "max_cost_usd=-1"),
        ({"prompt": "x", "result_type": object()}, "pydantic can validate"),
    ],
)
async def test_requests_that_cannot_work(wants, said, new_service, model):
    service = await new_service(models=[model("a")])
    with pytest.raises(ConfigurationError, match=said):
        await service.complete(**wants)
    with pytest.raises(ConfigurationError, match=said):
        service.stream(**wants)


async def test_a_closed_service_says_so(backend, model, tmp_path):
    async with await create_service(
        execution_backend=backend, models=[model("a")], log_path=tmp_path, host_learner=False
    ) as service:
        await service.complete("Hello?")
    with pytest.raises(ConfigurationError, match="closed"):
        await service.complete("Hello?")
    assert service.strategy.events_waiting == 0


async def test_types_of_all_kinds(new_service, model, providers):
    service = await new_service(models=[model("a")])
    providers.script["openai-a"] = ["```json\n[1, 2]\n```", '"yes"', "42", 'Sure: {"a": 1.5} - there you are']
    assert (await service.complete("?", result_type=list[int])).data == [1, 2]
    assert (await service.complete("?", result_type=Literal["yes", "no"])).data == "yes"
    assert (await service.complete("?", result_type=int)).data == 42
    assert (await service.complete("?", result_type=dict[str, float])).data == {"a": 1.5}
