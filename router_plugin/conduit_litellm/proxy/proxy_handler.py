"""Conduit in a LiteLLM proxy, from its config.yaml alone.

::

    litellm_settings:
      callbacks: ["conduit_litellm.proxy.handler"]
    conduit:
      objective: cost

LiteLLM has no setting for a routing strategy from elsewhere, but it imports callbacks while it starts. The one here
watches which router the proxy uses, and makes a strategy that router's own whenever it is not: at the start,
when the router is made later from the database, when it is replaced, and when a changed setting takes the
strategy away. Every worker process has a strategy of its own. Importing this module elsewhere does nothing.
"""

import asyncio
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

from conduit_litellm.litellm_compat.proxy_server import ProxyHooks, ProxyServer, callbacks_told, running_proxy
from conduit_litellm.metrics import expose_metrics
from conduit_litellm.proxy.feedback_route import FEEDBACK_PATH, mount_feedback
from conduit_litellm.proxy.settings import read_settings
from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas import ConfigurationError

__all__ = ["DECISION_HEADER", "POLICY_HEADER", "ProxyHandler", "handler"]

_logger = logging.getLogger("conduit")

DECISION_HEADER = "x-conduit-decision-id"
"""Response header: the decision that an answer came of, for feedback on it."""
POLICY_HEADER = "x-conduit-policy"
"""Response header: the policy that made the decision, percent-encoded."""

_WATCH_S = 1.0
_PATIENCE_S = 5.0


class ProxyHandler(ProxyHooks):
    """Keeps a strategy on the proxy's router, and tells clients which decision their answer came of.

    Nothing here raises: whatever goes wrong is logged once, and LiteLLM routes as it would without Conduit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._strategy: ConduitRoutingStrategy | None = None
        self._watch: asyncio.Task[None] | None = None
        self._given_up = False
        self._said: set[str] = set()

    @property
    def strategy(self) -> ConduitRoutingStrategy | None:
        """The strategy of this process; None outside a proxy, before there is a router, and after a wrong setting."""
        return self._strategy

    def start(self) -> None:
        """Watch the proxy's router from the running event loop; without a proxy or a loop do nothing."""
        if self._given_up or running_proxy() is None or not (self._watch is None or self._watch.done()):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the proxy's module is loaded, but it does not run yet
            return
        self._watch = loop.create_task(self._keep_watching(), name="conduit-proxy-watch")

    def keep_installed(self) -> None:
        """Make the strategy that of the proxy's current router, unless it is already."""
        server = running_proxy()
        router = None if server is None else server.router
        if server is None or router is None or self._given_up:
            return
        try:
            strategy = self._strategy or self._make(server)
            if not strategy.is_installed_on(router):
                strategy.install(router)
                _logger.info("conduit chooses the deployments of this proxy (process-wide, checked all the time)")
        except ConfigurationError as error:
            self._given_up = True
            _logger.error("%s; until this is put right and the proxy started again, LiteLLM routes alone", error)
        except Exception:  # the proxy must serve whatever happens here
            self._say("install", "conduit could not be installed on the proxy's router; it is tried again and again")

    def before_request(self) -> None:
        """Look after the router, which may be a new one."""
        self.start()
        self.keep_installed()

    def response_headers(self, arguments: Mapping[str, Any], response: object) -> dict[str, str] | None:
        """Name the decision to the client."""
        try:
            decision = None if self._strategy is None else self._strategy.decision_behind(arguments, response)
            if decision is None:
                return None
            return {DECISION_HEADER: decision.id, POLICY_HEADER: quote(decision.policy)}
        except Exception:  # an answer must not be lost for its headers
            self._say("headers", "the decision could not be named in a response")
            return None

    async def _keep_watching(self) -> None:
        while not self._given_up:
            self.keep_installed()
            await asyncio.sleep(_WATCH_S)

    def _make(self, server: ProxyServer) -> ConduitRoutingStrategy:
        where = server.config_path
        settings = read_settings(server.section("conduit"), where)
        try:
            self._strategy = strategy = ConduitRoutingStrategy(**settings)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: conduit: {error}") from error
        server.before_the_end(self._finish)
        try:
            mount_feedback(server, strategy)
        except Exception:  # the requests matter more
            self._say("feedback", f"POST {FEEDBACK_PATH} is not served")
        if find_spec("prometheus_client") is not None:
            try:
                expose_metrics(strategy)
            except Exception:  # the requests matter more
                self._say("metrics", "the proxy's metrics do not show Conduit's")
        return strategy

    async def _finish(self) -> None:
        """Deliver what waits: a worker that a signal ends has no other opportunity."""
        self._given_up = True
        try:
            await asyncio.wait_for(callbacks_told(), _PATIENCE_S)
        except Exception:  # then what is known already is delivered
            self._say("callbacks", "LiteLLM did not tell its callbacks of the last requests in time")
        try:
            if self._strategy is not None:
                await self._strategy.aclose(_PATIENCE_S)
        except Exception:  # the proxy has other things to close
            self._say("finish", "events may be lost at the end of this worker")

    def _say(self, topic: str, message: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            _logger.warning("%s (said once)", message, exc_info=True)


handler = ProxyHandler()
handler.start()
