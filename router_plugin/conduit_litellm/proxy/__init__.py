"""Conduit in a LiteLLM proxy: its ``config.yaml`` names ``conduit_litellm.proxy.handler``."""

from conduit_litellm.proxy.proxy_handler import ProxyHandler, handler

__all__ = ["ProxyHandler", "handler"]
