"""The duration of one selection, compared with LiteLLM's own strategies in the same run.

Run ``python -m benchmarks.selection``; with ``--json`` the last line of the output is one JSON object. All routers have
the same five deployments and take turns with the same prompts, so that noise on the machine affects them equally.
Conduit chooses from a snapshot that its learner built from feedback on the same router. During the measurement its
events go to an embedded log, as in an application.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from litellm.router import Router

from benchmarks import proxy_overhead
from benchmarks.learned_policy import DEPLOYMENTS, PROMPTS, learn, messages, new_router, outcomes_learned, until
from benchmarks.percentiles import percentiles
from conduit_litellm import ConduitRoutingStrategy
from conduit_litellm.litellm_compat.requests import LiteLLMRequest
from conduit_litellm.litellm_compat.selecting import select_deployment
from conduit_policy import Objective, Request, TextFeaturizer, choose

LITELLM_STRATEGIES = {
    "simple_shuffle": "simple-shuffle",
    "latency_based": "latency-based-routing",
    "cost_based": "cost-based-routing",
    "usage_v2": "usage-based-routing-v2",
}
Select = Callable[[dict[str, Any], list[dict[str, str]]], Awaitable[Any]]


def selecting(router: Router) -> Select:
    """Return the router's own selection function, as its calls use it."""
    return lambda kwargs, messages: select_deployment(router, "chat", messages, kwargs)


def listing(router: Router) -> Select:
    """Return the router's step that lists the healthy deployments."""
    if hasattr(router, "select"):
        return lambda kwargs, messages: router.select("chat", kwargs, kind="healthy", messages=messages)
    return lambda kwargs, messages: router.async_get_healthy_deployments("chat", kwargs, messages)


async def measure(repetitions: int) -> dict[str, Any]:
    """Return the report."""
    with tempfile.TemporaryDirectory() as folder:
        await learn(folder)
        strategy = ConduitRoutingStrategy(log_path=folder, host_learner=False)
        router = new_router()
        strategy.install(router)
        contestants = {"conduit": selecting(router)}
        for name, routing_strategy in LITELLM_STRATEGIES.items():
            contestants[name] = selecting(new_router(routing_strategy=routing_strategy))
        await contestants["conduit"]({"metadata": {}}, messages(0))  # starts the reader of the snapshots
        await until(lambda: outcomes_learned(strategy) > 0, "the snapshot")
        times = {name: await _timed(select, 200) for name, select in contestants.items()}  # warm-up
        for times_of_one in times.values():
            times_of_one.clear()
        for _ in range(repetitions // 50):
            for name, select in contestants.items():
                times[name] += await _timed(select, 50)
        parts = await _parts(router, strategy, repetitions)
        fallbacks = strategy.counters["fallbacks"]
        await strategy.aclose()
    if fallbacks > 1:  # the very first selection, which had no snapshot yet
        raise SystemExit(f"{fallbacks} selections were left to LiteLLM: this is no measurement of Conduit's choice")
    report = {name: percentiles(values) for name, values in times.items()}
    return {
        "selection_us": report,
        "ratio_to_simple_shuffle": round(report["conduit"]["p50"] / report["simple_shuffle"]["p50"], 3),
        "parts_us": parts,
        "litellm": version("litellm"),
    }


async def _timed(select: Select, repetitions: int) -> list[float]:
    microseconds = []
    for number in range(repetitions):
        kwargs: dict[str, Any] = {"metadata": {}}
        asked = messages(number)
        start = time.perf_counter_ns()
        await select(kwargs, asked)
        microseconds.append((time.perf_counter_ns() - start) / 1000.0)
        await asyncio.sleep(0)  # strategies start tasks, which run here, outside the measurement
    return microseconds


async def _parts(router: Router, strategy: ConduitRoutingStrategy, repetitions: int) -> dict[str, float]:
    """Return the median duration of each single step."""
    featurizer, objective = TextFeaturizer(), Objective()
    beliefs = strategy._policies.get("default/chat")
    assert beliefs is not None
    arms = tuple(f"deployment-{number}" for number in range(DEPLOYMENTS))
    contexts = [featurizer(Request(messages=messages(number))) for number in range(len(PROMPTS))]
    healthy: Any = await listing(router)({}, messages(0))

    def emitted(number: int) -> None:
        selection = strategy._new_selection()
        selection._deployments, selection._arms, selection._policy = healthy, arms, "default/chat"
        selection._id, selection._context = f"benchmark-{number}", contexts[number % len(contexts)]
        selection.finish(healthy[0], LiteLLMRequest({"metadata": {}}))

    def chosen(number: int) -> None:
        context = contexts[number % len(contexts)]
        choose(beliefs, context, arms, objective=objective, decision_id=f"benchmark-{number}")

    steps: dict[str, Callable[[int], object]] = {
        "features": lambda number: featurizer(Request(messages=messages(number))),
        "choose": chosen,
        "emit": emitted,
    }
    parts = {"healthy": percentiles(await _timed(listing(router), repetitions))["p50"]}
    for name, step in steps.items():
        microseconds = []
        for number in range(repetitions):
            start = time.perf_counter_ns()
            step(number)
            microseconds.append((time.perf_counter_ns() - start) / 1000.0)
        parts[name] = percentiles(microseconds)["p50"]
    return parts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--proxy", action="store_true", help="measure selections in a real LiteLLM proxy, too")
    parser.add_argument("--repetitions", type=int, default=2000, help="selections per strategy [2000]")
    options = parser.parse_args()
    report = asyncio.run(measure(options.repetitions))
    if options.proxy:
        report["in_the_proxy_us"] = proxy_overhead.measure(options.repetitions // 4)["selection_us"]
    if options.json:
        print(json.dumps(report))
        return
    print(f"LiteLLM {report['litellm']}, {DEPLOYMENTS} deployments, microseconds per selection\n")
    print(f"{'':16}{'median':>10}{'p99':>10}{'x shuffle':>12}")
    shuffle = report["selection_us"]["simple_shuffle"]["p50"]
    for name, values in report["selection_us"].items():
        print(f"{name:16}{values['p50']:10.1f}{values['p99']:10.1f}{values['p50'] / shuffle:12.2f}")
    for name, values in report.get("in_the_proxy_us", {}).items():
        print(f"{'in a proxy, ' + name.replace('_', ' '):32}{values['p50']:10.1f}{values['p99']:10.1f}")
    print("\nsteps by themselves: " + ", ".join(f"{name} {value:.1f}" for name, value in report["parts_us"].items()))


if __name__ == "__main__":
    main()
