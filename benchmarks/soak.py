"""Check that every decision gets exactly one outcome, with many mixed parallel requests.

Run ``python -m benchmarks.soak``; with ``--json`` the last line of the output is one JSON object. Real HTTP calls go
through a LiteLLM router to a local server that answers correctly, with errors, not at all or only in part. All requests
share one metadata dict. At the end, every request's decisions and outcomes in the log are compared with those expected
for its kind. The exit code is 1 if anything is missing, duplicated or attached to the wrong decision.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, NamedTuple

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm
from litellm.caching.caching import Cache
from litellm.router import Router

from conduit_litellm import ConduitRoutingStrategy
from conduit_litellm.litellm_compat.stamps import read_stamp
from conduit_log import LogSettings, open_log
from conduit_schemas import Outcome, Selection, decode_event
from local_servers.processes import model_server_process

TOKENS = {"a": 11, "b": 22, "c": 33}
"""The tokens that each deployment of the group ``chat`` reports, so that misplaced outcomes are detected."""
SHARED: dict[str, Any] = {"team": "red"}
SAME = [{"role": "user", "content": "the same again"}]


class Kind(NamedTuple):
    """One kind of request, and the outcomes expected in the log."""

    share: int
    """Number of these per hundred requests."""
    send: Callable[["Application", dict[str, Any]], Awaitable[Any]]
    outcomes: tuple[str | None, ...]
    """Status, error class and code of each attempt, in order; None if no outcome may arrive."""


class Application:
    """Sends the requests."""

    def __init__(self, router: Router) -> None:
        self.router = router

    async def chat(self, call: dict[str, Any]) -> Any:
        """Send a request and wait for the answer."""
        return await self.router.acompletion(model="chat", **call)

    async def ask_in_a_thread(self, call: dict[str, Any]) -> Any:
        """Send a request through the synchronous path."""
        return await asyncio.to_thread(self.router.completion, model="chat", **call)

    async def stream(self, call: dict[str, Any], model: str = "chat") -> Any:
        """Read an answer word by word."""
        stream = await self.router.acompletion(model=model, stream=True, **call)
        async for _ in stream:
            pass
        return stream

    async def abandon(self, call: dict[str, Any]) -> Any:
        """Close a stream after its first word, because an open one would keep its connection forever."""
        stream = await self.router.acompletion(model="chat", stream=True, **call)
        async for _ in stream:
            break
        await stream.aclose()

    async def embed(self, call: dict[str, Any]) -> Any:
        """Ask for vectors."""
        call = {name: value for name, value in call.items() if name != "messages"}
        return await self.router.aembedding(model="vectors", input=["x"], **call)

    async def of(self, call: dict[str, Any], model: str, **options: Any) -> Any:
        """Send a request to a group that misbehaves."""
        return await self.router.acompletion(model=model, **call, **options)

    async def cancel(self, call: dict[str, Any]) -> Any:
        """Send a request and cancel it."""
        await asyncio.wait_for(self.router.acompletion(model="hanging", **call), 1.0)

    async def repeat(self, call: dict[str, Any]) -> Any:
        """Send a request that LiteLLM's response cache can answer."""
        return await self.router.acompletion(model="cached", **{**call, "caching": True})


def kinds() -> dict[str, Kind]:
    """Return the kinds of requests."""
    return {
        "chat": Kind(38, Application.chat, ("success",)),
        "sync": Kind(6, Application.ask_in_a_thread, ("success",)),
        "stream": Kind(16, Application.stream, ("success",)),
        "embedding": Kind(6, Application.embed, ("success",)),
        "cache hit": Kind(6, Application.repeat, ("cache_hit",)),
        "fallback": Kind(8, lambda app, call: app.of(call, "broken"), ("error InternalServerError 500", "success")),
        "retry": Kind(5, lambda app, call: app.of(call, "full", num_retries=1), ("error RateLimitError 429",) * 2),
        "timeout": Kind(4, lambda app, call: app.of(call, "hanging", timeout=0.5), ("error Timeout 408",)),
        "broken stream": Kind(5, lambda app, call: app.stream(call, "dropping"), ("error",)),
        "cancelled": Kind(3, Application.cancel, (None,)),
        "abandoned": Kind(3, Application.abandon, (None,)),
    }


