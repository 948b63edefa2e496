"""LiteLLM routing that learns from its own traffic."""

from conduit_litellm.service import create_service
from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas import ConduitError, ConfigurationError

__all__ = ["ConduitError", "ConduitRoutingStrategy", "ConfigurationError", "create_service"]
