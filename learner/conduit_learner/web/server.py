"""The web page's server: static files, the view as JSON, and changes of routing settings with a token."""

import asyncio
import ipaddress
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import Any, get_args

from aiohttp import web

from conduit_learner.view.follow import Following
from conduit_learner.view.installation import InstallationView
from conduit_learner.view.json_text import json_text
from conduit_learner.view.policy import PolicyView
from conduit_learner.view.report import installation_report, policy_report
from conduit_learner.view.timeline import RANGES
from conduit_learner.web.routing_changes import RoutingChanges
from conduit_learner.worker.listening import listening
from conduit_log import LogUnavailableError
from conduit_policy import PRESETS
from conduit_schemas import ConfigurationError, Mode, RoutingSettings

__all__ = ["Page", "is_loopback", "serve_page"]

_FRESH_S = 1.0
"""Minimum age of a report before it is computed again, however many requests ask for it."""

_MAX_REQUEST = 4096
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    # No script, style, font, image or connection from other origins, nothing inline, and no embedding in other pages.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """The data that the page shows.

    Parameters
    ----------
    view
        The installation, as far as it has been read.
    following
        The progress of reading.
    where
        Name of the log, in words.
    spooled
        Returns the number of bytes that wait for the log on this machine's disk, or None if it is unknown.
    changes
        Changes settings; without it the page is read-only.
    """

    def __init__(
        self,
        view: InstallationView,
        following: Following,
        where: str,
        spooled: Callable[[], int | None] = lambda: None,
        changes: RoutingChanges | None = None,
    ) -> None:
        self.view = view
        self.following = following
        self.where = where
        self.changes = changes
        self._spooled = spooled
        self._made: dict[tuple[str, str], tuple[float, bytes]] = {}
        self._making: dict[tuple[str, str], asyncio.Task[bytes]] = {}

    def installation(self) -> bytes:
        """Return :func:`installation_report` and the progress of reading, as JSON."""
        following = self.following
        away = following.away_since
        return json_text(
            {
                **installation_report(self.view, now_ms=_now_ms()),
                "version": version("conduit-litellm"),
                "log": self.where,
                "reading": {
                    "read": following.read,
                    "to_read": following.to_read,
                    "skipped": following.skipped,
                    "is_complete": following.is_complete,
                    "away_s": None if away is None else time.monotonic() - away,
                    "trouble": following.trouble if away is not None else "",
                },
                "spool_bytes": self._spooled(),
                "can_write": self.changes is not None,
                "choices": {
                    "modes": get_args(Mode),
                    "presets": list(PRESETS),
                    "canary_share": RoutingSettings().canary_share,
                },
            }
        ).encode()

    async def policy(self, name: str, range_: str) -> bytes | None:
        """Return :func:`policy_report` as JSON, at most a second old; None if there is no such policy.

        The report is computed in another thread, because the first savings of a large log take seconds. Requests that
        arrive meanwhile wait for the same report.
        """
        policy = self.view.policies.get(name)
        if policy is None:
            return None
        made_at, body = self._made.get((name, range_), (-math.inf, b""))
        if time.monotonic() - made_at >= _FRESH_S:
            making = self._making.get((name, range_))
            if making is None:
                making = self._making[name, range_] = asyncio.create_task(self._make(policy, range_), name="report")
            body = await asyncio.shield(making)  # a client that disconnects must not cancel it for the others
        return body

    async def _make(self, policy: PolicyView, range_: str) -> bytes:
        try:
            # The lock stops reading meanwhile; new messages wait in the log.
            async with self.following.lock:
                body = await asyncio.to_thread(
                    lambda: json_text(policy_report(policy, range_, now_ms=_now_ms())).encode()
                )
            self._made[policy.name, range_] = time.monotonic(), body
            return body
        finally:
            del self._making[policy.name, range_]


@asynccontextmanager
async def serve_page(page: Page, host: str, port: int) -> AsyncIterator[int]:
    """Serve the page while the context is open; yields the port.

    On a loopback address, only requests addressed to this machine are answered. Otherwise a web site could use its own
    host name to make a visitor's browser read the page (DNS rebinding).

    Parameters
    ----------
    page
        The data to show.
    host, port
        Address to listen on; port 0 picks a free port.

    Raises
    ------
    ConfigurationError
        When it cannot listen on the address.
    """
    static = {entry.name: entry.read_bytes() for entry in files(__package__).joinpath("static").iterdir()}

    async def asset(request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        if name not in static:
            raise web.HTTPNotFound(text=f"there is no {name}\n")
        kind = _TYPES[f".{name.rpartition('.')[2]}"]
        return web.Response(body=static[name], content_type=kind, charset="utf-8")

    async def installation(_: web.Request) -> web.Response:
        return _answer(page.installation())

    async def policy(request: web.Request) -> web.Response:
        name, range_ = request.query.get("name", ""), request.query.get("range", "hour")
        if range_ not in RANGES:
            raise web.HTTPBadRequest(text=f"range {range_[:40]!r} is not one of {', '.join(RANGES)}\n")
        body = await page.policy(name, range_)
        if body is None:
            raise web.HTTPNotFound(text=f"no policy {name[:200]!r} has been seen in the log\n")
        return _answer(body)

    async def change(request: web.Request) -> web.Response:
        if page.changes is None:
            raise web.HTTPForbidden(
                text="this page is read-only: set CONDUIT_WEB_TOKEN in its environment to change it\n"
            )
        if not page.changes.allows(request.headers.get("Authorization", "")):
            raise web.HTTPUnauthorized(text="wrong token\n", headers={"WWW-Authenticate": "Bearer"})
        try:
            wanted = await request.json()
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"not JSON: {error}\n") from error
        policy = page.view.policies.get(str(wanted.get("policy"))) if isinstance(wanted, dict) else None
        if policy is None:
            raise web.HTTPNotFound(text="no such policy has been seen in the log\n")
        try:
            made = await page.changes.change(policy, wanted)
        except ConfigurationError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        except LogUnavailableError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from error
        return _answer(made.model_dump_json().encode())

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application(middlewares=[_guard(_hosts(host))], client_max_size=_MAX_REQUEST)
    app.on_response_prepare.append(_add_headers)
    app.add_routes(
        [
            web.get("/", asset),
            web.get("/static/{name}", asset),
            web.get("/api/installation", installation),
            web.get("/api/policy", policy),
            web.post("/api/routing", change),
            web.get("/healthz", health),
        ]
    )
    async with listening(app, host, port) as bound:
        yield bound


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable from this machine only.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hosts(host: str) -> frozenset[str] | None:
    """Return the host names that requests may use; None for any."""
    return frozenset({"localhost", "127.0.0.1", "::1", host}) if is_loopback(host) else None


def _guard(hosts: frozenset[str] | None) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if hosts is not None and (request.url.host or "") not in hosts:
            raise web.HTTPMisdirectedRequest(
                text=f"this page does not serve the host {(request.url.host or '')[:100]!r}\n"
            )
        return await handler(request)

    return guard


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _answer(body: bytes) -> web.Response:
    response = web.Response(body=body, content_type="application/json", charset="utf-8")
    response.enable_compression()
    return response


def _now_ms() -> int:
    return int(time.time() * 1000)
