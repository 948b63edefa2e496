"""The learner's HTTP endpoints for operators: liveness, readiness and metrics."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from conduit_learner.worker.listening import listening
from conduit_learner.worker.metrics import registry_of
from conduit_learner.worker.status import WorkerStatus

__all__ = ["IDLE_S", "MAX_LAG", "MAX_SILENCE_S", "liveness_problems", "readiness_problems", "serve"]

MAX_SILENCE_S = 60.0
"""A worker that makes no progress for this long is stuck. Its longest wait, for a broker, is far shorter."""

MAX_LAG = 10_000
"""Most events that a ready worker may be behind on one partition."""

IDLE_S = 15.0
"""A worker without partitions is ready after this long, because by then its group has assigned all partitions."""


def liveness_problems(status: WorkerStatus) -> list[str]:
    """Return the reasons to restart a worker; empty if it is healthy.

    An unreachable log is not a reason, because a restart would not bring it back.

    Examples
    --------
    >>> liveness_problems(WorkerStatus())
    []
    """
    silence = time.monotonic() - status.progressed_at
    return [f"the worker has made no progress for {silence:.0f} s"] if silence > MAX_SILENCE_S else []


def readiness_problems(status: WorkerStatus) -> list[str]:
    """Return the reasons why a worker is not up to date; empty if it is ready.

    Examples
    --------
    >>> readiness_problems(WorkerStatus())
    ['no partition is assigned yet']
    """
    found = liveness_problems(status)
    now = time.monotonic()
    if status.unreachable_since is not None:
        found.append(f"the event log has been unreachable for {now - status.unreachable_since:.0f} s")
    # There may be more workers than partitions: an idle one takes over when another dies.
    is_idle = status.working_since is not None and now - status.working_since >= IDLE_S
    if not status.partitions and not is_idle:
        found.append("no partition is assigned yet")
    for number in sorted(status.partitions):
        lag = status.lag.get(number)
        if lag is None:
            found.append(f"partition {number} is still being restored")
        elif lag > MAX_LAG:
            found.append(f"partition {number} is {lag:,} events behind")
    return found


@asynccontextmanager
async def serve(status: WorkerStatus, host: str, port: int) -> AsyncIterator[int]:
    """Serve ``/healthz``, ``/readyz`` and ``/metrics`` while the context is open; yields the port.

    The endpoints share the worker's event loop, so they stop answering when it hangs.

    Parameters
    ----------
    status
        The worker's status.
    host, port
        Address to listen on; port 0 picks a free port.

    Raises
    ------
    ConfigurationError
        When it cannot listen on the address.
    """
    registry = registry_of(status)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", _report(lambda: liveness_problems(status))),
            web.get("/readyz", _report(lambda: readiness_problems(status))),
            web.get("/metrics", metrics),
        ]
    )
    async with listening(app, host, port) as bound:
        yield bound


def _report(find_problems: Callable[[], list[str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def report(_: web.Request) -> web.Response:
        found = find_problems()
        return web.json_response({"ok": not found, "reasons": found}, status=503 if found else 200)

    return report
