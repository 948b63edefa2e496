"""``conduit archive`` and ``conduit restore``: copy events to Parquet files and back."""

import asyncio
from dataclasses import replace
from pathlib import Path

import click

from conduit_learner.commands.options import (
    as_json_option,
    echo_json,
    interruptible,
    log_options,
    opened_log,
    progress_bar,
)
from conduit_log import LoadableLog, LogSettings, open_log
from conduit_schemas import ConfigurationError

__all__ = ["archive", "restore"]

# The library is imported inside the commands: pyarrow is an optional dependency and slow to load.

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@log_options
@click.option("--to", "folder", type=_FOLDER, required=True, help="Folder of the archive.")
@click.option("--policy", metavar="NAMESPACE/GROUP", help="Archive only the partition that holds this policy.")
@as_json_option
def archive(*, settings: LogSettings, folder: Path, policy: str | None, as_json: bool) -> None:
    """Copy new events to Parquet files, so that audits remain possible after the log has deleted them.

    Run it often enough to copy events before the log deletes them. You can interrupt it at any time; the next run
    continues. It always archives whole partitions, with the events of all their policies: these share a clock, so
    their snapshots cannot be rebuilt without each other's events.

    \b
    Example:  conduit archive --to /var/lib/conduit-archive
              conduit replay --policy default/chat --verify --archive /var/lib/conduit-archive
    """
    done = 0

    def summary() -> str:
        return f"archived at least {done:,} events in {folder}, in complete files; run the command again to continue"

    with interruptible(summary):
        from conduit_learner.audit import archiving as library  # noqa: PLC0415 - see above

    with interruptible(summary), opened_log(settings) as log:
        partitions = None if policy is None else [log.history(policy).partition]
        ends = log.end_offsets(log.topics.events)
        with progress_bar(
            "archiving", sum(end for n, end in ends.items() if partitions is None or n in partitions)
        ) as show_progress:

            def progress(count: int) -> None:
                nonlocal done
                done += count
                show_progress(done)

            archived = library.archive(log, folder, partitions, progress=progress)
    if as_json:
        echo_json({"archive": str(folder), "partitions": archived})
        return
    for part in archived:
        if part.end == 0:
            continue
        click.echo(
            f"partition {part.partition}: {part.messages:,} events added, offsets {part.first:,} to {part.end - 1:,}"
        )
        if not part.is_provable:
            click.echo(
                f"    the log had already deleted the events before offset {part.first:,}, and no checkpoint covers "
                "them: you can evaluate policies on this archive, but its snapshots cannot be rebuilt"
            )
    click.echo(f"{sum(part.messages for part in archived):,} events archived in {folder}")


@click.command()
@log_options
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder of the archive.",
)
@as_json_option
def restore(*, settings: LogSettings, folder: Path, as_json: bool) -> None:
    """Load an archive into an empty embedded log, keeping every event's original offset and time.

    A learner on that log produces the same snapshots, hash for hash. The archive must hold a single partition and
    start at offset 0. A Kafka topic cannot be restored exactly, because brokers give events new times: use --archive
    to read its archive directly. The log's retention counts from the original times, so the first new event makes the
    log delete the restored events that are too old.

    \b
    Example:  conduit restore --from /var/lib/conduit-archive --path /tmp/audit
    """
    done = 0

    def summary() -> str:
        return f"restored at least {done:,} events; run the command again to continue"

    with interruptible(summary):
        from conduit_learner.audit.archive import Archive  # noqa: PLC0415 - see above
        from conduit_learner.audit.restore import restore as load  # noqa: PLC0415 - see above

    log = open_log(replace(settings, event_retention_s=None))  # restored events may be older than the retention
    if not isinstance(log, LoadableLog):
        raise ConfigurationError(
            f"{log.title} cannot be restored exactly, because it gives events new times. Restore into an embedded "
            "log with --path, or read the archive directly with --archive"
        )

    async def run() -> int:
        source = Archive(folder)
        async with log:
            with progress_bar(
                "restoring", sum(source.partition(number).end for number in source.partitions())
            ) as show_progress:

                def progress(count: int) -> None:
                    nonlocal done
                    done += count
                    show_progress(done)

                return await load(source, log, progress=progress)

    with interruptible(summary):
        count = asyncio.run(run())
    if as_json:
        echo_json({"restored": count, "log": str(settings.address), "topic": settings.topics.events})
    else:
        click.echo(f"{count:,} events restored to topic {settings.topics.events} of the {log.title}")
