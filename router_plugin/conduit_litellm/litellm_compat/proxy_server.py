"""Access to the LiteLLM proxy in this process, if any: its router, configuration, hooks and shutdown."""

import sys
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

__all__ = ["ProxyHooks", "ProxyServer", "flush_callbacks", "running_proxy"]

_MODULE = "litellm.proxy.proxy_server"
_LAST_STEP = "proxy_shutdown_event"
"""The proxy's function that runs at the end of each worker, after the last request."""


def running_proxy() -> "ProxyServer | None":
    """Return the proxy if this process has loaded it. Importing it here would start half a proxy."""
    module = sys.modules.get(_MODULE)
    return None if module is None else ProxyServer(module)


class ProxyServer:
    """The proxy's module, as far as Conduit uses it.

    Parameters
    ----------
    module
        ``litellm.proxy.proxy_server``.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    @property
    def router(self) -> Any:
        """The router that currently serves; None until the proxy has created one."""
        return getattr(self._module, "llm_router", None)

    @property
    def config_path(self) -> str:
        """The path of the configuration, for messages."""
        return str(getattr(self._module, "user_config_file_path", None) or "the proxy's configuration")

    def section(self, name: str) -> object:
        """Return a section of the proxy's configuration, with ``include`` and ``os.environ/`` resolved."""
        config = getattr(getattr(self._module, "proxy_config", None), "config", None)
        return config.get(name) if isinstance(config, Mapping) else None

    def mount(self, path: str, endpoint: Callable[..., Any]) -> None:
        """Serve ``POST path``, for every key that may call a model.

        Parameters
        ----------
        endpoint
            A FastAPI endpoint.
        """
        from fastapi import Depends  # noqa: PLC0415 - only a proxy has it
        from litellm.proxy._types import LiteLLMRoutes  # noqa: PLC0415 - only a proxy needs it

        checked = [Depends(self._module.user_api_key_auth)]
        self._module.app.add_api_route(path, endpoint, methods=["POST"], tags=["conduit"], dependencies=checked)
        if path not in LiteLLMRoutes.openai_routes.value:  # routes that every key may call, not only the master key
            LiteLLMRoutes.openai_routes.value.append(path)

    def before_shutdown(self, finish: Callable[[], Awaitable[None]]) -> None:
        """Run ``finish`` before a worker ends.

        A uvicorn worker that receives SIGTERM finishes its requests and then kills itself with the same signal, without
        running exit functions. Only the proxy's shutdown function is always awaited.
        """
        last_step = getattr(self._module, _LAST_STEP, None)
        if last_step is None:
            return

        async def finish_first(*args: Any, **kwargs: Any) -> Any:
            await finish()
            return await last_step(*args, **kwargs)

        setattr(self._module, _LAST_STEP, finish_first)


class ProxyHooks(CustomLogger):
    """The hooks that the proxy calls around its requests. The parameters' names are LiteLLM's."""

    def __init_subclass__(cls) -> None:
        # LiteLLM calls some hooks only if the callback's own class defines them: an inherited one is passed over.
        cls.async_pre_call_hook = ProxyHooks.async_pre_call_hook  # type: ignore[method-assign]  # the very same
        cls.async_post_call_response_headers_hook = (  # type: ignore[method-assign]  # as above
            ProxyHooks.async_post_call_response_headers_hook
        )

    @abstractmethod
    def before_request(self) -> None:
        """Called before every request. Must not raise."""

    @abstractmethod
    def response_headers(self, arguments: Mapping[str, Any], response: object) -> dict[str, str] | None:
        """Return headers to add to a response, given the request's arguments. Must not raise."""

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> None:
        """LiteLLM calls this before every request."""
        self.before_request()

    async def async_post_call_response_headers_hook(
        self,
        data: Mapping[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: Any = None,
        litellm_call_info: Any = None,
    ) -> dict[str, str] | None:
        """LiteLLM calls this before it sends the headers of a response."""
        return self.response_headers(data, response)


async def flush_callbacks() -> None:
    """Wait until LiteLLM has called its callbacks for the last requests, which wait in a queue of LiteLLM's."""
    try:
        from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER  # noqa: PLC0415 - LiteLLM's own
    except ImportError:
        return
    await GLOBAL_LOGGING_WORKER.flush()
