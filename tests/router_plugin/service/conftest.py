"""A stand-in for all providers, and services that use it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from provider_server import ProviderServer

from conduit_litellm import create_service
from conduit_litellm.service import Service


@pytest.fixture
async def providers() -> AsyncIterator[ProviderServer]:
    async with ProviderServer().running() as server:
        yield server


@pytest.fixture
def model(providers: ProviderServer) -> Callable[..., dict[str, Any]]:
    """Return a maker of OpenAI-compatible deployments: ``model("a")`` is served under ``/openai-a``."""

    def make(name: str, **params: Any) -> dict[str, Any]:
        base = f"{providers.url}/openai-{name}/v1"
        return {"model": "openai/gpt-4.1", "id": name, "api_base": base, "api_key": "k", **params}

    return make


@pytest.fixture
async def new_service(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Service]]]:
    """Return a maker of services on this test's own log, closed at its end."""
    made: list[Service] = []

    async def make(**arguments: Any) -> Service:
        made.append(await create_service(**{"log_path": tmp_path / "log", "host_learner": False, **arguments}))
        return made[-1]

    yield make
    for service in made:
        await service.aclose(timeout_s=0.5)


@pytest.fixture(params=["litellm", "pydantic_ai"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
