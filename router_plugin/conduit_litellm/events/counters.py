"""Counts of what happened, by name."""

import threading
from collections.abc import Iterator, Mapping

__all__ = ["Counters"]


class Counters(Mapping[str, int]):
    """Named counts that any thread may add to; a name that was never counted is 0.

    The lock is held for one addition and nothing else, so nobody ever waits behind it for a network.

    Examples
    --------
    >>> counters = Counters()
    >>> counters.add("no_snapshot")
    >>> counters.add("no_snapshot", 2)
    >>> dict(counters), counters["never_counted"]
    ({'no_snapshot': 3}, 0)
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, name: str, number: int = 1) -> None:
        """Add to one count."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + number

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts.copy())

    def __len__(self) -> int:
        return len(self._counts)

    def __repr__(self) -> str:
        return f"Counters({self._counts})"
