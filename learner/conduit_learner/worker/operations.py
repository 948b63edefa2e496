"""What operators ask a learner over HTTP: does it live, is it ready, what does it measure."""

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
"""A worker that has not got on for so long is stuck. Its longest wait, for a broker, is far shorter."""

MAX_LAG = 10_000
"""Events of one partition that a worker may be behind and still be ready."""

IDLE_S = 15.0
"""A worker that owns nothing is ready after so long: by then a group has dealt out its partitions."""


def liveness_problems(status: WorkerStatus) -> list[str]:
    """Return why a worker had better be restarted; empty when it is well.

    A log that is away is no ailment: a restart would not bring it back.

    Examples
    --------
    >>> liveness_problems(WorkerStatus())
    []
    """
    silence = time.monotonic() - status.turned_at
    return [f"the worker has not got on for {silence:.0f} s"] if silence > MAX_SILENCE_S else []


def readiness_problems(status: WorkerStatus) -> list[str]:
    """Return what keeps a worker from being up to date; empty when it is ready.

    Examples
    --------
    >>> readiness_problems(WorkerStatus())
    ['no partition is assigned yet']
    """
    found = liveness_problems(status)
    now = time.monotonic()
    if status.away_since is not None:
        found.append(f"the event log has been away for {now - status.away_since:.0f} s")
    # More workers than partitions are welcome: the idle ones take over when another dies.
    is_idle = status.working_since is not None and now - status.working_since >= IDLE_S
    if not status.partitions and not is_idle:
        found.append("no partition is assigned yet")
    for number in sorted(status.partitions):
        lag = status.lag.get(number)
        if lag is None:
            found.append(f"partition {number} is being taken over")
        elif lag > MAX_LAG:
            found.append(f"partition {number} is {lag:,} events behind")
    return found


@asynccontextmanager
async def serve(status: WorkerStatus, host: str, port: int) -> AsyncIterator[int]:
    """Answer ``/healthz``, ``/readyz`` and ``/metrics`` for as long as the context lasts; yields the port.

    It shares the worker's event loop, so that a loop which does not turn does not answer either.

    Parameters
    ----------
    status
        The worker's.
    host, port
        Where to listen; port 0 takes a free one.

    Raises
    ------
    ConfigurationError
        When that is not possible.
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


def _report(objections: Callable[[], list[str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def report(_: web.Request) -> web.Response:
        found = objections()
        return web.json_response({"ok": not found, "reasons": found}, status=503 if found else 200)

    return report
