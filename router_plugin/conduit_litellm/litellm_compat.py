"""Everything Conduit knows about LiteLLM's insides, for all supported versions, in one place.

How a choice enters LiteLLM's own selection
-------------------------------------------
A custom routing strategy replaces the router's selection as a whole, and with it cooldowns, health checks,
access filters, pre-call checks, tags, ``order``, routing plugins, auto routers and the reporting of failed
selections. To lose none of these, :class:`RouterSlot` runs LiteLLM's own selection on a *view* of the router:
an object with the router's very own attributes whose class overrides one step, the one at which the list of
healthy deployments is complete. There the strategy may pick one of them. When it does not, LiteLLM goes on
and picks with the router's configured ``routing_strategy``, exactly as it would without Conduit.

Up to 1.108 ``Router`` holds the logic; from 1.109 on ``Router`` is a facade of a core object, whose methods
carry the same names with a ``_core_`` prefix.
"""

import gc
import inspect
import sys
import weakref
from collections.abc import Callable, Mapping
from functools import cache
from types import new_class
from typing import Any, Protocol

from litellm.router import Router
from litellm.router_strategy.simple_shuffle import simple_shuffle

from conduit_schemas import ConfigurationError

__all__ = ["Attempt", "Deployment", "RouterSlot", "calling_object", "is_filled_by"]

Deployment = Mapping[str, Any]
"""One entry of a router's model list."""


class Attempt(Protocol):
    """One selection as the strategy sees it."""

    def offer(
        self, model: str, found: Any, messages: Any, input: Any, request_kwargs: dict[str, Any] | None
    ) -> Deployment | None:
        """Pick one of the healthy deployments, or return None to leave the pick to LiteLLM. Never raises."""
        ...

    def finish(self, deployment: Deployment, request_kwargs: dict[str, Any] | None) -> None:
        """Learn which deployment was selected in the end. Never raises."""
        ...


