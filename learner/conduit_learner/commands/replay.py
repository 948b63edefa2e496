"""``conduit replay``: a policy's snapshots built again, and compared with those that were in force."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conduit_learner.commands.options import (
    Watched,
    echo_json,
    interruptible,
    opened_source,
    progress_bar,
    source_options,
)
from conduit_learner.commands.text import COLUMNS, COUNTS, changes, format_signal, head, shown_average, table
from conduit_log import LogSettings
from conduit_schemas import ConfigurationError, Snapshot, encode

if TYPE_CHECKING:
    from conduit_learner.audit.verification import Verification

__all__ = ["replay"]

# The library is imported inside the commands: it loads river, which takes a second and is an optional part.


@click.command()
@source_options
@click.option("--until", default="latest", metavar="OFFSET|TIME", help="Stop before this offset or ISO 8601 time.")
@click.option("--verify", "is_verifying", is_flag=True, help="Compare with every snapshot and decision of the log.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the whole snapshot, as it is published."
)
@interruptible(lambda: "the replay was not finished; the log was only read, and an --output is whole or not there")
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
    """Build a policy's snapshot again from its events.

    With --verify every snapshot that a decision names, and every one that is still on the snapshot topic, is built
    again at its offset and compared by hash; every decision is taken again and compared with what was
    logged. Exit code 1 means that something differs.

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
        with progress_bar("replaying", history.end) as tell:
            messages = Watched(history, tell)
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
    """Write a file as a whole or not at all; what is no file, as /dev/stdout, is written to as it is."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()  # of a link, what it points to
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
    rows = [("arm", "model", "selections", "outcomes", "errors", "feedbacks", *(label for label, _ in COLUMNS))]
    for name, arm in snapshot.arms.items():
        numbers = [f"{number:,}" for number in (arm.selections, arm.outcomes, arm.errors, arm.feedbacks)]
        averages = [
            format_signal(signal, shown_average(signal, arm.signals[signal]) if signal in arm.signals else None)
            for _, signal in COLUMNS
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
    lines = [
        f"matched: {verification.decisions_matched:,} decisions and {verification.published_matched:,} published "
        f"records, on {verification.snapshots_matched:,} snapshots built again"
        f" (probabilities differ by {verification.largest_difference:.1e} at most)"
    ]
    if verification.start_offset:
        lines.append(f"the events before offset {verification.start_offset:,} are gone; a checkpoint stood for them")
    for reason, count in sorted(verification.nothing_to_prove.items()):
        lines.append(f"nothing to prove: {count:,} decisions, {reason}")
    for reason, count in sorted(verification.not_provable.items()):
        lines.append(f"not provable: {count:,} decisions or published records, {reason}")
    lines.append(f"mismatched: {verification.mismatched:,}")
    for mismatch in verification.mismatches:
        decision = f", decision {mismatch.decision_id}" if mismatch.decision_id else ""
        lines.append(f"    {mismatch.topic} offset {mismatch.offset:,}{decision}: {mismatch.what}")
    if verification.mismatched > len(verification.mismatches):
        lines.append(f"    and {verification.mismatched - len(verification.mismatches):,} more")
    return "\n".join(lines)
