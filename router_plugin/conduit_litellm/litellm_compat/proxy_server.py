"""The LiteLLM proxy that this process runs, if it runs one: its router, its configuration, its hooks, its end."""

import sys
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

__all__ = ["ProxyHooks", "ProxyServer", "callbacks_told", "running_proxy"]

_MODULE = "litellm.proxy.proxy_server"
_LAST_STEP = "proxy_shutdown_event"
"""The function of the proxy's that ends each worker, after the last request."""


def running_proxy() -> "ProxyServer | None":
    """Return the proxy if this process has loaded it: importing it here would start half a proxy."""
    module = sys.modules.get(_MODULE)
    return None if module is None else ProxyServer(module)


class ProxyServer:
    """What Conduit reads of the proxy's module, and does to it.

    Parameters
    ----------
    module
        ``litellm.proxy.proxy_server``.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    @property
    def router(self) -> Any:
        """The router that serves now; None until the proxy has made one."""
        return getattr(self._module, "llm_router", None)

    @property
    def config_path(self) -> str:
        """Where the configuration stands, for messages."""
        return str(getattr(self._module, "user_config_file_path", None) or "the proxy's configuration")

    def section(self, name: str) -> object:
        """Return a section of the configuration as the proxy read it, ``include`` and ``os.environ/`` resolved."""
        config = getattr(getattr(self._module, "proxy_config", None), "config", None)
        return config.get(name) if isinstance(config, Mapping) else None

    def mount(self, path: str, endpoint: Callable[..., Any]) -> None:
        """Serve ``POST path``, for everybody whose key may call a model.

        Parameters
        ----------
        endpoint
            A FastAPI endpoint.
        """
        from fastapi import Depends  # noqa: PLC0415 - only a proxy has it
        from litellm.proxy._types import LiteLLMRoutes  # noqa: PLC0415 - only a proxy needs it

        checked = [Depends(self._module.user_api_key_auth)]
        self._module.app.add_api_route(path, endpoint, methods=["POST"], tags=["conduit"], dependencies=checked)
        if path not in LiteLLMRoutes.openai_routes.value:  # what any key may call, not the master key alone
            LiteLLMRoutes.openai_routes.value.append(path)

    def before_the_end(self, finish: Callable[[], Awaitable[None]]) -> None:
        """Have a worker run ``finish`` before it ends.

        A worker of uvicorn's that gets SIGTERM finishes its requests and then dies of that very signal, without
        any exit function. The one thing that is always awaited is the proxy's last step.
        """
        last_step = getattr(self._module, _LAST_STEP, None)
        if last_step is None:
            return

        async def finish_first(*args: Any, **kwargs: Any) -> Any:
            await finish()
            return await last_step(*args, **kwargs)

        setattr(self._module, _LAST_STEP, finish_first)


class ProxyHooks(CustomLogger):
    """What the proxy calls around its requests; the parameters' names are LiteLLM's."""

    def __init_subclass__(cls) -> None:
        # LiteLLM calls some hooks only if the callback's own class defines them: an inherited one is passed over.
        cls.async_pre_call_hook = ProxyHooks.async_pre_call_hook  # type: ignore[method-assign]  # the very same
        cls.async_post_call_response_headers_hook = (  # type: ignore[method-assign]  # as above
            ProxyHooks.async_post_call_response_headers_hook
        )

    @abstractmethod
    def before_request(self) -> None:
        """Do what is to be done before every request. Must not raise."""

    @abstractmethod
    def response_headers(self, arguments: Mapping[str, Any], response: object) -> dict[str, str] | None:
        """Return headers to add to a response, given the request's arguments. Must not raise."""

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> None:
        """Before every request."""
        self.before_request()

    async def async_post_call_response_headers_hook(
        self,
        data: Mapping[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: Any = None,
        litellm_call_info: Any = None,
    ) -> dict[str, str] | None:
        """Before the headers of a response are sent."""
        return self.response_headers(data, response)


async def callbacks_told() -> None:
    """Wait until LiteLLM has told its callbacks of the last requests, which it does in a queue of its own."""
    try:
        from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER  # noqa: PLC0415 - LiteLLM's own
    except ImportError:
        return
    await GLOBAL_LOGGING_WORKER.flush()
