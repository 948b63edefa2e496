"""The errors of requests to the service. They are the same for all backends.

::

    ConduitError
    ├── ConfigurationError            the service was set up or called with invalid arguments
    └── CompletionError               there is no usable answer
        ├── RequestRefusedError       the request itself is at fault: every model would refuse it
        │   ├── ContextWindowError    it is too long for the model
        │   └── ContentPolicyError    its content is not allowed
        ├── AccessDeniedError         a key is missing, invalid, not permitted or out of credit
        ├── RateLimitedError          a rate limit or a budget is exhausted for now
        ├── ModelTimeoutError         no answer in time; also a TimeoutError
        ├── ModelUnavailableError     a provider fails, cannot be reached, or all models are cooling down
        └── InvalidResultError        the answer is not of the requested type, even after a repair

Each is raised after all retries and fallbacks. Its cause is the provider's own error.
"""

from collections.abc import Sequence
from typing import Self

from pydantic import ValidationError

from conduit_litellm.service.result_type import describe_errors
from conduit_schemas import ConduitError

__all__ = [
    "AccessDeniedError",
    "CompletionError",
    "ContentPolicyError",
    "ContextWindowError",
    "InvalidResultError",
    "ModelTimeoutError",
    "ModelUnavailableError",
    "RateLimitedError",
    "RequestRefusedError",
    "kind_of_status",
]


class CompletionError(ConduitError):
    """Base class of all errors that leave a request without a usable answer.

    Attributes
    ----------
    model
        The model that was called last; None if none was.
    decision_ids
        The ids of the decisions of all attempts, oldest first.
    """

    def __init__(self, message: str, *, model: str | None = None, decision_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.model = model
        self.decision_ids = tuple(decision_ids)


class RequestRefusedError(CompletionError):
    """Raised when the provider refuses the request as invalid. It is not tried again."""


class ContextWindowError(RequestRefusedError):
    """Raised when the request exceeds the model's context window."""


class ContentPolicyError(RequestRefusedError):
    """Raised when the request, or its answer, breaks the provider's or a guardrail's rules."""


class AccessDeniedError(CompletionError):
    """Raised when a key is missing, invalid or not permitted to use the model, or its account is out of credit."""


class RateLimitedError(CompletionError):
    """Raised when a provider's rate limit or a budget is exhausted for now."""


class ModelTimeoutError(CompletionError, TimeoutError):
    """Raised when no answer arrived in time."""


class ModelUnavailableError(CompletionError):
    """Raised when the provider fails or is unreachable, or no deployment is healthy."""


class InvalidResultError(CompletionError):
    """Raised when the answer is not of the requested type, and the model's second answer is not either.

    Attributes
    ----------
    text
        The text of the last answer.
    """

    text = ""

    @classmethod
    def of(cls, model: str, type_name: str, error: BaseException, text: str) -> Self:
        """Return an error that describes what is wrong with a model's last answer."""
        reason = describe_errors(error) if isinstance(error, ValidationError) else str(error)
        invalid = cls(f"{model} gave no valid {type_name}: {reason}"[:2000], model=model)
        invalid.text = text
        return invalid


def kind_of_status(status: int) -> type[CompletionError]:
    """Return the error class for an HTTP status.

    Examples
    --------
    >>> kind_of_status(429).__name__, kind_of_status(502).__name__
    ('RateLimitedError', 'ModelUnavailableError')
    """
    if status in _STATUSES:
        return _STATUSES[status]
    return RequestRefusedError if 400 <= status < 500 else ModelUnavailableError


_STATUSES: dict[int, type[CompletionError]] = {
    401: AccessDeniedError,
    402: AccessDeniedError,
    403: AccessDeniedError,
    408: ModelTimeoutError,
    429: RateLimitedError,
    504: ModelTimeoutError,
}
