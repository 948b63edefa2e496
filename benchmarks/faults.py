"""The effect of broker failures on an application: requests at a steady rate while Kafka is killed and restarted.

Run ``python -m benchmarks.faults``; with ``--json`` the last line of the output is one JSON object. It needs the
packages with which the tests start a broker. A quiet run is followed by a run at the same rate in which the broker is
killed (SIGKILL) and restarted several times. Every request is a whole call through a LiteLLM router with its callbacks;
LiteLLM's own mock answers it. With every request, a router without Conduit makes a selection too, so that the load of
the broker's restarts is not attributed to Conduit. At the end, every request is looked up in the log.
"""

import argparse
import asyncio
import json
import logging
import os
import resource
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from litellm.router import Router

from benchmarks.learned_policy import learn
from benchmarks.percentiles import percentiles
from conduit_litellm import ConduitRoutingStrategy
from conduit_log import LogSettings, Message, open_log
from conduit_schemas import Outcome, Selection, decode_event
from local_servers.processes import BrokerProcess

DEPLOYMENTS = 5
MESSAGES: list[Any] = [{"role": "user", "content": "Translate to French: the meeting is on Thursday."}]
POLICY = "default/chat"


class Load(NamedTuple):
    """The results of one run."""

    decisions: list[str]
    failures: list[str]
    selection_us: list[float]
    control_us: list[float]
    late: int
    """Requests that started more than 0.1 s after their time: the machine could not keep up."""
    elapsed_s: float


def new_router() -> Router:
    """Return a router over deployments with mock answers."""
    params = {"model": "openai/gpt-4o-mini", "api_key": "unused", "mock_response": "La réunion est jeudi."}
    return Router(
        model_list=[
            {"model_name": "chat", "litellm_params": params, "model_info": {"id": f"deployment-{number}"}}
            for number in range(DEPLOYMENTS)
        ],
        num_retries=0,
    )


