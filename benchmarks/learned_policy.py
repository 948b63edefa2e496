"""The policy of several benchmarks: a learner builds it from feedback on a router of five deployments."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from litellm.router import Router

from conduit_litellm import ConduitRoutingStrategy
from conduit_litellm.litellm_compat.selecting import select_deployment
from conduit_litellm.routing.policy_cache import PolicyCache

__all__ = ["DEPLOYMENTS", "PROMPTS", "learn", "messages", "new_router", "outcomes_learned", "until"]

DEPLOYMENTS = 5
PROMPTS = [
    "What is 17 * 23?",
    "Translate to French: the meeting has been moved to Thursday afternoon, please bring the figures.",
    "Write a Python function that merges two sorted lists without using sort(), with type hints and a docstring. "
    "Then explain its complexity in one sentence.",
    "Summarise the following minutes in three bullet points. " + "The board discussed the budget at length. " * 10,
    "You are given a log excerpt. Find the first error and say what caused it.\n"
    + "2026-03-01T12:00:00Z INFO worker[12]: task 8f3a finished in 132 ms\n" * 12,
]


def new_router(**options: Any) -> Router:
    """Return a router over the deployments."""
    deployments = [
        {
            "model_name": "chat",
            "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "unused"},
            "model_info": {"id": f"deployment-{number}"},
        }
        for number in range(DEPLOYMENTS)
    ]
    return Router(model_list=deployments, **options)


async def learn(folder: str, requests: int = 300) -> None:
    """Let a learner build a snapshot from requests whose answers were rated."""
    strategy = ConduitRoutingStrategy(log_path=folder)
    router = new_router()
    strategy.install(router)
    for number in range(requests):
        deployment = await select_deployment(router, "chat", messages(number), {"metadata": {}})
        arm = deployment["model_info"]["id"]
        rank = int(arm[-1])
        await strategy.record_feedback(
            arm, cost=1e-4 * 2**rank, latency=0.5 + 0.1 * rank, quality_score=0.5 + 0.1 * rank
        )
    # Outcomes reported by the application wait two seconds for LiteLLM's own, which never arrive here.
    await until(lambda: strategy.events_waiting == 0, "the events to be delivered")
    await until(lambda: outcomes_learned(strategy) == requests, "a snapshot")
    await strategy.aclose(timeout_s=10.0)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, for at most a minute."""
    deadline = time.monotonic() + 60.0
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited a minute for {what}")
        await asyncio.sleep(0.05)


def outcomes_learned(strategy: ConduitRoutingStrategy) -> int:
    """Return how many outcomes the newest snapshot of the policy was learned from."""
    policies: PolicyCache = strategy._policies
    beliefs = policies.get("default/chat")
    return 0 if beliefs is None else beliefs.snapshot.outcomes


def messages(number: int) -> list[dict[str, str]]:
    """Return the messages of a request, the prompts in turn."""
    return [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}]
