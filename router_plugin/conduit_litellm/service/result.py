"""What a request to the service gives."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Answer", "Completion"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a backend brings back from a model."""

    data: T
    text: str
    deployment_id: str
    model: str
    cost_usd: float | None
    latency_s: float
    input_tokens: int
    output_tokens: int
    repaired: bool
    response: Any


@dataclass(frozen=True, slots=True)
class Completion(Generic[T]):
    """A model's answer, what it took, and why this model gave it.

    Cost, latency and tokens are those of the attempt that gave the answer and, where the model had to be asked
    again for a valid result, of that call, too. They are LiteLLM's own numbers.
    """

    data: T
    """The answer as the wanted type; its text where none was wanted."""
    text: str
    """The answer as the model gave it."""
    model: str
    """The model's name as it was configured."""
    deployment_id: str
    decision_id: str | None
    """What :meth:`conduit_litellm.service.Service.feedback` wants to know."""
    policy: str
    """The policy that made the decision."""
    cost_usd: float | None
    """US dollars; None where no price is known."""
    latency_s: float
    """Seconds in which the model was at work."""
    elapsed_s: float
    """Seconds from the request to this result: choosing, failed attempts and validation included."""
    input_tokens: int
    output_tokens: int
    attempts: int
    """Models chosen for this request, one after the other, until one answered."""
    repaired: bool
    """Whether the model had to be asked again for a valid result."""
    explanation: str
    """Why this model, in plain words."""
    response: Any
    """The backend's own response."""

    @property
    def total_tokens(self) -> int:
        """Tokens read and written."""
        return self.input_tokens + self.output_tokens
