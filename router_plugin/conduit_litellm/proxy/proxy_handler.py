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
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

from litellm.integrations.custom_logger import CustomLogger

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
_SERVER = "litellm.proxy.proxy_server"
_LAST_STEP = "proxy_shutdown_event"
"""The function of the proxy's that ends each worker, after the last request."""


class ProxyHandler(CustomLogger):
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
        if self._given_up or _server() is None or not (self._watch is None or self._watch.done()):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the proxy's module is loaded, but it does not run yet
            return
        self._watch = loop.create_task(self._keep_watching(), name="conduit-proxy-watch")

    def keep_installed(self) -> None:
        """Make the strategy that of the proxy's current router, unless it is already."""
        server = _server()
        router = getattr(server, "llm_router", None)
        if router is None or self._given_up:
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

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> None:
        """Before every request: the router may be a new one."""
        self.start()
        self.keep_installed()

    async def async_post_call_response_headers_hook(
        self,
        data: Mapping[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: Any = None,
        litellm_call_info: Any = None,
    ) -> dict[str, str] | None:
        """Name the decision to the client."""
        try:
            decision = None if self._strategy is None else self._strategy.decision_behind(data, response)
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

    def _make(self, server: Any) -> ConduitRoutingStrategy:
        where = getattr(server, "user_config_file_path", None) or "the proxy's configuration"
        settings = read_settings(_section(server), str(where))
        try:
            self._strategy = strategy = ConduitRoutingStrategy(**settings)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: conduit: {error}") from error
        _before_the_end(server, self._finish)
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
            await asyncio.wait_for(_callbacks_told(), _PATIENCE_S)
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


def _server() -> Any:
    """Return the proxy's module if this process has loaded it: importing it here would start half a proxy."""
    return sys.modules.get(_SERVER)


def _section(server: Any) -> object:
    """Return the ``conduit:`` section as the proxy read it, with ``include`` and ``os.environ/`` resolved."""
    config = getattr(getattr(server, "proxy_config", None), "config", None)
    return config.get("conduit") if isinstance(config, Mapping) else None


def _before_the_end(server: Any, finish: Any) -> None:
    """Have a worker run ``finish`` before it ends.

    A worker of uvicorn's that gets SIGTERM finishes its requests and then dies of that very signal, without
    any exit function. The one thing that is always awaited is the proxy's last step.
    """
    last_step = getattr(server, _LAST_STEP, None)
    if last_step is None:
        return

    async def finish_first(*args: Any, **kwargs: Any) -> Any:
        await finish()
        return await last_step(*args, **kwargs)

    setattr(server, _LAST_STEP, finish_first)


async def _callbacks_told() -> None:
    """Wait until LiteLLM has told its callbacks of the last requests."""
    try:
        from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER  # noqa: PLC0415 - LiteLLM's own
    except ImportError:
        return
    await GLOBAL_LOGGING_WORKER.flush()


handler = ProxyHandler()
handler.start()
