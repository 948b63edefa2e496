import subprocess
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from conduit_demo import metrics
from conduit_demo.replay import ReplayedWorld
from conduit_demo.traffic import (
    FinishedRequest,
    ServerFailedError,
    Traffic,
    model_server,
    new_router,
    take_calls,
    time_selections,
)
from conduit_demo.world import SYSTEM_PROMPT, SimulatedWorld

SPEED = 200.0


@pytest.mark.process
async def test_billed_cost_and_graded_quality_are_those_of_the_table() -> None:
    world = SimulatedWorld(120, 5)
    answers: list[FinishedRequest] = []
    async with model_server(None, 120, 5, SPEED) as url:
        router = new_router(world, url, SPEED)
        await Traffic(world, router, concurrency=8).run(answers.append)
        calls = await take_calls(url)
        assert await take_calls(url) == {}
    served = metrics.replayed(world.table, calls)
    assert sorted(answer.row for answer in answers) == list(range(120))
    for answer in answers:
        assert answer.model == world.models[served.chosen[answer.row]]
        assert answer.quality == served.quality[answer.row]
        assert answer.cost_usd == pytest.approx(served.cost_usd[answer.row], rel=1e-9)


async def test_selections_are_timed_without_a_call() -> None:
    world = SimulatedWorld(7, 1)
    times_us = await time_selections(new_router(world, "http://127.0.0.1:1", SPEED), world, count=20)
    assert len(times_us) == 20
    assert min(times_us) > 0.0


@pytest.mark.process
async def test_recorded_bills_are_what_litellm_bills(recorded: Path) -> None:
    world = ReplayedWorld(recorded, 40, 5)
    answers: list[FinishedRequest] = []
    async with model_server(recorded, 40, 5, SPEED) as url:
        await Traffic(world, new_router(world, url, SPEED), concurrency=8).run(answers.append)
        served = metrics.replayed(world.table, await take_calls(url))
    assert served.error.sum() == 0
    for answer in answers:
        assert answer.cost_usd == served.cost_usd[answer.row]
        assert answer.quality == served.quality[answer.row]


@pytest.mark.process
async def test_failing_models_answer_with_real_status_codes_and_then_succeed() -> None:
    world = SimulatedWorld(400, 6)
    failing = [(row, column) for row in range(400) for column in range(6) if world.table.failures[row, column] == 1]
    statuses: Counter[int] = Counter()
    async with model_server(None, 400, 6, SPEED) as url, aiohttp.ClientSession() as session:
        for row, column in failing:
            body = {
                "messages": [
                    {"role": "system", "content": SYSTEM_PROMPT},
                    {"role": "user", "content": world.texts[row]},
                ]
            }
            for expected in ("failure", "answer"):
                async with session.post(f"{url}/{column}/v1/chat/completions", json=body) as response:
                    told = await response.json()
                    statuses[response.status] += 1
                    if expected == "failure":
                        assert told["error"]["code"] == str(response.status)
                    else:
                        assert (
                            world.grade(row, told["choices"][0]["message"]["content"])
                            == world.table.quality[row, column]
                        )
        unknown = {"messages": [{"role": "user", "content": "a message nobody prepared"}]}
        async with session.post(f"{url}/0/v1/chat/completions", json=unknown) as response:
            assert response.status == 404
    assert statuses[200] == len(failing) == statuses[429] + statuses[500]
    assert statuses[429] > 0
    assert statuses[500] > 0


@pytest.mark.process
async def test_feedback_comes_late_for_a_part_of_the_answers_and_once() -> None:
    world = SimulatedWorld(250, 7)
    done: list[int] = []
    reported: dict[int, int] = {}

    async def feedback(answer: FinishedRequest) -> None:
        assert answer.row not in reported
        assert answer.quality == world.grade(answer.row, answer.response.choices[0].message.content)
        reported[answer.row] = len(done)

    async with model_server(None, 250, 7, 1000.0) as url:
        traffic = Traffic(world, new_router(world, url, 1000.0), concurrency=4, feedback_delay=(50, 100), seed=1)
        await traffic.run(lambda answer: done.append(answer.row), feedback)
    early = [row for row in range(150) if row in reported]
    assert len(early) / 150 == pytest.approx(0.5, abs=0.12)
    # Up to `concurrency` requests are under way, so so many fewer may be done than were sent.
    assert all(reported[row] >= row + 50 - 4 for row in reported)
    assert not [row for row in reported if row > 210]


async def test_an_unserved_request_is_an_answer_without_quality() -> None:
    world = SimulatedWorld(3, 1)
    answers: list[FinishedRequest] = []
    router = new_router(world, "http://127.0.0.1:1", SPEED)
    reports: list[FinishedRequest] = []

    async def feedback(answer: FinishedRequest) -> None:
        reports.append(answer)

    await Traffic(world, router, concurrency=2, feedback_share=1.0, feedback_delay=(1, 1)).run(answers.append, feedback)
    assert [(answer.model, answer.quality, answer.cost_usd) for answer in answers] == [(None, 0.0, 0.0)] * 3
    assert reports == []


@pytest.mark.process
async def test_a_server_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServerFailedError, match="exit code 1"):
        async with model_server(tmp_path / "nowhere", 10, 1, SPEED):
            pytest.fail("there is no data to serve")


@pytest.mark.process
def test_the_server_ends_with_its_parent() -> None:
    arguments = ["--requests", "5", "--seed", "1", "--speed", "10"]
    server = subprocess.Popen(
        [sys.executable, "-m", "conduit_demo.server", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server.stdout:
        assert b"http://127.0.0.1:" in server.stdout.readline()
        server.stdin.close()
        assert server.wait(240) == 0
