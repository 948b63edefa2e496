"""Named counters of what happened."""

import threading
from collections.abc import Iterator, Mapping

__all__ = ["Counters"]


class Counters(Mapping[str, int]):
    """Named counters that any thread may increase. A name that was never counted is 0.

    The lock is held for a single addition, so no thread ever waits long for it.

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
        """Add a number to one counter."""
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
