"""The demo's application: it sends requests through a LiteLLM Router, grades the answers, and rates some later."""

import asyncio
import heapq
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp
from litellm.router import Router

from conduit_demo.world import GROUP, MAX_ATTEMPTS, SYSTEM_PROMPT, World
from conduit_litellm.litellm_compat.selecting import select_deployment
from conduit_schemas import ConduitError

__all__ = [
    "Feedback",
    "FinishedRequest",
    "ServerFailedError",
    "Traffic",
    "model_server",
    "new_router",
    "take_calls",
    "time_selections",
]


class ServerFailedError(ConduitError):
    """Raised when the demo's own model server does not start or does not answer."""


class FinishedRequest(NamedTuple):
    """What the application knows about a finished request."""

    row: int
    model: str | None
    """The model that answered; None when there was no answer."""
    quality: float
    cost_usd: float
    """As LiteLLM billed it."""
    response: Any
    """LiteLLM's response; None when there was none."""


Feedback = Callable[[FinishedRequest], Awaitable[object]]
"""Called when the application rates an answer."""


@asynccontextmanager
async def model_server(data: Path | None, requests: int, seed: int, speed: float) -> AsyncIterator[str]:
    """Run the model server in a separate process; yields its address."""
    arguments = ["--requests", str(requests), "--seed", str(seed), "--speed", str(speed)]
    if data is not None:
        arguments += ["--data", str(data)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "conduit_demo.server", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        line = await process.stdout.readline()
        if not line:
            raise ServerFailedError(f"the model server did not start: it ended with exit code {await process.wait()}")
        yield str(json.loads(line)["url"])
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10.0)
        except TimeoutError:
            process.kill()
            await process.wait()


def new_router(world: World, url: str, speed: float) -> Router:
    """Return a Router over all models with LiteLLM's defaults; cooldowns are sped up like everything else here."""
    return Router(
        model_list=[
            {**entry, "litellm_params": {**entry["litellm_params"], "max_retries": 0}}
            for entry in world.deployments(url)
        ],
        routing_strategy="simple-shuffle",
        num_retries=MAX_ATTEMPTS - 1,
        cooldown_time=5.0 / speed,
    )


@dataclass
class Traffic:
    """Sends every request of a world, in order, a bounded number at a time.

    Parameters
    ----------
    world
        The requests and how to grade their answers.
    router
        Chooses the model.
    concurrency
        Maximum number of parallel requests.
    feedback_share
        Share of answered requests that the application rates.
    feedback_delay
        A rating follows after this many further requests, uniformly distributed between the two numbers.
    seed
        Determines which requests get feedback, and when.
    """

    world: World
    router: Router
    concurrency: int
    feedback_share: float = 0.5
    feedback_delay: tuple[int, int] = (30, 300)
    seed: int = 0
    _due: list[tuple[int, int, FinishedRequest]] = field(default_factory=list, init=False)

    async def run(self, on_answer: Callable[[FinishedRequest], None], feedback: Feedback | None = None) -> None:
        """Send all requests and wait for the answers.

        Parameters
        ----------
        on_answer
            Called after each request, in the order of the answers.
        feedback
            Called with each answer that the application rates; without it, no answer is rated.
        """
        rows = iter(range(len(self.world.texts)))

        async def worker() -> None:
            for row in rows:
                if feedback is not None:
                    await self._report(row, feedback)
                answer = await self._ask(row)
                on_answer(answer)
                if feedback is not None and answer.response is not None:
                    self._plan(answer)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(worker())

    async def _ask(self, row: int) -> FinishedRequest:
        try:
            response = await self.router.acompletion(model=GROUP, messages=_messages(self.world.texts[row]))
        except Exception:  # LiteLLM raises many kinds of exceptions; to the application they all mean "no answer"
            return FinishedRequest(row, None, 0.0, 0.0, None)
        hidden = response._hidden_params
        quality = self.world.grade(row, response.choices[0].message.content or "")
        return FinishedRequest(row, hidden["model_id"], quality, float(hidden.get("response_cost") or 0.0), response)

    def _plan(self, answer: FinishedRequest) -> None:
        random = Random(f"{self.seed}/feedback/{answer.row}")
        if random.random() < self.feedback_share:
            heapq.heappush(self._due, (answer.row + random.randint(*self.feedback_delay), answer.row, answer))

    async def _report(self, row: int, feedback: Feedback) -> None:
        while self._due and self._due[0][0] <= row:
            await feedback(heapq.heappop(self._due)[2])


async def take_calls(url: str) -> dict[int, list[int]]:
    """Return the models that were called for each request, in order, and make the server forget the calls."""
    async with aiohttp.ClientSession() as session, session.post(f"{url}/calls") as response:
        calls: dict[int, list[int]] = {}
        for row, column in await response.json():
            calls.setdefault(row, []).append(column)
        return calls


async def time_selections(router: Router, world: World, count: int = 100) -> list[float]:
    """Return the duration of each of ``count`` selections on an idle router, in microseconds.

    No calls follow the selections. If Conduit is installed on the router, it logs them as decisions without an
    outcome, from which nothing is learned.
    """
    times_us: list[float] = []
    for number in range(count):
        messages = _messages(world.texts[number % len(world.texts)])
        start = time.perf_counter()
        await select_deployment(router, GROUP, messages, {"metadata": {}})
        times_us.append((time.perf_counter() - start) * 1e6)
        await asyncio.sleep(0)  # lets the tasks that LiteLLM starts run outside the measurement
    return times_us


def _messages(text: str) -> Any:
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": text}]
