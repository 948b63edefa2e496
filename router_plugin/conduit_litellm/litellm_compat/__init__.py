"""All of Conduit's knowledge of LiteLLM's internals, for all supported versions.

Modules
-------
:mod:`.slot`, :mod:`.attempt`, :mod:`.python_router` and :mod:`.rust_router` insert a choice into a router's selection.
:mod:`.selecting` asks a router for its selection. :mod:`.requests` and :mod:`.stamps` read and mark requests.
:mod:`.responses` reads responses. :mod:`.callbacks` receives reports of how calls went. :mod:`.prices` and
:mod:`.models` look up what models cost and who provides them, and call a model directly. :mod:`.proxy_server` gives
access to the proxy.

How a choice enters LiteLLM's own selection
-------------------------------------------
A custom routing strategy replaces the router's selection as a whole, and with it cooldowns, health checks,
access filters, pre-call checks, tags, ``order``, routing plugins, auto routers and the reporting of failed
selections. To keep all of these, :class:`RouterSlot` lets LiteLLM's own selection run and intervenes in one step,
when the list of healthy deployments is complete. In this step, the strategy may pick one of them. If it does not,
LiteLLM picks with the router's configured ``routing_strategy``, exactly as it would without Conduit. How this step is
reached depends on LiteLLM's version: see :mod:`.python_router` for versions up to 1.109, and :mod:`.rust_router` from
1.110 on.
"""

from conduit_litellm.litellm_compat.attempt import Attempt
from conduit_litellm.litellm_compat.slot import RouterSlot, calling_object, is_filled_by

__all__ = ["Attempt", "RouterSlot", "calling_object", "is_filled_by"]
