"""Counts per arm over time, in a bounded number of buckets."""

from collections.abc import Iterator
from typing import NamedTuple

from conduit_policy import AMOUNTS

__all__ = ["COUNTS", "RANGES", "Cell", "Range", "Timeline"]


class Range(NamedTuple):
    """A time span that a view shows."""

    title: str
    width_ms: int
    """Width of a bucket."""
    buckets: int
    grows: bool = False
    """Whether the buckets grow, so that they always reach back to the beginning."""


RANGES = {
    "hour": Range("last hour", 15_000, 240),
    "day": Range("last day", 360_000, 240),
    "all": Range("all events read", 1_000, 240, grows=True),
}
"""The time spans that views offer, by name."""

_FIELDS = tuple(signal.field for signal in AMOUNTS)


class Cell:
    """The counts of one arm's decisions in one time bucket.

    Outcomes and ratings count in the bucket of their decision, not in that of their arrival, so all numbers of a cell
    concern the same requests. The newest cells therefore still grow.
    """

    __slots__ = (
        "amounts",
        "errors",
        "explored",
        "fallbacks",
        "known",
        "rated",
        "rating",
        "rating_squares",
        "selections",
        "successes",
    )

    def __init__(self) -> None:
        self.selections = 0
        self.fallbacks = 0
        """Selections that LiteLLM made."""
        self.explored = 0
        """Selections of an arm that did not have the highest probability."""
        self.successes = 0
        self.errors = 0
        self.amounts = dict.fromkeys(_FIELDS, 0.0)
        """Sums of the calls' amounts, by field of the outcome; times are summed over successful calls only."""
        self.known = dict.fromkeys(_FIELDS, 0)
        """Number of decisions with a known amount, by field; a failed call that reports no cost counts as 0."""
        self.rated = 0
        """Decisions that have ratings and did not fail."""
        self.rating = 0.0
        """Sum of these decisions' mean ratings."""
        self.rating_squares = 0.0

    def add(self, other: "Cell") -> None:
        """Add another cell's numbers."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _FIELDS:
            self.amounts[name] += other.amounts[name]
            self.known[name] += other.known[name]

    def mean(self, field: str) -> float | None:
        """Return the mean amount of a field of the outcome; None if it is unknown."""
        return self.amounts[field] / self.known[field] if self.known[field] else None


COUNTS = tuple(name for name in Cell.__slots__ if name not in {"amounts", "known"})
"""The attributes of a cell that are plain numbers."""


class Timeline:
    """Cells by time and arm.

    Parameters
    ----------
    width_ms
        Width of a bucket, milliseconds.
    capacity
        Maximum number of buckets.
    grows
        What happens when they are full: True doubles the width and keeps all counts; False drops the oldest bucket.

    Examples
    --------
    >>> timeline = Timeline(1000, 2, grows=True)
    >>> for time_ms in (0, 1000, 2000, 5000):
    ...     timeline.record(time_ms, "a").selections += 1
    >>> timeline.width_ms, [(start, cells["a"].selections) for start, cells in timeline]
    (4000, [(0, 3), (4000, 1)])
    """

    def __init__(self, width_ms: int, capacity: int, *, grows: bool) -> None:
        self.width_ms = width_ms
        self.capacity = capacity
        self._grows = grows
        self._buckets: dict[int, dict[str, Cell]] = {}
        self._newest = -1

    def __iter__(self) -> Iterator[tuple[int, dict[str, Cell]]]:
        """Yield each bucket's start in milliseconds, and its cells; buckets without decisions are left out."""
        for index in sorted(self._buckets):
            yield index * self.width_ms, self._buckets[index]

    def record(self, time_ms: int, arm: str) -> Cell:
        """Return the cell for a new decision; a decision older than all buckets gets a cell that is not stored."""
        index = time_ms // self.width_ms
        if index > self._newest:
            self._newest = index
            self._make_room()
            index = time_ms // self.width_ms
        if index <= self._newest - self.capacity and not self._grows:
            return Cell()
        cells = self._buckets.setdefault(index, {})
        cell = cells.get(arm)
        if cell is None:
            cell = cells[arm] = Cell()
        return cell

    def find(self, time_ms: int, arm: str) -> Cell | None:
        """Return the cell of an earlier decision, or None if it was dropped."""
        return self._buckets.get(time_ms // self.width_ms, {}).get(arm)

    def _make_room(self) -> None:
        if not self._grows:
            for index in [index for index in self._buckets if index <= self._newest - self.capacity]:
                del self._buckets[index]
            return
        while self._buckets and self._newest - min(self._buckets) >= self.capacity:
            self.width_ms *= 2
            self._newest //= 2
            merged: dict[int, dict[str, Cell]] = {}
            for index, cells in self._buckets.items():
                into = merged.setdefault(index // 2, {})
                for arm, cell in cells.items():
                    into.setdefault(arm, Cell()).add(cell)
            self._buckets = merged