def timed(router: Router, microseconds: list[float]) -> Router:
    """Make a router record how long each of its selections takes."""
    name = "select" if hasattr(router, "select") else "async_get_available_deployment"  # LiteLLM 1.109 and later
    select = getattr(router, name)

    async def selecting(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter_ns()
        deployment = await select(*args, **kwargs)
        microseconds.append((time.perf_counter_ns() - start) / 1000.0)
        return deployment

    setattr(router, name, selecting)
    return router


async def serve(
    strategy: ConduitRoutingStrategy, routers: tuple[Router, Router], rate: float, seconds: float
) -> tuple[list[str], list[str], int]:
    """Send requests on schedule, regardless of earlier ones; return decisions, failures and late requests."""
    ours, control = routers
    decisions: list[str] = []
    failures: list[str] = []
    late = 0

    async def request() -> None:
        try:
            response = await ours.acompletion(model="chat", messages=MESSAGES)
            decisions.append(strategy.decision_id(response) or "none")
        except Exception as error:  # what an application would have seen
            failures.append(f"{type(error).__name__}: {error}")
        kwargs: dict[str, Any] = {"metadata": {}}
        if hasattr(control, "select"):
            await control.select("chat", kwargs, messages=MESSAGES)
        else:
            await control.async_get_available_deployment("chat", kwargs, MESSAGES)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            wait = start + number / rate - time.perf_counter()
            late += wait < -0.1
            await asyncio.sleep(max(0.0, wait))
            tasks.create_task(request())
    return decisions, failures, late


async def measure(rate: float, seconds: float, kills: int) -> dict[str, Any]:
    """Return the report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with BrokerProcess(folder / "broker") as broker:
            await publish_snapshot(folder / "learned", broker.bootstrap)
            strategy = ConduitRoutingStrategy(bootstrap_servers=broker.bootstrap, log_path=folder / "home")
            ours, control = new_router(), new_router()
            strategy.install(ours)
            selection_us: list[float] = []
            control_us: list[float] = []
            routers = (timed(ours, selection_us), timed(control, control_us))
            await serve(strategy, routers, rate, 5.0)  # warm-up: imports, connections, the snapshot
            await until(lambda: strategy._policies.get(POLICY) is not None, "the snapshot")
            fallbacks = strategy.counters["fallbacks"]
            loads = []
            for deaths in (0, kills):
                selection_us.clear()
                control_us.clear()
                faults = asyncio.create_task(kill_and_start(broker, deaths, seconds, strategy))
                started = time.perf_counter()
                decisions, failures, late = await serve(strategy, routers, rate, seconds)
                elapsed_s = time.perf_counter() - started
                most_waiting = await faults
                loads.append(Load(decisions, failures, selection_us.copy(), control_us.copy(), late, elapsed_s))
            quiet, faulty = loads
            behind = time.perf_counter()
            asked = [decision for load in loads for decision in load.decisions]
            await until(lambda: strategy.events_waiting == 0, "the events to be delivered")
            counters = dict(strategy.counters)
            counters["fallbacks"] = counters.get("fallbacks", 0) - fallbacks
            behind = time.perf_counter() - behind
            await strategy.aclose()
            found = await logged(strategy.log_settings)
    report: dict[str, Any] = {
        "rate_per_s": rate,
        "seconds": seconds,
        "kills": kills,
        "requests": {"quiet": len(quiet.decisions), "faults": len(faulty.decisions)},
        "served_per_s": [round(len(load.decisions) / load.elapsed_s, 1) for load in loads],
        "failed_requests": [len(quiet.failures), len(faulty.failures)],
        "late_requests": [quiet.late, faulty.late],
        "left_to_litellm": counters["fallbacks"],
        "lost": {kind: len(set(asked) - set(found[kind])) for kind in ("selection", "outcome")},
        "out_of_order": out_of_order(found["selection"]),
        "delivered_twice": sum(len(ids) - len(set(ids)) for ids in found.values()),
        "events_dropped": counters.get("events_dropped", 0),
        "events_through_the_spool": counters.get("events_spooled", 0),
        "most_events_waiting": most_waiting,
        "delivered_after_the_end_s": round(behind, 2),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "selection_us": {"quiet": percentiles(quiet.selection_us), "faults": percentiles(faulty.selection_us)},
        "control_us": {"quiet": percentiles(quiet.control_us), "faults": percentiles(faulty.control_us)},
        "litellm": version("litellm"),
    }
    for name in ("selection_us", "control_us"):
        times = report[name]
        times["p99_ratio"] = round(times["faults"]["p99"] / times["quiet"]["p99"], 2)
    if quiet.failures or faulty.failures:
        report["first_failure"] = (quiet.failures + faulty.failures)[0]
    return report


async def publish_snapshot(folder: Path, bootstrap: str) -> None:
    """Learn in an embedded log, and publish the newest snapshot for the application under test."""
    await learn(str(folder))
    embedded = LogSettings(path=folder)
    async with open_log(embedded) as log, log.reader(embedded.topics.snapshots) as reader:
        newest = (await reader.poll(timeout_s=5.0))[-1]
    settings = LogSettings(bootstrap_servers=bootstrap)
    async with open_log(settings) as log:
        await log.append(settings.topics.snapshots, [Message(newest.key, newest.value)])


async def kill_and_start(broker: BrokerProcess, times: int, seconds: float, strategy: ConduitRoutingStrategy) -> int:
    """Kill the broker, start it again after a third of the time, and return the largest number of waiting events."""
    most = 0
    for number in range(times):
        interval = seconds / times
        await asyncio.sleep(interval / 4.0 if number == 0 else interval / 2.0)
        await broker.tell("kill")
        await asyncio.sleep(interval / 3.0)
        most = max(most, strategy.events_waiting)
        await broker.tell("start")
    return most


async def logged(settings: LogSettings) -> dict[str, list[str]]:
    """Return the ids of the decisions in the log, by kind of event, in log order."""
    found: dict[str, list[str]] = {"selection": [], "outcome": []}
    async with open_log(settings) as log, log.reader(settings.topics.events) as reader:
        left = sum((await reader.end_offsets()).values())
        while left > 0:
            for message in await reader.poll(timeout_s=5.0):
                left -= 1
                event = decode_event(message.value)
                if isinstance(event, Selection | Outcome):
                    found[event.kind].append(event.decision_id)
    return found


def out_of_order(ids: list[str]) -> int:
    """Count the decisions that follow a later decision of their process; ids end with a sequence number.

    Examples
    --------
    >>> out_of_order(["p00000001", "p00000002", "p00000001", "p00000004", "p00000003"])
    1
    """
    numbers = [int(decision[-8:], 16) for decision in dict.fromkeys(ids)]
    return sum(later < earlier for earlier, later in pairwise(numbers))


async def until(condition: Any, what: str, timeout_s: float = 120.0) -> None:
    """Wait for a condition, with a timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {timeout_s:g} s for {what}")
        await asyncio.sleep(0.05)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--seconds", type=float, default=120.0, help="length of either run [120]")
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second [200]")
    parser.add_argument("--kills", type=int, default=5, help="deaths of the broker [5]")
    options = parser.parse_args()
    if options.kills < 1 or options.rate * options.seconds < 100:
        parser.error("give at least one death and a hundred requests")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs every attempt to connect
    report = asyncio.run(measure(options.rate, options.seconds, options.kills))
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name.replace('_', ' '):28}{value}")


if __name__ == "__main__":
    main()
