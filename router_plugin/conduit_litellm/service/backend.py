"""The port for executing the service's requests, with LiteLLM or PydanticAI behind it."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from conduit_litellm.service.errors import CompletionError
from conduit_litellm.service.result import ModelAnswer
from conduit_litellm.service.result_type import Messages, ResultType

__all__ = ["Backend", "Call"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request."""

    messages: Messages
    result_type: ResultType[T] | None
    """The type that the answer must have; None for text."""
    metadata: Mapping[str, Any]
    """Information for the choice of the model, besides the messages."""
    user_id: str | None
    timeout_s: float
    """Time limit for each attempt, in seconds."""
    params: Mapping[str, Any]
    """``temperature`` and similar parameters."""


class Backend(Protocol):
    """Chooses a deployment, calls it, and tries another one if it fails.

    Each attempt is a decision of the strategy. The backend reports its outcome to the strategy in every case except
    when the task is cancelled.
    """

    async def complete(self, call: Call[Any]) -> ModelAnswer[Any]:
        """Return the answer.

        Raises
        ------
        Exception
            Any error that :meth:`translate` understands.
        """
        ...

    def stream(self, call: Call[Any]) -> AsyncGenerator[str | ModelAnswer[str], None]:
        """Yield the pieces of the answer as they arrive, then the whole answer. Nothing is validated."""
        ...

    def translate(self, error: Exception) -> type[CompletionError]:
        """Return the service's error class for one of this backend's errors."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