def new_router(base: str) -> Router:
    """Return a router over the server's behaviours."""
    behaviours = [("chat", name, f"tokens-{tokens}") for name, tokens in TOKENS.items()]
    behaviours += [("cached", f"cached-{number}", "tokens-44") for number in range(2)]
    behaviours += [("broken", "broken-1", "status-500"), ("full", "full-1", "status-429")]
    behaviours += [("spare", f"spare-{number}", "tokens-55") for number in range(2)]
    behaviours += [("hanging", "hanging-1", "hang"), ("dropping", "dropping-1", "drop")]
    entries = [entry(base, *one) for one in behaviours]
    vectors = {"model": "openai/text-embedding-3-small"}
    entries += [entry(base, "vectors", f"vectors-{number}", "ok", **vectors) for number in range(2)]
    return Router(
        model_list=entries, num_retries=0, retry_after=0, disable_cooldowns=True, fallbacks=[{"broken": ["spare"]}]
    )


def entry(base: str, group: str, name: str, behaviour: str, **params: Any) -> dict[str, Any]:
    """Return an entry of the model list."""
    known = {"model": "openai/gpt-4o-mini", "api_key": "unused", "api_base": f"{base}/{behaviour}", "max_retries": 0}
    return {"model_name": group, "litellm_params": {**known, **params}, "model_info": {"id": name}}


async def measure(requests: int, concurrency: int, seed: int = 1) -> dict[str, Any]:
    """Return the report."""
    with model_server_process() as base, tempfile.TemporaryDirectory() as folder:
        return await soak(base, folder, requests, concurrency, seed)


async def soak(base: str, folder: str, requests: int, concurrency: int, seed: int) -> dict[str, Any]:
    """Send the requests and compare the log with them."""
    strategy = ConduitRoutingStrategy(log_path=folder)
    router = new_router(base)
    strategy.install(router)
    application, chance = Application(router), random.Random(seed)
    choices = kinds()
    litellm.cache = Cache()
    try:
        known = {"messages": SAME, "metadata": SHARED, "litellm_trace_id": "fills-the-cache"}
        filling = 0
        while not (await application.repeat(known))._hidden_params.get("cache_hit"):
            filling += 1
            await asyncio.sleep(0.1)
        sent = chance.choices(list(choices), [kind.share for kind in choices.values()], k=requests)
        gate = asyncio.Semaphore(concurrency)
        wrong: list[str] = []

        async def send(number: int) -> None:
            call = {
                "messages": SAME
                if sent[number] == "cache hit"
                else [{"role": "user", "content": f"question {number}"}],
                "metadata": SHARED,
                "litellm_trace_id": f"request-{number}",
                "caching": False,  # the cache is small, and must not lose this answer
            }
            async with gate:
                try:
                    response = await choices[sent[number]].send(application, call)
                    decision = None if response is None else strategy.decision_id(response)
                    answered[number] = decision
                    if sent[number] == "cache hit" and not response._hidden_params.get("cache_hit"):
                        missed.add(number)
                except Exception as error:  # what an application would have seen
                    failed[number] = type(error).__name__

        answered: dict[int, str | None] = {}
        failed: dict[int, str] = {}
        missed: set[int] = set()
        """Requests that LiteLLM's cache, which is small and shared, could not answer. Each is an ordinary success."""
        start = time.perf_counter()
        sending = asyncio.gather(*[send(number) for number in range(requests)])
        while not sending.done():
            await asyncio.wait({sending}, timeout=30.0)
            print(f"{len(answered) + len(failed):,} of {requests:,} requests", file=sys.stderr, flush=True)
        sending.result()
        elapsed = time.perf_counter() - start
        expected_outcomes = sum(sum(one is not None for one in choices[kind].outcomes) for kind in sent)
        await outcomes_told(strategy, expected_outcomes + filling + 1)
        await strategy.aclose(timeout_s=60.0)
        counters = dict(strategy.counters)
        if (stamp := read_stamp({"metadata": SHARED})) is not None:
            wrong.append(f"the shared metadata carries decision {stamp}")
        came_to = ["chat" if number in missed else kind for number, kind in enumerate(sent)]
        report = await reconcile(strategy.log_settings, came_to, answered, wrong)
    finally:
        litellm.cache = None
    return {
        "requests": requests,
        "concurrency": concurrency,
        "kinds": dict(Counter(sent)),
        "cache_misses": len(missed),
        "failed_as_seen_by_the_application": dict(Counter(failed.values())),
        **report,
        "events_dropped": counters.get("events_dropped", 0),
        "callback_errors": counters.get("callback_errors", 0),
        "requests_per_s": round(requests / elapsed, 1),
        "litellm": version("litellm"),
    }


async def outcomes_told(strategy: ConduitRoutingStrategy, expected: int, patience_s: float = 60.0) -> None:
    """Wait for the expected number of outcomes, and a little longer for unexpected ones."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        told = sum(count for name, count in strategy.counters.items() if name.startswith("outcomes_"))
        if told >= expected:
            break
        await asyncio.sleep(0.2)
    await asyncio.sleep(2.0)


async def reconcile(
    settings: LogSettings, sent: list[str], answered: dict[int, str | None], wrong: list[str]
) -> dict[str, Any]:
    """Compare what was sent with what is in the log."""
    selections: list[Selection] = []
    outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)
    async with open_log(settings) as log, log.reader(settings.topics.events) as reader:
        left = sum((await reader.end_offsets()).values())
        while left > 0:
            for message in await reader.poll(timeout_s=5.0):
                left -= 1
                event = decode_event(message.value)
                if isinstance(event, Selection):
                    selections.append(event)
                elif isinstance(event, Outcome):
                    outcomes[event.decision_id].append(event)
    of_request: defaultdict[str | None, list[Selection]] = defaultdict(list)
    for selection in selections:
        of_request[selection.request_id].append(selection)
    for number, kind in enumerate(sent):
        made = of_request[f"request-{number}"]
        told = [[summary(one) for one in outcomes[selection.decision_id]] for selection in made]
        expected = expectation(kind, len(made), number in answered)
        if len(told) != len(expected) or any(not fits(*pair) for pair in zip(told, expected, strict=True)):
            wrong.append(f"request {number} ({kind}) left {told} in the log, not {expected}")
        decision = answered.get(number)
        if decision is not None and decision != made[-1].decision_id:
            wrong.append(f"request {number} ({kind}) was told decision {decision}, made {made[-1].decision_id}")
    for selection in selections:
        tokens = TOKENS.get(selection.arm)
        for outcome in outcomes[selection.decision_id]:
            if tokens is not None and outcome.ttft_s is None and outcome.output_tokens not in {tokens, None}:
                wrong.append(f"decision {selection.decision_id} for {selection.arm} has another's outcome: {outcome}")
    ids = [selection.decision_id for selection in selections]
    open_ones = sum(not outcomes[decision] for decision in ids)
    total = sum(len(told) for told in outcomes.values())
    return {
        "selections": len(ids),
        "outcomes": total,
        "still_open": open_ones,
        "outcomes_by_status": dict(Counter(one.status for told in outcomes.values() for one in told)),
        "reconciled": len(ids) == len(set(ids)) == total + open_ones and set(outcomes) <= set(ids),
        "wrong": len(wrong),
        "first_wrong": wrong[:5],
    }


def expectation(kind: str, attempts: int, answered: bool) -> list[list[str]]:
    """Return the outcomes expected from each attempt at a request."""
    if kind == "cancelled" and attempts == 0:
        return []  # cancelled before LiteLLM had selected
    expected = [[] if status is None else [status] for status in kinds()[kind].outcomes]
    if kind in {"retry", "timeout"} and attempts > len(expected):
        # LiteLLM keeps a request's progress in its metadata. If requests share them, it sometimes takes
        # another request's retry or fallback: one more attempt, which serves or fails like the one before.
        expected.append(["success"] if answered else expected[-1])
    return expected


def summary(outcome: Outcome) -> str:
    """Return status, error class and code in one line. Streams must report both of their times."""
    parts = (outcome.status, outcome.error_class, outcome.error_code)
    if outcome.ttft_s is not None and not 0.0 < outcome.ttft_s <= (outcome.latency_s or 0.0):
        return f"times {outcome.ttft_s} and {outcome.latency_s} of a {outcome.status}"
    return " ".join(part for part in parts if part)


def fits(told: list[str], expected: list[str]) -> bool:
    """Return whether an attempt's outcomes are the expected ones; an error's details may be left open."""
    return len(told) == len(expected) and all(one.startswith(what) for one, what in zip(told, expected, strict=True))


def main() -> None:
    """Run the check, print the results and set the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--requests", type=int, default=20_000, help="how many [20000]")
    parser.add_argument("--concurrency", type=int, default=200, help="at once [200]")
    options = parser.parse_args()
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs every error, and most are intended here
    report = asyncio.run(measure(options.requests, options.concurrency))
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name.replace('_', ' '):36}{value}")
    raise SystemExit(0 if report["reconciled"] and not report["wrong"] else 1)


if __name__ == "__main__":
    main()
