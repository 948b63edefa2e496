"""``conduit diff``: what a policy learned between two moments."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conduit_learner.commands.options import (
    TrackedHistory,
    echo_json,
    interruptible,
    opened_source,
    progress_bar,
    source_options,
)
from conduit_learner.commands.text import format_signal, head
from conduit_log import LogSettings
from conduit_policy import title_of

if TYPE_CHECKING:
    from conduit_learner.audit.snapshot_diff import SignalChange, SnapshotDiff

__all__ = ["diff"]


@click.command()
@source_options
@click.option("--from", "start", required=True, metavar="OFFSET|TIME", help="The earlier snapshot.")
@click.option("--to", "end", default="latest", metavar="OFFSET|TIME", help="The later one [default: latest].")
@interruptible(lambda: "the comparison did not finish; nothing was changed")
def diff(*, policy: str, archive: Path | None, settings: LogSettings, as_json: bool, start: str, end: str) -> None:
    """Show what a policy learned between two moments, per deployment and signal.

    A change counts as clear if it exceeds twice the combined standard error of the two averages.

    \b
    Example:  conduit diff --policy default/chat --from 2026-03-01 --to latest
    """
    from conduit_learner.audit.replay import Position, snapshots_at  # noqa: PLC0415 - loads river, which is an optional part
    from conduit_learner.audit.snapshot_diff import diff_snapshots  # noqa: PLC0415 - as above

    positions = [Position.parse(start), Position.parse(end)]
    with opened_source(settings, archive) as source:
        history = source.history(policy)
        with progress_bar("replaying", history.end) as show_progress:
            before, after = snapshots_at(
                TrackedHistory(history, show_progress), policy, positions, checkpoints=history.checkpoints
            )
    found = diff_snapshots(before, after)
    if as_json:
        fields = {"policy": policy, "before": head(before), "after": head(after)}
        echo_json({**fields, "settings": found.settings, "arms": found.arms})
    else:
        click.echo("\n".join(_diff_lines(found)))


def _diff_lines(found: "SnapshotDiff") -> Iterator[str]:
    before, after = head(found.before), head(found.after)
    yield f"policy {found.policy}, partition {before['partition']}"
    yield f"from offset {before['offset']:,}, {before['time']}, hash {found.before.hash}"
    yield f"to   offset {after['offset']:,}, {after['time']}, hash {found.after.hash}"
    yield "added: " + ", ".join(f"{after[n] - before[n]:,} {n}" for n in ("selections", "outcomes", "feedbacks"))
    for name, (old, new) in found.settings.items():
        yield f"setting {name}: {old} -> {new}"
    for name, arm in found.arms.items():
        yield ""
        added = ", ".join(f"{count:+,} {what}" for what, count in arm.counts.items())
        yield f"{name}{f' ({arm.model})' if arm.model else ''}: {arm.status}" + (f", {added}" if added else "")
        width = max((len(title_of(signal)) for signal in arm.signals), default=0)
        for signal, change in arm.signals.items():
            moved = f"{format_signal(signal, change.before)} -> {format_signal(signal, change.after)}"
            weights = f"{change.before_weight:,.0f} -> {change.after_weight:,.0f} observations"
            yield f"    {title_of(signal):<{width}} {moved} ({weights}){_verdict(change)}"


def _verdict(change: "SignalChange") -> str:
    if change.before is None or change.after is None:
        return "" if change.after is None else ", first observed"
    if not change.is_clear:
        return ", no clear change"
    return ", clearly up" if change.after > change.before else ", clearly down"
