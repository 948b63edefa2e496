import math

import litellm
import numpy as np
import pytest

from conduit_demo.models import MODELS, Model, list_price
from conduit_demo.world import GROUP, MAX_ATTEMPTS, SYSTEM_PROMPT, SimulatedWorld
from conduit_schemas import ConfigurationError


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    return SimulatedWorld(requests=6000, seed=11)


def test_the_same_seed_gives_the_same_world_and_another_one_another() -> None:
    one, same, other = SimulatedWorld(50, 1), SimulatedWorld(50, 1), SimulatedWorld(50, 2)
    assert one.texts == same.texts
    assert [one.reply(row, 2, 0) for row in range(50)] == [same.reply(row, 2, 0) for row in range(50)]
    assert set(one.texts).isdisjoint(other.texts)
    # A longer run starts with the very same requests.
    assert SimulatedWorld(20, 1).texts == one.texts[:20]


def test_mean_quality_is_the_published_score(world: SimulatedWorld) -> None:
    tasks = np.array([prompt.task for prompt in world.prompts])
    for task in MODELS[0].ability:
        seen = world.table.quality[tasks == task]
        for column, model in enumerate(MODELS):
            # About 1,000 prompts of each kind: three standard errors of a share.
            assert seen[:, column].mean() == pytest.approx(model.ability[task], abs=3.0 * 0.5 / math.sqrt(len(seen)))


def test_hard_requests_are_hard_for_every_model(world: SimulatedWorld) -> None:
    tasks = np.array([prompt.task for prompt in world.prompts])
    quality = world.table.quality[tasks == "maths"]
    assert np.corrcoef(quality[:, 0], quality[:, 1])[0, 1] > 0.2


def test_the_table_holds_what_the_server_answers(world: SimulatedWorld) -> None:
    table = world.table
    for row in range(300):
        for column, model in enumerate(MODELS):
            failures = int(table.failures[row, column])
            replies = [world.reply(row, column, attempt) for attempt in range(failures + 1)]
            assert [reply.status == 200 for reply in replies] == [False] * failures + [True]
            assert {reply.status for reply in replies[:-1]} <= {429, 500}
            final = replies[-1]
            price_in, price_out = list_price(model)
            assert table.cost_usd[row, column] == pytest.approx(
                price_in * final.input_tokens + price_out * final.output_tokens, rel=1e-12
            )
            assert table.latency_s[row, column] == final.latency_s
            assert table.lost_s[row, column] == pytest.approx(sum(reply.latency_s for reply in replies[:-1]))
            assert table.quality[row, column] == world.grade(row, final.text)
            assert world.reply(row, column, failures + 5) == final


def test_two_calls_in_a_hundred_fail(world: SimulatedWorld) -> None:
    failures = world.table.failures
    assert (failures > 0).mean() == pytest.approx(0.02, abs=0.004)
    assert failures.max() <= MAX_ATTEMPTS
    statuses = [world.reply(*place, 0).status for place in np.argwhere(failures > 0).tolist()]
    assert statuses.count(429) / len(statuses) == pytest.approx(0.3, abs=0.08)


def test_talkative_models_say_more_and_fast_ones_answer_sooner(world: SimulatedWorld) -> None:
    latency = dict(zip(world.models, np.median(world.table.latency_s, axis=0), strict=True))
    assert latency["llama-3.1-8b"] < latency["gpt-4o-mini"] < latency["gpt-4.1"] < latency["claude-3.5-sonnet"]
    output = [np.mean([world.reply(row, column, 9).output_tokens for row in range(2000)]) for column in (0, 1)]
    assert output[0] / output[1] == pytest.approx(95.9 / 71.9, rel=0.05)


def test_input_tokens_count_the_whole_conversation(world: SimulatedWorld) -> None:
    characters = len(SYSTEM_PROMPT) + len(world.texts[0])
    assert world.reply(0, 0, 9).input_tokens == math.ceil(characters / 4.0)


def test_prices_are_those_litellm_ships() -> None:
    entry = litellm.model_cost["gpt-4.1-2025-04-14"]
    assert list_price(MODELS[1]) == (entry["input_cost_per_token"], entry["output_cost_per_token"])
    gone = Model("gone", "no-such-model", {}, 1.0, 1.0, 1.0)
    with pytest.raises(ConfigurationError, match=r"no entry 'no-such-model'"):
        list_price(gone)


def test_deployments_name_address_and_price(world: SimulatedWorld) -> None:
    entries = world.deployments("http://127.0.0.1:1")
    assert [entry["model_info"]["id"] for entry in entries] == list(world.models)
    assert {entry["model_name"] for entry in entries} == {GROUP}
    assert [entry["litellm_params"]["api_base"] for entry in entries] == [
        f"http://127.0.0.1:1/{column}/v1" for column in range(6)
    ]
    assert entries[0]["litellm_params"]["output_cost_per_token"] == 1.5e-5
