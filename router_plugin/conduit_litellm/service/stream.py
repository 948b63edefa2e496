"""An answer that comes piece by piece."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from conduit_litellm.service.errors import CompletionError
from conduit_litellm.service.result import Answer, Completion
from conduit_schemas import ConfigurationError

__all__ = ["Stream"]


class Stream:
    """The pieces of an answer, and in the end the whole; made by :meth:`conduit_litellm.service.Service.stream`.

    Leaving it before its end tells the log that the client gave up.

    Parameters
    ----------
    pieces
        The backend's.
    noting
        What each step is taken within.
    watched
        What turns errors into the service's own.
    finish
        Makes a completion of the whole answer, validated.
    give_up
        Notes that nobody waits any more.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[str | Answer[str], None],
        *,
        noting: Callable[[], AbstractContextManager[None]],
        watched: Callable[[], AbstractContextManager[None]],
        finish: Callable[[Answer[str]], Completion[Any]],
        give_up: Callable[[], None],
    ) -> None:
        self._pieces = pieces
        self._noting = noting
        self._watched = watched
        self._finish = finish
        self._give_up = give_up
        self._completion: Completion[Any] | None = None

    @property
    def completion(self) -> Completion[Any]:
        """What it came to, once it has come to its end.

        Raises
        ------
        ConfigurationError
            Before the end.
        """
        if self._completion is None:
            raise ConfigurationError("the stream has not come to its end: there is no completion yet")
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
            # A piece may come of another attempt than the one before. Between two of them, the context is the reader's.
            with self._watched(), self._noting():
                piece = await anext(self._pieces)
                if isinstance(piece, Answer):
                    self._completion = self._finish(piece)
            if isinstance(piece, str):
                yield piece
