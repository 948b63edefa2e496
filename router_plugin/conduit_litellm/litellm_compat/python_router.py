"""Inserts choices into the selection of LiteLLM's routers that are written in Python, up to version 1.109.

The selection runs on a *view* of the router: an object that shares the router's attributes, but whose class overrides
the step at which the list of healthy deployments is complete. Up to 1.108, ``Router`` contains the logic. In 1.109,
``Router`` is a facade for a core object, whose methods have the same names with a ``_core_`` prefix.
"""

import inspect
from collections.abc import Callable
from functools import cache
from types import new_class
from typing import Any

from litellm.router_strategy.simple_shuffle import simple_shuffle

from conduit_litellm.litellm_compat.attempt import Attempt
from conduit_litellm.litellm_compat.requests import LiteLLMRequest

__all__ = ["PythonRouter"]


class PythonRouter:
    """See :class:`~conduit_litellm.litellm_compat.attempt.RouterAccess`.

    Parameters
    ----------
    core
        The router; in 1.109, the core behind the facade.
    new_attempt
        Called once per selection.
    """

    def __init__(self, core: Any, new_attempt: Callable[[], Attempt]) -> None:
        kind: Any = type(core)
        self._new_attempt = new_attempt
        self._async_view, self._sync_view = _views(kind)
        # In 1.109, a wrapper resolves Kubernetes pods after the selection. The router wraps our method in it too, so
        # the router's own method is called without its wrapper.
        self._async_pick: Callable[..., Any] = inspect.unwrap(
            getattr(kind, _method_name(kind, "async_get_available_deployment"))
        )
        self._sync_pick: Callable[..., Any] = inspect.unwrap(kind.get_available_deployment)
        self._state = core.__dict__

    async def select_async(self, *, request_kwargs: dict[str, Any], **call: Any) -> Any:
        """Select for an asynchronous call."""
        attempt = self._new_attempt()
        view = self._view(self._async_view, attempt)
        deployment = await self._async_pick(view, request_kwargs=request_kwargs, **call)
        attempt.finish(deployment, LiteLLMRequest(request_kwargs))
        return deployment

    def select_sync(self, *, request_kwargs: dict[str, Any] | None, **call: Any) -> Any:
        """Select for a synchronous call."""
        attempt = self._new_attempt()
        view = self._view(self._sync_view, attempt)
        deployment = self._sync_pick(view, request_kwargs=request_kwargs, **call)
        attempt.finish(deployment, LiteLLMRequest(request_kwargs))
        return deployment

    def _view(self, view_class: type[Any], attempt: Attempt) -> Any:
        view = object.__new__(view_class)
        object.__setattr__(view, "__dict__", self._state)
        object.__setattr__(view, "conduit_attempt", attempt)
        return view


def _method_name(kind: type[Any], name: str) -> str:
    """Return a method's name in this version. In 1.109, most have moved to ``_core_<name>``."""
    return f"_core_{name}" if hasattr(kind, f"_core_{name}") else name


@cache
def _views(kind: Any) -> tuple[type[Any], type[Any]]:
    """Return the view classes of a router class, for asynchronous and synchronous selection.

    A view shares the router's ``__dict__``. The attempt is in a slot, outside that dict.
    """
    name = _method_name(kind, "async_get_healthy_deployments")
    healthy = getattr(kind, name)
    alias = _method_name(kind, "get_model_from_alias")

    async def healthy_or_picked(
        self: Any, model: str, request_kwargs: Any, messages: Any = None, input: Any = None, **rest: Any
    ) -> Any:
        found = await healthy(self, model=model, request_kwargs=request_kwargs, messages=messages, input=input, **rest)
        # A single deployment instead of a list means "use this one". If the request named it, there is nothing to
        # choose and nothing to learn. If Conduit returns one, LiteLLM uses it without further steps.
        if not isinstance(found, list):
            return found
        picked = self.conduit_attempt.pick(model, found, LiteLLMRequest(request_kwargs, messages, input))
        return found if picked is None else picked

    def routing_context(self: Any, model: str, request_kwargs: Any = None) -> tuple[str, None]:
        object.__setattr__(self, "conduit_routing", kind._get_routing_context(self, model, request_kwargs))
        return "conduit", None  # with simple-shuffle, LiteLLM would not call _select_deployment_sync

    def select(self: Any, *, strategy: Any, selector: Any, **call: Any) -> Any:
        found, model, request_kwargs = call["healthy_deployments"], call["model"], call["request_kwargs"]
        request = LiteLLMRequest(request_kwargs, call["messages"], call["input"])
        picked = self.conduit_attempt.pick(model, found, request)
        if picked is not None:
            return picked
        strategy, selector = self.conduit_routing
        if strategy == "simple-shuffle":
            return simple_shuffle(
                resolve_model_alias=getattr(self, alias),
                healthy_deployments=found,
                model=model,
                request_kwargs=request_kwargs,
            )
        return kind._select_deployment_sync(self, strategy=strategy, selector=selector, **call)

    def pre_call_check(self: Any, strategy: Any, selector: Any, deployment: Any) -> None:
        kind._override_selector_pre_call_check(self, *self.conduit_routing, deployment)

    synchronous: dict[str, Any] = {
        "_get_routing_context": routing_context,
        "_select_deployment_sync": select,
        "_override_selector_pre_call_check": pre_call_check,
    }
    if not all(hasattr(kind, step) for step in synchronous):
        synchronous = {}  # if LiteLLM lacks these steps, it serves synchronous calls without Conduit
    slots = {"__slots__": ("conduit_attempt", "conduit_routing")}
    return (
        new_class(f"{kind.__name__}View", (kind,), {}, lambda body: body.update(slots | {name: healthy_or_picked})),
        new_class(f"{kind.__name__}SyncView", (kind,), {}, lambda body: body.update(slots | synchronous)),
    )
