"""Hosts the learner inside an application's process, for installations without a broker."""

import logging
import threading

from conduit_log import LogSettings

__all__ = ["EmbeddedLearner"]

_logger = logging.getLogger("conduit")


class EmbeddedLearner:
    """The learner in a thread of its own.

    Every process on the machine runs one; the log's group lock lets exactly one of them work, and another
    one takes over when that one's process ends.

    Parameters
    ----------
    settings
        The embedded log.
    """

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self.after_fork()

    def after_fork(self) -> None:
        """Start anew in a child process, where the thread does not exist."""
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass
