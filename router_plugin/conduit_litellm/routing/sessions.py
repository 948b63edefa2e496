"""Remembers which deployment served each session last."""

__all__ = ["Sessions"]


class Sessions:
    """Remembers the newest sessions of this process. Every operation takes a step or two on a dict and needs no lock.

    Examples
    --------
    >>> sessions = Sessions(limit=2)
    >>> for number, arm in enumerate("aab"):
    ...     sessions.served(("default/chat", f"s{number}"), arm)
    >>> sessions.last(("default/chat", "s0")), sessions.last(("default/chat", "s2"))
    (None, 'b')
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._arms: dict[tuple[str, str], str] = {}

    def last(self, session: tuple[str, str]) -> str | None:
        """Return the id of the deployment that served a policy's session last, or None."""
        return self._arms.get(session)

    def served(self, session: tuple[str, str], arm: str) -> None:
        """Remember which deployment serves a session. Beyond the limit, forget the least recently used one."""
        self._arms.pop(session, None)
        self._arms[session] = arm
        if len(self._arms) > self._limit:
            try:
                self._arms.pop(next(iter(self._arms)), None)
            except (RuntimeError, StopIteration):  # another thread is removing one, so there is room again
                return
