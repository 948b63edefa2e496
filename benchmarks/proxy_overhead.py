"""Conduit's overhead for a whole proxied request: two LiteLLM proxies, one with Conduit and one without.

Run ``python -m benchmarks.proxy_overhead``; with ``--json`` the last line of the output is one JSON object. Both
proxies are separate processes in front of the same local server, which answers at once. They take turns with the same
requests, so that noise on the machine affects both equally. Conduit chooses from a snapshot learned in advance. A
callback in each proxy reports how long its selection took.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import httpx

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from litellm.integrations.custom_logger import CustomLogger

from benchmarks.learned_policy import DEPLOYMENTS, PROMPTS, learn
from benchmarks.percentiles import percentiles
from local_servers.processes import model_server_process

__all__ = ["measure", "stopwatch"]

KEY = "sk-benchmark"
TIME_HEADER = "x-selection-us"
_SELECTOR = "async_get_available_deployment"


class Stopwatch(CustomLogger):
    """Runs in the proxy: times the router's selections and reports the newest one to the client."""

    def __init__(self) -> None:
        super().__init__()
        self._newest_us: float | None = None
        self._timed: Any = None

    async def async_pre_call_hook(self, *_: Any, **__: Any) -> None:
        """Time the selections of the current router; if Conduit is used, it is already installed on it."""
        from litellm.proxy import proxy_server  # noqa: PLC0415 - only in the proxy

        router: Any = proxy_server.llm_router
        core = router.__dict__.get("_core", router)
        name = f"_core_{_SELECTOR}" if hasattr(core, f"_core_{_SELECTOR}") else _SELECTOR
        select = getattr(core, name, None)
        if select is None or select is self._timed:
            return  # a router written in Rust makes its selections out of Python's sight

        @wraps(select)
        async def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter_ns()
            deployment = await select(*args, **kwargs)
            self._newest_us = (time.perf_counter_ns() - start) / 1000.0
            return deployment

        self._timed = timed
        setattr(core, name, timed)

    async def async_post_call_response_headers_hook(self, *_: Any, **__: Any) -> dict[str, str] | None:
        """Add the time to the response; requests arrive one at a time."""
        return None if self._newest_us is None else {TIME_HEADER: f"{self._newest_us:.2f}"}


stopwatch = Stopwatch()


@contextmanager
def proxy(folder: Path, base: str, *, conduit: bool) -> Iterator[str]:
    """Run a proxy and yield its address."""
    folder.mkdir()
    handlers = ["conduit_litellm.proxy.handler"] if conduit else []
    params = {"model": "openai/gpt-4o-mini", "api_key": "unused", "api_base": f"{base}/ok", "max_retries": 0}
    config = {
        "model_list": [
            {"model_name": "chat", "litellm_params": params, "model_info": {"id": f"deployment-{number}"}}
            for number in range(DEPLOYMENTS)
        ],
        "litellm_settings": {"callbacks": [*handlers, "benchmarks.proxy_overhead.stopwatch"]},
        "general_settings": {"master_key": KEY},
        "conduit": {"log_path": str(folder.parent / "learned"), "host_learner": False},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-c", "from litellm import run_server; run_server()"]
    options = ["--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [*program, *options], stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": paths}
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, process, folder / "output.txt")
        yield url
    finally:
        process.terminate()
        process.wait(60.0)


def wait_for(url: str, process: "subprocess.Popen[bytes]", output: Path) -> None:
    """Wait until a proxy serves requests."""
    deadline = time.monotonic() + 300.0
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health/readiness", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"a proxy does not start:\n{output.read_text()[-3000:]}")


def measure(requests: int) -> dict[str, Any]:
    """Return the report."""
    with model_server_process() as base, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(learn(str(folder / "learned")))
        with (
            proxy(folder / "with", base, conduit=True) as ours,
            proxy(folder / "without", base, conduit=False) as own,
        ):
            return compare({"with_conduit": ours, "without": own}, requests)


def compare(urls: dict[str, str], requests: int) -> dict[str, Any]:
    """Send requests to both proxies in turn, and return the medians and their ratio."""
    client = httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=120.0, trust_env=False)
    times: dict[str, list[float]] = {name: [] for name in urls}
    selections: dict[str, list[float]] = {name: [] for name in urls}
    ratios: list[float] = []
    decisions = 0
    for number in range(-50, requests):  # the first ones warm up
        body = {"model": "chat", "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}]}
        pair: dict[str, float] = {}
        for name in urls if number % 2 else reversed(urls):
            start = time.perf_counter_ns()
            response = client.post(f"{urls[name]}/chat/completions", json=body).raise_for_status()
            pair[name] = (time.perf_counter_ns() - start) / 1e6
            if number >= 0:
                times[name].append(pair[name])
                decisions += "x-conduit-decision-id" in response.headers
                if TIME_HEADER in response.headers:
                    selections[name].append(float(response.headers[TIME_HEADER]))
        if number >= 0:
            ratios.append(pair["with_conduit"] / pair["without"])
    if decisions != requests:
        raise SystemExit(f"{decisions} decisions for {requests} requests: this is no measurement of Conduit")
    medians = {name: median(values) for name, values in times.items()}
    return {
        "requests": requests,
        "request_ms": {name: percentiles(values) for name, values in times.items()},
        "ratio_of_medians": round(medians["with_conduit"] / medians["without"], 3),
        "median_of_paired_ratios": round(median(ratios), 3),
        "added_ms": round(medians["with_conduit"] - medians["without"], 3),
        "selection_us": {name: percentiles(values) for name, values in selections.items() if values},
        "litellm": version("litellm"),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--requests", type=int, default=1000, help="requests to each proxy [1000]")
    options = parser.parse_args()
    report = measure(options.requests)
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name.replace('_', ' '):28}{value}")


if __name__ == "__main__":
    main()
