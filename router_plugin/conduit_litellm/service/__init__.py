"""The execution service: chooses a deployment, calls it, validates the answer, and learns from the result."""

from conduit_litellm.service.create import create_service
from conduit_litellm.service.errors import (
    AccessDeniedError,
    CompletionError,
    ContentPolicyError,
    ContextWindowError,
    InvalidResultError,
    ModelTimeoutError,
    ModelUnavailableError,
    RateLimitedError,
    RequestRefusedError,
)
from conduit_litellm.service.result import Completion
from conduit_litellm.service.service import Service
from conduit_litellm.service.stream import Stream

__all__ = [
    "AccessDeniedError",
    "Completion",
    "CompletionError",
    "ContentPolicyError",
    "ContextWindowError",
    "InvalidResultError",
    "ModelTimeoutError",
    "ModelUnavailableError",
    "RateLimitedError",
    "RequestRefusedError",
    "Service",
    "Stream",
    "create_service",
]
