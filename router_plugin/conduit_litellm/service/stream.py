"""An answer that arrives piece by piece."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from conduit_litellm.service.errors import CompletionError
from conduit_litellm.service.result import Completion, ModelAnswer
from conduit_schemas import ConfigurationError

__all__ = ["Stream"]


class Stream:
    """The pieces of an answer and, at the end, the whole; created by :meth:`conduit_litellm.service.Service.stream`.

    If the context is left before the end, the outcome is logged as cancelled.

    Parameters
    ----------
    pieces
        The pieces from the backend.
    recording
        Returns the context in which each piece is requested. It records the attempts.
    translating
        Returns the context that translates errors into the service's own.
    finish
        Validates the whole answer and returns the completion.
    give_up
        Reports that the request was cancelled.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[str | ModelAnswer[str], None],
        *,
        recording: Callable[[], AbstractContextManager[None]],
        translating: Callable[[], AbstractContextManager[None]],
        finish: Callable[[ModelAnswer[str]], Completion[Any]],
        give_up: Callable[[], None],
    ) -> None:
        self._pieces = pieces
        self._recording = recording
        self._translating = translating
        self._finish = finish
        self._give_up = give_up
        self._completion: Completion[Any] | None = None

    @property
    def completion(self) -> Completion[Any]:
        """The result, available once the stream has ended.

        Raises
        ------
        ConfigurationError
            Before the end.
        """
        if self._completion is None:
            raise ConfigurationError("the stream has not ended, so there is no completion yet: read all pieces first")
        return self._completion

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pieces.aclose()
        if self._completion is None and (kind is None or not issubclass(kind, CompletionError)):
            self._give_up()

    async def __aiter__(self) -> AsyncIterator[str]:
        while self._completion is None:
            # Each piece may come from a new attempt. Between two pieces, the reader's own context must be active.
            with self._translating(), self._recording():
                piece = await anext(self._pieces)
                if isinstance(piece, ModelAnswer):
                    self._completion = self._finish(piece)
            if isinstance(piece, str):
                yield piece
