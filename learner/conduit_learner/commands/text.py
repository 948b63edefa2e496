"""Text output shared by the commands: numbers, tables, and a snapshot's summary."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from conduit_policy import SIGNALS, title_of
from conduit_schemas import SignalPosterior, Snapshot

__all__ = ["COUNTS", "changes", "columns", "format_signal", "head", "shown_average", "table"]


COUNTS = ("selections", "outcomes", "feedbacks", "censored", "open_decisions")
"""A snapshot's counters, in display order."""


def columns(known: Collection[str]) -> dict[str, str]:
    """Return the signals to show, each with its column heading; optional ones only if they are known.

    Examples
    --------
    >>> columns(["quality"])
    {'quality': 'quality', 'success': 'success', 'cost': 'cost USD', 'latency': 'latency s'}
    """
    shown = [signal for signal in SIGNALS.values() if not signal.is_optional or signal.name in known]
    return {signal.name: f"{signal.title} {signal.unit}".strip() for signal in shown}


def shown_average(signal: str, posterior: SignalPosterior) -> float | None:
    """Return an arm's average in display units (US dollars, seconds); None if nothing was observed."""
    return SIGNALS[signal].shown(posterior.average) if posterior.is_observed else None


def format_signal(signal: str, value: float | None) -> str:
    """Return a signal's value as text: amounts with three significant digits, scores with three decimals.

    Examples
    --------
    >>> format_signal("quality", 0.71234), format_signal("cost", 0.000123456), format_signal("cost", None)
    ('0.712', '0.000123', '-')
    """
    if value is None:
        return "-"
    is_amount = signal in SIGNALS and SIGNALS[signal].is_amount
    return f"{value:.3g}" if is_amount else f"{value:.3f}"


def head(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot's position, hash, time and counters."""
    return {
        "partition": snapshot.partition,
        "offset": snapshot.offset,
        "hash": snapshot.hash,
        "time": datetime.fromtimestamp(snapshot.stream_time_ms / 1000, UTC).isoformat(),
        **{count: getattr(snapshot, count) for count in COUNTS},
    }


def changes(snapshot: Snapshot) -> list[str]:
    """Return one line for each detected change of an arm's signal, the latest first."""
    alarms = [
        (alarm.time_ms, name, signal, alarm)
        for name, arm in snapshot.arms.items()
        for signal, alarm in (arm.alarms or {}).items()
        if signal in SIGNALS
    ]
    lines = []
    for time_ms, name, signal, alarm in sorted(alarms, key=lambda found: found[:3], reverse=True):
        before, after = (format_signal(signal, SIGNALS[signal].shown(value)) for value in (alarm.before, alarm.after))
        when = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")
        earlier = f", change number {alarm.count} of this signal" if alarm.count > 1 else ""
        lines.append(f"{name}: {title_of(signal)} changed from {before} to {after}, detected {when}{earlier}")
    return lines


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns; the first row holds the headings, and all columns but the first align right.

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
