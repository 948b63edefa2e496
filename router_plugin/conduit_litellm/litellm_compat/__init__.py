"""Everything Conduit knows about LiteLLM's insides, for all supported versions, in one place.

What is where
-------------
:mod:`.slot`, :mod:`.attempt`, :mod:`.python_router` and :mod:`.rust_router` let a choice enter a router's selection;
:mod:`.selecting` asks a router for one. :mod:`.requests` and :mod:`.stamps` read and mark requests, :mod:`.responses`
reads responses, :mod:`.callbacks` is told how calls went. :mod:`.prices` and :mod:`.models` say what models cost,
who provides them, and call one directly. :mod:`.proxy_server` is the proxy.

How a choice enters LiteLLM's own selection
-------------------------------------------
A custom routing strategy replaces the router's selection as a whole, and with it cooldowns, health checks,
access filters, pre-call checks, tags, ``order``, routing plugins, auto routers and the reporting of failed
selections. To lose none of these, :class:`RouterSlot` lets LiteLLM's own selection run and enters at one step,
the one at which the list of healthy deployments is complete. There the strategy may pick one of them. When it
does not, LiteLLM goes on and picks with the router's configured ``routing_strategy``, exactly as it would without
Conduit. How that step is reached is a matter of LiteLLM's version: :mod:`.python_router` up to 1.109,
:mod:`.rust_router` from 1.110 on.
"""

from conduit_litellm.litellm_compat.attempt import Attempt
from conduit_litellm.litellm_compat.slot import RouterSlot, calling_object, is_filled_by

__all__ = ["Attempt", "RouterSlot", "calling_object", "is_filled_by"]
