"""The results of a request to the service."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Completion", "ModelAnswer"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelAnswer(Generic[T]):
    """A model's answer, as a backend returns it."""

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
    """A model's answer, its cost and latency, and why this model was chosen.

    Cost, latency and tokens are those of the attempt that gave the answer. If the model had to be asked again for a
    valid result, they include that call. Costs are based on LiteLLM's prices.
    """

    data: T
    """The answer as the requested type, or its text if none was requested."""
    text: str
    """The answer as the model gave it."""
    model: str
    """The model's name as it was configured."""
    deployment_id: str
    decision_id: str | None
    """Identifies the answer in :meth:`conduit_litellm.service.Service.feedback`. None if there was no decision."""
    policy: str
    """The policy that made the decision."""
    cost_usd: float | None
    """US dollars; None if no price is known."""
    latency_s: float
    """Seconds that the model took."""
    elapsed_s: float
    """Seconds from the request to this result, including the choice, failed attempts and validation."""
    input_tokens: int
    output_tokens: int
    attempts: int
    """Number of models tried for this request, including the one that answered."""
    repaired: bool
    """Whether the model had to be asked again for a valid result."""
    explanation: str
    """Why this model was chosen, in plain words."""
    response: Any
    """The response object of the backend."""

    @property
    def total_tokens(self) -> int:
        """Tokens read and written."""
        return self.input_tokens + self.output_tokens
