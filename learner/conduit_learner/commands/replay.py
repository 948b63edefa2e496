"""``conduit replay``: rebuild a policy's snapshot, and verify every snapshot and decision in the log."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conduit_learner.commands.options import (
    TrackedHistory,
    echo_json,
    interruptible,
    opened_source,
    progress_bar,
    source_options,
)
from conduit_learner.commands.text import COUNTS, changes, columns, format_signal, head, shown_average, table
from conduit_log import LogSettings
from conduit_schemas import ConfigurationError, Snapshot, encode

if TYPE_CHECKING:
    from conduit_learner.audit.verification import Verification

__all__ = ["replay"]

# The library is imported inside the command: it loads river, an optional dependency that takes a second to import.


@click.command()
@source_options
@click.option("--until", default="latest", metavar="OFFSET|TIME", help="Stop before this offset or ISO 8601 time.")
@click.option("--verify", "is_verifying", is_flag=True, help="Verify every snapshot and decision in the log.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the whole snapshot in its published form."
)
@interruptible(lambda: "the replay did not finish; an --output file is either complete or was not written")
def replay(
    *,
    policy: str,
    archive: Path | None,
    settings: LogSettings,
    as_json: bool,
    until: str,
    is_verifying: bool,
    output: Path | None,
) -> None:
    """Rebuild a policy's snapshot from its events.

    With --verify, it rebuilds every snapshot that a decision names or that is still on the snapshot topic, and compares
    the hashes. It also recomputes every decision and compares it with the log. Exit code 1 means that something
    differs.

    \b
    Example:  conduit replay --policy default/chat --verify
              conduit replay --policy default/chat --until 2026-03-01T12:00:00Z --json
    """
    from conduit_learner.audit.replay import Position, rebuild  # noqa: PLC0415 - see above
    from conduit_learner.audit.verification import verify  # noqa: PLC0415 - see above

    position = Position.parse(until)
    verification: Verification | None = None
    with opened_source(settings, archive) as source:
        history = source.history(policy)
        if position.offset is not None and position.offset > history.end:
            raise ConfigurationError(f"the events end at offset {history.end}, before {position}")
        with progress_bar("replaying", history.end) as show_progress:
            messages = TrackedHistory(history, show_progress)
            snapshot: Snapshot | None
            if is_verifying:
                verification = verify(
                    messages, policy, until=position, published=history.published, checkpoints=history.checkpoints
                )
                snapshot = verification.snapshot
            else:
                snapshot = rebuild(messages, policy, until=position, checkpoints=history.checkpoints)
    if output is not None and snapshot is not None:
        _write(output, encode(snapshot))
    if as_json:
        echo_json(
            {
                "policy": policy,
                "snapshot": None if snapshot is None else _summary(snapshot),
                "verification": None if verification is None else _verification_fields(verification),
            }
        )
    else:
        parts = [None if snapshot is None else _text(snapshot), verification and _verification_text(verification)]
        click.echo("\n\n".join(part for part in parts if part))
    if verification is not None and (verification.mismatched or snapshot is None):
        raise click.exceptions.Exit(1)


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically; a path that is not a regular file, such as /dev/stdout, is written directly."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()  # follows a link, so that its target is replaced
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _summary(snapshot: Snapshot) -> dict[str, Any]:
    return {
        **head(snapshot),
        "settings": snapshot.settings,
        "rule": snapshot.rule,
        "arms": {
            name: {
                **arm.model_dump(exclude={"signals"}),
                "signals": {
                    signal: {"average": shown_average(signal, posterior), "observations": posterior.weight}
                    for signal, posterior in arm.signals.items()
                },
            }
            for name, arm in snapshot.arms.items()
        },
    }


def _text(snapshot: Snapshot) -> str:
    facts = head(snapshot)
    counts = ", ".join(f"{facts[count]:,} {count.replace('_', ' ')}" for count in COUNTS)
    shown = columns([signal for arm in snapshot.arms.values() for signal in arm.signals])
    rows = [("deployment", "model", "selections", "outcomes", "errors", "feedbacks", *shown.values())]
    for name, arm in snapshot.arms.items():
        numbers = [f"{number:,}" for number in (arm.selections, arm.outcomes, arm.errors, arm.feedbacks)]
        averages = [
            format_signal(signal, shown_average(signal, arm.signals[signal]) if signal in arm.signals else None)
            for signal in shown
        ]
        rows.append((name, arm.model or "-", *numbers, *averages))
    found = changes(snapshot)
    return "\n".join(
        [
            f"policy {snapshot.policy}, partition {facts['partition']}, offset {facts['offset']:,}, {facts['time']}",
            f"hash {snapshot.hash}",
            f"{snapshot.settings.algorithm} on {snapshot.settings.featurizer}: {counts}",
            "",
            table(rows),
            *([""] if found else []),
            *found,
        ]
    )


def _verification_fields(verification: "Verification") -> dict[str, Any]:
    return {
        "since_offset": verification.start_offset,
        "matched": {
            "snapshots": verification.snapshots_matched,
            "published": verification.published_matched,
            "decisions": verification.decisions_matched,
        },
        "largest_probability_difference": verification.largest_difference,
        "nothing_to_prove": verification.nothing_to_prove,
        "not_provable": verification.not_provable,
        "mismatched": verification.mismatched,
        "mismatches": verification.mismatches,
    }


def _verification_text(verification: "Verification") -> str:
    from conduit_learner.audit.recompute import about_without_snapshot  # noqa: PLC0415 - see above

    lines = [
        f"matched: {verification.decisions_matched:,} decisions and {verification.published_matched:,} published "
        f"records, from {verification.snapshots_matched:,} rebuilt snapshots"
        f" (probabilities differ by at most {verification.largest_difference:.1e})"
    ]
    if verification.start_offset:
        lines.append(
            f"the events before offset {verification.start_offset:,} were deleted; the replay started from a checkpoint"
        )
    for reason, count in sorted(verification.nothing_to_prove.items()):
        lines.append(f"nothing to prove: {count:,} decisions. {about_without_snapshot(reason)}")
    for reason, count in sorted(verification.not_provable.items()):
        lines.append(f"not provable: {count:,} decisions or published records. {reason.about} {reason.advice}".rstrip())
    lines.append(f"mismatched: {verification.mismatched:,}")
    for mismatch in verification.mismatches:
        decision = f", decision {mismatch.decision_id}" if mismatch.decision_id else ""
        lines.append(f"    {mismatch.topic} offset {mismatch.offset:,}{decision}: {mismatch.what}")
    if verification.mismatched > len(verification.mismatches):
        lines.append(f"    and {verification.mismatched - len(verification.mismatches):,} more")
    return "\n".join(lines)
