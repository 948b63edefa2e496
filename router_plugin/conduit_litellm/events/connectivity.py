"""Tells the operator, once each time, that the log went away and that it is back."""

import logging

__all__ = ["LogState"]

_logger = logging.getLogger("conduit")


class LogState:
    """Whether the log answers its users in this process.

    It is away as soon as one of them says so, and back when all of those have been answered again.

    Examples
    --------
    >>> state = LogState()
    >>> state.lost("delivery", OSError("no route"))
    >>> state.back("delivery")
    """

    def __init__(self) -> None:
        self._waiting: set[str] = set()

    def lost(self, user: str, error: Exception) -> None:
        """Note a failure."""
        if not self._waiting:
            _logger.warning(
                "the event log is unavailable (%s): requests are served as before, events are kept and "
                "delivered when it is back",
                error,
            )
        self._waiting.add(user)

    def back(self, user: str) -> None:
        """Note a success."""
        if user in self._waiting:
            self._waiting.discard(user)
            if not self._waiting:
                _logger.info("the event log is back")
