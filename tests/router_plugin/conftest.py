"""Routers, strategies and an OpenAI-compatible server for the plugin's tests."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm
from litellm.router import Router

from conduit_litellm import ConduitRoutingStrategy
from conduit_log import LogSettings, open_log
from conduit_schemas import (
    ArmSnapshot,
    Event,
    ExplorationRule,
    LearningSettings,
    SignalPosterior,
    Snapshot,
    decode_event,
)

POLICY = "default/chat"


@pytest.fixture(autouse=True)
def _fresh_callbacks() -> Iterator[None]:
    """Every test starts and ends without callbacks and without a response cache."""
    litellm.callbacks = []
    litellm.logging_callback_manager._reset_all_callbacks()
    litellm.cache = None
    yield
    litellm.logging_callback_manager._reset_all_callbacks()
    litellm.cache = None


@pytest.fixture
def new_strategy(tmp_path: Path) -> Iterator[Callable[..., ConduitRoutingStrategy]]:
    """Return a maker of strategies on this test's own log, closed at its end."""
    made: list[ConduitRoutingStrategy] = []

    def make(**settings: Any) -> ConduitRoutingStrategy:
        settings = {"log_path": tmp_path / "log", "host_learner": False, **settings}
        made.append(ConduitRoutingStrategy(**settings))
        return made[-1]

    yield make
    for strategy in made:
        strategy.close(timeout_s=0.5)


@pytest.fixture
def strategy(new_strategy: Callable[..., ConduitRoutingStrategy]) -> ConduitRoutingStrategy:
    return new_strategy()


def _deployment(name: str, *, group: str = "chat", **params: Any) -> dict[str, Any]:
    litellm_params = {"model": "openai/gpt-4o-mini", "api_key": "unused", "mock_response": f"I am {name}", **params}
    return {"model_name": group, "litellm_params": litellm_params, "model_info": {"id": name}}


@pytest.fixture
def deployment() -> Callable[..., dict[str, Any]]:
    """Return a maker of model list entries that answer by themselves, without a network."""
    return _deployment


@pytest.fixture
def new_router() -> Callable[..., Router]:
    """Return a maker of routers: ``new_router(strategy, deployments, **options)``."""

    def make(strategy: ConduitRoutingStrategy, deployments: list[Any] | None = None, **options: Any) -> Router:
        entries = [entry if isinstance(entry, dict) else _deployment(entry) for entry in deployments or ["a", "b"]]
        router = Router(model_list=entries, num_retries=options.pop("num_retries", 0), **options)
        strategy.install(router)
        return router

    return make


class LogReader:
    """Reads the events that strategies have delivered."""

    async def __call__(self, strategy: ConduitRoutingStrategy, kind: str | None = None) -> list[Any]:
        """Wait until everything is delivered and return the events, of one kind or all."""
        deadline = time.monotonic() + 15.0
        await self._until(lambda: strategy.events_waiting == 0, deadline)
        return [event for event in await self.stored(strategy.log_settings) if kind in (None, event.kind)]

    async def outcomes(self, strategy: ConduitRoutingStrategy, count: int) -> list[Any]:
        """Wait for so many outcomes; LiteLLM reports them a moment after the response."""
        return await self.of_kind(strategy, "outcome", count)

    async def of_kind(self, strategy: ConduitRoutingStrategy, kind: str, count: int) -> list[Any]:
        deadline = time.monotonic() + 15.0
        while True:
            found = await self(strategy, kind)
            if len(found) >= count or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.05)

    @staticmethod
    async def stored(settings: LogSettings) -> list[Event]:
        events: list[Event] = []
        async with open_log(settings) as log, log.reader(settings.topics.events) as reader:
            ends = await reader.end_offsets()
            while len(events) < sum(ends.values()):
                events += [decode_event(message.value) for message in await reader.poll(timeout_s=5.0)]
        return events

    @staticmethod
    async def _until(condition: Callable[[], bool], deadline: float) -> None:
        while not condition():
            assert time.monotonic() < deadline, "waited too long"
            await asyncio.sleep(0.02)


@pytest.fixture
def events() -> LogReader:
    return LogReader()


