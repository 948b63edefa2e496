"""LiteLLM routing that learns from its own traffic."""

from importlib.metadata import version

from conduit_litellm.decisions.judgements import Judgement, edited, rating, regenerated, thumbs
from conduit_litellm.feedback.judge import Judge, Verdict
from conduit_litellm.service import create_service
from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas import ConduitError, ConfigurationError

__all__ = [
    "ConduitError",
    "ConduitRoutingStrategy",
    "ConfigurationError",
    "Judge",
    "Judgement",
    "Verdict",
    "__version__",
    "create_service",
    "edited",
    "rating",
    "regenerated",
    "thumbs",
]

__version__ = version("conduit-litellm")
