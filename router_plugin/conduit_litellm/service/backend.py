"""What executes the service's requests: the port that LiteLLM and PydanticAI are behind."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from conduit_litellm.service.errors import CompletionError
from conduit_litellm.service.result import Answer
from conduit_litellm.service.result_type import Messages, ResultType

__all__ = ["Backend", "Call"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request."""

    messages: Messages
    wanted: ResultType[T] | None
    """None for the answer's text."""
    metadata: Mapping[str, Any]
    """What the choice of the model is to know besides the messages."""
    user_id: str | None
    timeout_s: float
    """For each attempt."""
    params: Mapping[str, Any]
    """``temperature`` and the like."""


class Backend(Protocol):
    """Chooses a deployment, calls it, and goes on to another one when it fails.

    Each attempt is a decision of the strategy's; its outcome is reported to the strategy whatever happens, but for
    a task that is cancelled.
    """

    async def complete(self, call: Call[Any]) -> Answer[Any]:
        """Return the answer.

        Raises
        ------
        Exception
            What :meth:`translate` understands.
        """
        ...

    def stream(self, call: Call[Any]) -> AsyncGenerator[str | Answer[str], None]:
        """Yield the answer's pieces as they come, and at the end the whole. Nothing is validated."""
        ...

    def translate(self, error: Exception) -> type[CompletionError]:
        """Return which of the service's errors one of this backend's means."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...
