"""The comparison of two proxies computes correctly, with stand-ins for both."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from litellm.proxy import proxy_server

from benchmarks import proxy_overhead


@contextmanager
def serving(headers: dict[str, str], delay_s: float) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay_s)
            self.send_response(200)
            for name, value in {**headers, "Content-Length": "2"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_both_are_asked_and_compared() -> None:
    decided = {"x-conduit-decision-id": "d1", proxy_overhead.TIME_HEADER: "120.5"}
    with serving(decided, 0.03) as ours, serving({proxy_overhead.TIME_HEADER: "60.25"}, 0.0) as own:
        report = proxy_overhead.compare({"with_conduit": ours, "without": own}, 4)
    assert report["requests"] == 4 and report["selection_us"]["with_conduit"]["p50"] == 120.5
    assert report["selection_us"]["without"]["p50"] == 60.25
    assert report["request_ms"]["with_conduit"]["p50"] >= 30.0
    assert report["ratio_of_medians"] > 1.0 and report["median_of_paired_ratios"] > 1.0 and report["added_ms"] > 0.0


def test_a_proxy_without_decisions_is_no_measurement() -> None:
    with serving({}, 0.0) as ours, serving({}, 0.0) as own, pytest.raises(SystemExit, match="0 decisions for 2"):
        proxy_overhead.compare({"with_conduit": ours, "without": own}, 2)


async def test_the_stopwatch_times_whatever_router_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def select(model: str) -> str:
        return f"a deployment of {model}"

    stopwatch = proxy_overhead.Stopwatch()
    assert await stopwatch.async_post_call_response_headers_hook() is None
    for _ in range(2):  # the second one replaces the first
        router = SimpleNamespace(async_get_available_deployment=select)
        monkeypatch.setattr(proxy_server, "llm_router", router)
        for _ in range(2):
            await stopwatch.async_pre_call_hook()
        assert await router.async_get_available_deployment("chat") == "a deployment of chat"
        assert router.async_get_available_deployment.__wrapped__ is select
        told = await stopwatch.async_post_call_response_headers_hook()
        assert told is not None and float(told[proxy_overhead.TIME_HEADER]) >= 0.0
