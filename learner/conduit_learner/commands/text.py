"""Numbers and tables for people, and what every command says of a snapshot."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from conduit_schemas import SignalPosterior, Snapshot

__all__ = ["COLUMNS", "COUNTS", "changes", "format_signal", "head", "shown_average", "table"]

COLUMNS = (("quality", "quality"), ("success", "success"), ("cost USD", "cost"), ("latency s", "latency"))
"""Heads and signals, in the order in which they are shown."""

COUNTS = ("selections", "outcomes", "feedbacks", "censored", "open_decisions")
"""What a snapshot counts."""

_LOGARITHMS = {"cost", "latency"}


def shown_average(signal: str, posterior: SignalPosterior) -> float | None:
    """Return an arm's average in the unit for people; None where nothing was observed."""
    if posterior.weight <= 0.0:
        return None
    return math.exp(posterior.average) if signal in _LOGARITHMS else posterior.average


def format_signal(signal: str, value: float | None) -> str:
    """Return a value of a signal in three significant digits or three decimals; a dash for None.

    Examples
    --------
    >>> format_signal("quality", 0.71234), format_signal("cost", 0.000123456), format_signal("cost", None)
    ('0.712', '0.000123', '-')
    """
    if value is None:
        return "-"
    return f"{value:.3g}" if signal in _LOGARITHMS else f"{value:.3f}"


def head(snapshot: Snapshot) -> dict[str, Any]:
    """Return where a snapshot stands, its hash and its counts."""
    return {
        "partition": snapshot.partition,
        "offset": snapshot.offset,
        "hash": snapshot.hash,
        "time": datetime.fromtimestamp(snapshot.stream_time_ms / 1000, UTC).isoformat(),
        **{count: getattr(snapshot, count) for count in COUNTS},
    }


def changes(snapshot: Snapshot) -> list[str]:
    """Return one line per signal of an arm that is not what it was, the latest first."""
    alarms = [
        (alarm.time_ms, name, signal, alarm)
        for name, arm in snapshot.arms.items()
        for signal, alarm in (arm.alarms or {}).items()
    ]
    lines = []
    for time_ms, name, signal, alarm in sorted(alarms, key=lambda found: found[:3], reverse=True):
        before, after = (
            format_signal(signal, math.exp(value) if signal in _LOGARITHMS else value)
            for value in (alarm.before, alarm.after)
        )
        when = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")
        earlier = f", change {alarm.count} of its kind" if alarm.count > 1 else ""
        lines.append(f"{name}: {signal} changed from {before} to {after}, noticed {when}{earlier}")
    return lines


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns, the first row being the heads; all but the first column are right-aligned.

    Examples
    --------
    >>> print(table([("arm", "n"), ("large", "12")]))
    arm     n
    large  12
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    )