class RouterSlot:
    """The pair of methods that a strategy puts on ONE router.

    Parameters
    ----------
    new_attempt
        Called once per selection.
    hint
        What probably is the router; it is checked on the first call.
    """

    def __init__(self, new_attempt: Callable[[], Attempt], hint: object = None) -> None:
        self.new_attempt = new_attempt
        self._hint = _weakly(hint)
        self._state: dict[str, Any] | None = None
        self._async_view: type[Any] = object
        self._sync_view: type[Any] = object
        self._async_pick: Callable[..., Any]
        self._sync_pick: Callable[..., Any]

    async def async_get_available_deployment(
        self,
        model: str,
        request_kwargs: dict[str, Any],
        messages: Any = None,
        input: Any = None,
        specific_deployment: bool | None = False,
    ) -> Any:
        """Select for LiteLLM's asynchronous calls; same parameters as the router's own method."""
        if self._state is None:
            self._attach(self._find_router())
        attempt = self.new_attempt()
        deployment = await self._async_pick(
            self._view(self._async_view, attempt),
            model=model,
            request_kwargs=request_kwargs,
            messages=messages,
            input=input,
            specific_deployment=specific_deployment,
        )
        attempt.finish(deployment, request_kwargs)
        return deployment

    def get_available_deployment(
        self,
        model: str,
        messages: Any = None,
        input: Any = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Select for LiteLLM's synchronous calls; same parameters as the router's own method."""
        if self._state is None:
            self._attach(self._find_router())
        attempt = self.new_attempt()
        deployment = self._sync_pick(
            self._view(self._sync_view, attempt),
            model=model,
            messages=messages,
            input=input,
            specific_deployment=specific_deployment,
            request_kwargs=request_kwargs,
        )
        attempt.finish(deployment, request_kwargs)
        return deployment

    def install(self, router: Any) -> None:
        """Put this slot on a router as its routing strategy."""
        core = _core(router)
        self._attach(core)
        # LiteLLM reads exactly these two attributes of a strategy.
        if hasattr(core, "register_plugin"):
            core.register_plugin(self)
        else:
            core.set_custom_routing_strategy(self)

    def _view(self, view_class: type[Any], attempt: Attempt) -> Any:
        view = object.__new__(view_class)
        object.__setattr__(view, "__dict__", self._state)
        object.__setattr__(view, "conduit_attempt", attempt)
        return view

    def _attach(self, core: Any) -> None:
        kind: Any = type(core)
        self._async_view, self._sync_view = _views(kind)
        # From 1.109 on a wrapper resolves Kubernetes pods afterwards. The router wraps our method in the same way,
        # so the one around its own is taken off.
        self._async_pick = inspect.unwrap(getattr(kind, _named(kind, "async_get_available_deployment")))
        self._sync_pick = inspect.unwrap(kind.get_available_deployment)
        self._state = core.__dict__

    def _find_router(self) -> Any:
        """Return the router that carries this slot.

        LiteLLM never tells a strategy which router it is on. The object that asked for the methods is almost
        always the router; where it is not, the one that stores them is searched for, once.
        """
        hinted = self._hint() if self._hint is not None else None
        if hinted is not None and carries(hinted, self):
            return _core(hinted)
        for candidate in gc.get_objects():
            if issubclass(type(candidate), _ROUTER) and carries(candidate, self):
                return _core(candidate)
        raise ConfigurationError(
            "this routing strategy is on no router: call strategy.install(router) or "
            "router.set_custom_routing_strategy(strategy) before using it"
        )


def calling_object() -> object:
    """Return ``self`` of the method that asked a strategy for one of its methods, if it has one.

    ``Router.set_custom_routing_strategy`` reads the strategy's methods and stores them on itself.
    """
    frame = sys._getframe(3)  # this function, the strategy's helper, its property: then whoever asked
    return frame.f_locals.get("self")


def carries(router: object, slot: RouterSlot) -> bool:
    """Say whether a router has this slot's methods as its own."""
    return any(found is slot for found in _slots(router))


def is_filled_by(router: object, new_attempt: Callable[[], Attempt]) -> bool:
    """Say whether every selection of a router starts with an attempt of this kind."""
    return [slot.new_attempt for slot in _slots(router)] == [new_attempt] * len(_SELECTORS)


def _slots(router: object) -> list[RouterSlot]:
    """Return the slot behind each of a router's methods that has one."""
    core = _core(router)
    stored = getattr(core, "__dict__", {})
    methods = (stored.get(_named(type(core), name)) for name in _SELECTORS)
    owners = (getattr(inspect.unwrap(method), "__self__", None) for method in methods if method)
    return [owner for owner in owners if isinstance(owner, RouterSlot)]


_SELECTORS = ("get_available_deployment", "async_get_available_deployment")


def _core(router: Any) -> Any:
    return getattr(router, "__dict__", {}).get("_core", router)


def _core_class() -> type[Any]:
    kind: type[Any] = getattr(Router, "_core_class", Router)
    return kind


_ROUTER = _core_class()


def _named(kind: type[Any], name: str) -> str:
    """Return a method's name in this version: from 1.109 on most moved to ``_core_<name>``."""
    return f"_core_{name}" if hasattr(kind, f"_core_{name}") else name


def _weakly(something: object) -> "weakref.ref[Any] | None":
    try:
        return weakref.ref(something)
    except TypeError:  # not every object can be referred to weakly; routers can
        return None


@cache
def _views(kind: Any) -> tuple[type[Any], type[Any]]:
    """Return the view classes of a router class, for asynchronous and synchronous selection.

    A view shares the router's ``__dict__``; the attempt is kept in a slot, outside of it.
    """
    name = _named(kind, "async_get_healthy_deployments")
    healthy = getattr(kind, name)
    alias = _named(kind, "get_model_from_alias")

    async def offered(
        self: Any, model: str, request_kwargs: Any, messages: Any = None, input: Any = None, **rest: Any
    ) -> Any:
        found = await healthy(self, model=model, request_kwargs=request_kwargs, messages=messages, input=input, **rest)
        picked = self.conduit_attempt.offer(model, found, messages, input, request_kwargs)
        # A single deployment in place of a list means "this one": LiteLLM takes it without further ado.
        return found if picked is None else picked

    def routing_context(self: Any, model: str, request_kwargs: Any = None) -> tuple[str, None]:
        object.__setattr__(self, "conduit_routing", kind._get_routing_context(self, model, request_kwargs))
        return "conduit", None  # any name but simple-shuffle, which would not ask _select_deployment_sync

    def select(self: Any, *, strategy: Any, selector: Any, **call: Any) -> Any:
        found, model, request_kwargs = call["healthy_deployments"], call["model"], call["request_kwargs"]
        picked = self.conduit_attempt.offer(model, found, call["messages"], call["input"], request_kwargs)
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
        synchronous = {}  # a LiteLLM without these steps serves synchronous calls by itself
    slots = {"__slots__": ("conduit_attempt", "conduit_routing")}
    return (
        new_class(f"{kind.__name__}View", (kind,), {}, lambda body: body.update(slots | {name: offered})),
        new_class(f"{kind.__name__}SyncView", (kind,), {}, lambda body: body.update(slots | synchronous)),
    )
