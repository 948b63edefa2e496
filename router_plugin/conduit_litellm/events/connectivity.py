"""Logs one warning when the event log becomes unavailable, and one message when it is available again."""

import logging

__all__ = ["LogState"]

_logger = logging.getLogger("conduit")


class LogState:
    """Whether this process can use the event log.

    The log is unavailable as soon as one of its users (delivery, snapshots) reports a failure. It is available again
    once every user that reported a failure has reported a success.

    Examples
    --------
    >>> state = LogState()
    >>> state.lost("delivery", OSError("no route"))
    >>> state.back("delivery")
    """

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def lost(self, user: str, error: Exception) -> None:
        """Report a failure."""
        if not self._failing:
            _logger.warning(
                "the event log is unavailable (%s): requests are still served, and events are kept and delivered "
                "when the log is back",
                error,
            )
        self._failing.add(user)

    def back(self, user: str) -> None:
        """Report a success."""
        if user in self._failing:
            self._failing.discard(user)
            if not self._failing:
                _logger.info("the event log is back")
