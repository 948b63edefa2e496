"""Conduit in a LiteLLM proxy, set up by the proxy's config.yaml alone.

::

    litellm_settings:
      callbacks: ["conduit_litellm.proxy.handler"]
    conduit:
      objective: cost

LiteLLM has no setting for a custom routing strategy, but it imports the configured callbacks when it starts. The
callback in this module watches which router the proxy uses, and installs a strategy on it whenever it has none: at the
start, when the proxy creates the router later from its database, when it replaces the router, and when a changed
setting removes the strategy. Every worker process has its own strategy. Importing this module outside a proxy does
nothing.
"""

import asyncio
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

from conduit_litellm.litellm_compat.proxy_server import ProxyHooks, ProxyServer, flush_callbacks, running_proxy
from conduit_litellm.metrics import expose_metrics
from conduit_litellm.proxy.feedback_route import FEEDBACK_PATH, mount_feedback
from conduit_litellm.proxy.settings import read_settings
from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas import ConfigurationError

__all__ = ["DECISION_HEADER", "POLICY_HEADER", "ProxyHandler", "handler"]

_logger = logging.getLogger("conduit")

DECISION_HEADER = "x-conduit-decision-id"
"""Response header: the id of the decision behind an answer, for feedback on it."""
POLICY_HEADER = "x-conduit-policy"
"""Response header: the policy that made the decision, percent-encoded."""

_WATCH_S = 1.0
_PATIENCE_S = 5.0


class ProxyHandler(ProxyHooks):
    """Keeps a strategy on the proxy's router, and names the decision behind each answer in the response headers.

    No method raises. Each kind of error is logged once, and LiteLLM routes as it would without Conduit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._strategy: ConduitRoutingStrategy | None = None
        self._watch: asyncio.Task[None] | None = None
        self._given_up = False
        self._warned: set[str] = set()

    @property
    def strategy(self) -> ConduitRoutingStrategy | None:
        """The strategy of this process. None outside a proxy, before there is a router, and if a setting is invalid."""
        return self._strategy

    def start(self) -> None:
        """Watch the proxy's router from the running event loop. Without a proxy or a loop, do nothing."""
        if self._given_up or running_proxy() is None or not (self._watch is None or self._watch.done()):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the proxy's module is loaded, but the proxy is not running yet
            return
        self._watch = loop.create_task(self._keep_watching(), name="conduit-proxy-watch")

    def keep_installed(self) -> None:
        """Install the strategy on the proxy's current router, unless it is installed there already."""
        server = running_proxy()
        router = None if server is None else server.router
        if server is None or router is None or self._given_up:
            return
        try:
            strategy = self._strategy or self._create(server)
            if not strategy.is_installed_on(router):
                strategy.install(router)
                _logger.info("Conduit chooses the deployments of this proxy process")
        except ConfigurationError as error:
            self._given_up = True
            _logger.error(
                "%s; LiteLLM routes without Conduit until this is corrected and the proxy is restarted", error
            )
        except Exception:  # the proxy must keep serving
            self._warn_once(
                "install", "Conduit could not be installed on the proxy's router; it tries again every second"
            )

    def before_request(self) -> None:
        """Install the strategy if the router is a new one."""
        self.start()
        self.keep_installed()

    def response_headers(self, arguments: Mapping[str, Any], response: object) -> dict[str, str] | None:
        """Return the headers that name the decision; None if there was none."""
        try:
            decision = None if self._strategy is None else self._strategy.decision_behind(arguments, response)
            if decision is None:
                return None
            return {DECISION_HEADER: decision.id, POLICY_HEADER: quote(decision.policy)}
        except Exception:  # the answer matters more than its headers
            self._warn_once("headers", "the headers that name the decision could not be added to a response")
            return None

    async def _keep_watching(self) -> None:
        while not self._given_up:
            self.keep_installed()
            await asyncio.sleep(_WATCH_S)

    def _create(self, server: ProxyServer) -> ConduitRoutingStrategy:
        where = server.config_path
        settings = read_settings(server.section("conduit"), where)
        try:
            self._strategy = strategy = ConduitRoutingStrategy(**settings)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: conduit: {error}") from error
        server.before_shutdown(self._finish)
        try:
            mount_feedback(server, strategy)
        except Exception:  # the requests matter more
            self._warn_once(
                "feedback", f"POST {FEEDBACK_PATH} is not served: the route could not be added to the proxy"
            )
        if find_spec("prometheus_client") is not None:
            try:
                expose_metrics(strategy)
            except Exception:  # the requests matter more
                self._warn_once("metrics", "Conduit's metrics could not be added to the proxy's")
        return strategy

    async def _finish(self) -> None:
        """Deliver waiting events: a worker that a signal ends has no later opportunity."""
        self._given_up = True
        try:
            await asyncio.wait_for(flush_callbacks(), _PATIENCE_S)
        except Exception:  # the outcomes known so far are delivered
            self._warn_once(
                "callbacks",
                "LiteLLM did not call its callbacks for the last requests in time; their outcomes may be missing",
            )
        try:
            if self._strategy is not None:
                await self._strategy.aclose(_PATIENCE_S)
        except Exception:  # the proxy must be able to close everything else
            self._warn_once("finish", "events may have been lost when this worker ended")

    def _warn_once(self, topic: str, message: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            _logger.warning("%s (logged once)", message, exc_info=True)


handler = ProxyHandler()
handler.start()
