"""Everything that can go wrong with a request to the service, whoever executes it.

::

    ConduitError
    ├── ConfigurationError            the service was set up, or called, in a way that cannot work
    └── CompletionError               there is no usable answer
        ├── RequestRefusedError       the request itself: every model would refuse it
        │   ├── ContextWindowError    it is too long for the model
        │   └── ContentPolicyError    what it asks for is not allowed
        ├── AccessDeniedError         a key is missing, wrong, without rights or without money
        ├── RateLimitedError          a provider, or a budget, allows no more for now
        ├── ModelTimeoutError         no answer in time; a TimeoutError, too
        ├── ModelUnavailableError     a provider fails, cannot be reached, or all models are cooling down
        └── InvalidResultError        there is an answer, but not one of the wanted type, even asked again

Each is raised after retries and fallbacks, with the provider's own error as its cause.
"""

from collections.abc import Sequence
from typing import Self

from pydantic import ValidationError

from conduit_litellm.service.result_type import complaints
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
    """The base of every error that leaves a request without a usable answer.

    Attributes
    ----------
    model
        The model that was asked last; None when none was.
    decision_ids
        The decisions of all attempts, the first one first.
    """

    def __init__(self, message: str, *, model: str | None = None, decision_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.model = model
        self.decision_ids = tuple(decision_ids)


class RequestRefusedError(CompletionError):
    """Raised when the provider finds fault with the request; it is not tried again."""


class ContextWindowError(RequestRefusedError):
    """Raised when the request is longer than the model can read."""


class ContentPolicyError(RequestRefusedError):
    """Raised when the request, or its answer, breaks the provider's or a guardrail's rules."""


class AccessDeniedError(CompletionError):
    """Raised when a key is missing, wrong, has no right to the model, or its account no money."""


class RateLimitedError(CompletionError):
    """Raised when a provider's rate limit, or a budget, allows no more for now."""


class ModelTimeoutError(CompletionError, TimeoutError):
    """Raised when no answer came in time."""


class ModelUnavailableError(CompletionError):
    """Raised when the provider fails or cannot be reached, or no deployment is healthy."""


class InvalidResultError(CompletionError):
    """Raised when the answer is not of the wanted type, and neither is the one the model gave when asked again.

    Attributes
    ----------
    text
        The last answer.
    """

    text = ""

    @classmethod
    def of(cls, model: str, wanted: str, error: BaseException, text: str) -> Self:
        """Return the error that says what is wrong with a model's last answer."""
        what = complaints(error) if isinstance(error, ValidationError) else str(error)
        made = cls(f"{model} gave no valid {wanted}: {what}"[:2000], model=model)
        made.text = text
        return made


def kind_of_status(status: int) -> type[CompletionError]:
    """Return the class of error that an HTTP status means.

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
