"""Routers, strategies and an OpenAI-compatible server for the plugin's tests."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_servers.model_server import ModelServer

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
    """Return a maker of model list entries that answer without a network."""
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


PATIENCE_S = 180.0
"""How long to wait for things that should happen at once. Only a failure takes that long."""


class LogReader:
    """Reads the events that strategies have delivered."""

    async def __call__(self, strategy: ConduitRoutingStrategy, kind: str | None = None) -> list[Any]:
        """Wait until everything is delivered and return the events, of one kind or all."""
        deadline = time.monotonic() + PATIENCE_S
        await self._until(lambda: strategy.events_waiting == 0, deadline)
        return [event for event in await self.stored(strategy.log_settings) if kind in (None, event.kind)]

    async def outcomes(self, strategy: ConduitRoutingStrategy, count: int) -> list[Any]:
        """Wait for that many outcomes, which LiteLLM reports a moment after the response."""
        return await self.of_kind(strategy, "outcome", count)

    async def of_kind(self, strategy: ConduitRoutingStrategy, kind: str, count: int) -> list[Any]:
        deadline = time.monotonic() + PATIENCE_S
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
    """Return ``until``: ``await until(condition)`` waits, and fails if it takes too long."""

    async def wait(condition: Callable[[], bool], timeout_s: float = 0.0) -> None:
        await LogReader._until(condition, time.monotonic() + max(timeout_s, PATIENCE_S))

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


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer().running() as models:
        yield models


@pytest.fixture
def served(server: ModelServer) -> Callable[..., dict[str, Any]]:
    """Return a maker of model list entries that the server answers, each with a behaviour."""

    def make(name: str, behaviour: str = "ok", **params: Any) -> dict[str, Any]:
        return _deployment(name, api_base=server.base(behaviour), mock_response=None, max_retries=0, **params)

    return make
