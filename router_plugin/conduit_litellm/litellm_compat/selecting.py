"""Asks a router which deployment it would call, without calling it."""

from typing import Any

from litellm.router import Router

__all__ = ["select_deployment"]


async def select_deployment(router: Router, model_group: str, messages: Any, request_kwargs: dict[str, Any]) -> Any:
    """Return the deployment that a router selects for a request, using the public method of the LiteLLM version.

    Parameters
    ----------
    router
        Any router, with or without Conduit installed on it.
    model_group
        The group that the request names.
    messages
        The request's messages.
    request_kwargs
        The request's other arguments. Conduit adds its decision's id to their ``metadata``.
    """
    if hasattr(router, "select"):  # LiteLLM 1.109 and later
        return await router.select(model_group, request_kwargs, messages=messages)
    return await router.async_get_available_deployment(model_group, request_kwargs, messages)