@pytest.fixture
def until() -> Callable[..., Any]:
    """Return ``await until(condition)``: waits, and fails when it takes too long."""

    async def wait(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
        await LogReader._until(condition, time.monotonic() + timeout_s)

    return wait


def _snapshot(
    quality: dict[str, float],
    *,
    offset: int = 10,
    rule: ExplorationRule | None = None,
    settings: LearningSettings | None = None,
    policy: str = POLICY,
) -> Snapshot:
    import numpy as np  # noqa: PLC0415 - only here

    settings = settings or LearningSettings()
    nothing = np.zeros(settings.dimension, "<f4").tobytes()
    precise = np.full(settings.dimension, 1e6, "<f4").tobytes()

    def known(value: float) -> SignalPosterior:
        return SignalPosterior(mean=nothing, precision=precise, baseline=value, sigma=0.1, average=value, weight=500.0)

    arms = {
        arm: ArmSnapshot(outcomes=500, signals={"quality": known(value), "success": known(1.0)})
        for arm, value in quality.items()
    }
    return Snapshot(
        policy=policy,
        partition=0,
        offset=offset,
        stream_time_ms=0,
        settings=settings,
        rule=rule or ExplorationRule(name="greedy", params={"floor": 0.0}),
        arms=arms,
    ).sealed()


@pytest.fixture
def snapshot() -> Callable[..., Snapshot]:
    """Return a maker of snapshots in which each arm has a known quality."""
    return _snapshot


class ModelServer:
    """An OpenAI-compatible server whose behaviour is the first part of the path."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.url = ""

    def base(self, behaviour: str) -> str:
        return f"{self.url}/{behaviour}"

    async def complete(self, request: web.Request) -> web.StreamResponse:
        behaviour = request.match_info["behaviour"]
        self.calls.append(behaviour)
        body = await request.json()
        if behaviour.startswith("status-"):
            status = int(behaviour.removeprefix("status-"))
            return web.json_response({"error": {"message": "refused", "type": "x", "code": "x"}}, status=status)
        if behaviour == "slow":
            await asyncio.sleep(5.0)
        if behaviour == "pause":
            await asyncio.sleep(0.2)
        if body.get("stream"):
            return await self._stream(request, drop=behaviour == "drop")
        return web.json_response(
            {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
                ],
                "usage": _usage(behaviour),
            }
        )

    async def respond(self, request: web.Request) -> web.StreamResponse:
        text = {"type": "output_text", "text": "hello", "annotations": []}
        message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
        return web.json_response(
            {
                "id": "r1",
                "object": "response",
                "created_at": 1,
                "status": "completed",
                "model": (await request.json())["model"],
                "output": [message],
                "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
                "parallel_tool_calls": True,
                "tool_choice": "auto",
                "tools": [],
            }
        )

    async def message(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(
            {
                "id": "m1",
                "type": "message",
                "role": "assistant",
                "model": (await request.json())["model"],
                "content": [{"type": "text", "text": "hello"}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 10, "output_tokens": 5},
            }
        )

    async def _stream(self, request: web.Request, *, drop: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(4):
            await asyncio.sleep(0.1)
            if drop and number == 2:
                assert request.transport is not None
                request.transport.close()
                return response
            await response.write(b"data: " + json.dumps(_chunk("word ")).encode() + b"\n\n")
        await response.write(
            b"data: " + json.dumps(_chunk("", finish="stop") | {"usage": _usage("ok")}).encode() + b"\n\n"
        )
        await response.write(b"data: [DONE]\n\n")
        return response


def _usage(behaviour: str) -> dict[str, int]:
    written = int(behaviour.removeprefix("tokens-")) if behaviour.startswith("tokens-") else 20
    return {"prompt_tokens": 100, "completion_tokens": written, "total_tokens": 100 + written}


def _chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    delta = {"role": "assistant", "content": text}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    models = ModelServer()
    app = web.Application()
    app.router.add_post("/{behaviour}/chat/completions", models.complete)
    app.router.add_post("/{behaviour}/responses", models.respond)
    app.router.add_post("/{behaviour}/v1/messages", models.message)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    models.url = f"http://{host}:{port}"
    yield models
    await runner.cleanup()


@pytest.fixture
def served(server: ModelServer) -> Callable[..., dict[str, Any]]:
    """Return a maker of model list entries that the server answers, each with a behaviour."""

    def make(name: str, behaviour: str = "ok", **params: Any) -> dict[str, Any]:
        return _deployment(name, api_base=server.base(behaviour), mock_response=None, max_retries=0, **params)

    return make
