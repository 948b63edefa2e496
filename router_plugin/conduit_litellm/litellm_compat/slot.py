"""The slot: the pair of methods that a strategy installs on a router, and how the slot finds its router.

``strategy.install(router)`` names the router. ``router.set_custom_routing_strategy(strategy)`` and
``router.register_plugin(strategy)``, which LiteLLM's users know, do not: LiteLLM only reads the strategy's two methods.
For these two, Conduit inspects the caller's frame, and if the router is not there, searches the garbage collector's
list of objects.
"""

import gc
import inspect
import sys
import weakref
from collections.abc import Callable
from typing import Any

from litellm.router import Router

from conduit_litellm.litellm_compat import rust_router
from conduit_litellm.litellm_compat.attempt import Attempt, RouterAccess
from conduit_litellm.litellm_compat.python_router import PythonRouter
from conduit_litellm.litellm_compat.rust_router import RustRouter
from conduit_schemas import ConfigurationError

__all__ = ["RouterSlot", "calling_object", "carries", "is_filled_by"]

_SELECTORS = ("get_available_deployment", "async_get_available_deployment")


class RouterSlot:
    """The pair of methods that a strategy installs on ONE router.

    Parameters
    ----------
    new_attempt
        Called once per selection.
    hint
        The object that is probably the router, if :meth:`install` is not used. It is checked on the first call.
    """

    def __init__(self, new_attempt: Callable[[], Attempt], hint: object = None) -> None:
        self.new_attempt = new_attempt
        self._hint = _weak_reference(hint)
        self._router: RouterAccess | None = None

    async def async_get_available_deployment(
        self,
        model: str,
        request_kwargs: dict[str, Any],
        messages: Any = None,
        input: Any = None,
        specific_deployment: bool | None = False,
    ) -> Any:
        """Select for LiteLLM's asynchronous calls. The parameters are those of the router's own method."""
        router = self._router or self._attach(self._find_router())
        return await router.select_async(
            model=model,
            request_kwargs=request_kwargs,
            messages=messages,
            input=input,
            specific_deployment=specific_deployment,
        )

    def get_available_deployment(
        self,
        model: str,
        messages: Any = None,
        input: Any = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Select for LiteLLM's synchronous calls. The parameters are those of the router's own method."""
        router = self._router or self._attach(self._find_router())
        return router.select_sync(
            model=model,
            request_kwargs=request_kwargs,
            messages=messages,
            input=input,
            specific_deployment=specific_deployment,
        )

    def install(self, router: Any) -> None:
        """Install this slot on a router as its routing strategy. The router then need not be searched for."""
        core = _core(router)
        # LiteLLM reads only the two selection methods of a strategy.
        if hasattr(core, "register_plugin"):
            core.register_plugin(self)
        else:
            core.set_custom_routing_strategy(self)
        self._attach(core)

    def enter_if_rust(self, core: object) -> None:
        """Attach to a router written in Rust that is reading the slot's methods: its first call would be too late."""
        if rust_router.is_rust(core):
            self._attach(core)

    def _attach(self, core: Any) -> RouterAccess:
        router: RouterAccess
        if rust_router.is_rust(core):
            router = RustRouter(core, self.new_attempt, self.get_available_deployment)
        else:
            router = PythonRouter(core, self.new_attempt)
        self._router = router
        return router

    def _find_router(self) -> Any:
        """Return the router that this slot is installed on.

        Called on the first selection of a strategy that was not installed with :meth:`install`, because LiteLLM never
        tells a strategy which router it is on. The object that read the methods is almost always the router. If it is
        not, the router that stores them is searched for, once.
        """
        hinted = self._hint() if self._hint is not None else None
        if hinted is not None and carries(hinted, self):
            return _core(hinted)
        for candidate in gc.get_objects():
            if issubclass(type(candidate), _ROUTER) and carries(candidate, self):
                return _core(candidate)
        raise ConfigurationError(
            "this routing strategy is not installed on a router: call strategy.install(router) or "
            "router.set_custom_routing_strategy(strategy) before using it"
        )


def calling_object() -> object:
    """Return ``self`` of the method that read one of a strategy's methods; None if it has none.

    ``Router.set_custom_routing_strategy`` reads the strategy's methods and stores them on itself.
    :meth:`RouterSlot.install` does not need this.
    """
    frame = sys._getframe(3)  # skips this function, the strategy's helper, and its property
    return frame.f_locals.get("self")


def carries(router: object, slot: RouterSlot) -> bool:
    """Return whether a slot is installed on a router."""
    return any(found is slot for found in _slots(router))


def is_filled_by(router: object, new_attempt: Callable[[], Attempt]) -> bool:
    """Return whether every selection of a router starts with such an attempt."""
    core = _core(router)
    if rust_router.is_rust(core):
        return rust_router.is_entered_by(core, new_attempt)
    return [slot.new_attempt for slot in _slots(core)] == [new_attempt] * len(_SELECTORS)


def _slots(router: object) -> list[RouterSlot]:
    """Return the slots that a router's selection methods belong to."""
    stored = getattr(_core(router), "__dict__", {})
    methods = (stored.get(f"_core_{name}") or stored.get(name) for name in _SELECTORS)
    owners = (getattr(inspect.unwrap(method), "__self__", None) for method in methods if method)
    return [owner for owner in owners if isinstance(owner, RouterSlot)]


def _core(router: Any) -> Any:
    return getattr(router, "__dict__", {}).get("_core", router)


def _core_class() -> type[Any]:
    found = getattr(Router, "_core_class", Router)  # LiteLLM 1.109
    kind: type[Any] = found if isinstance(found, type) else Router
    return rust_router.core_class() or kind


_ROUTER = _core_class()


def _weak_reference(something: object) -> "weakref.ref[Any] | None":
    try:
        return weakref.ref(something)
    except TypeError:  # not every object can be weakly referenced; routers can
        return None
