"""``conduit archive`` and ``conduit restore``: events to Parquet files and back."""

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

# The library is imported inside the commands: pyarrow is an optional part, and slow to load.

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@log_options
@click.option("--to", "folder", type=_FOLDER, required=True, help="Folder of the archive.")
@click.option("--policy", metavar="NAMESPACE/GROUP", help="Archive only the partition that holds this policy.")
@as_json_option
def archive(*, settings: LogSettings, folder: Path, policy: str | None, as_json: bool) -> None:
    """Copy the events that are not archived yet to Parquet files, so that audits outlive the log's retention.

    Run it more often than events are removed. It may be stopped at any moment and goes on the next time. A partition is
    always archived whole, with the events of all its policies: they share a clock, and without each
    other's events their snapshots could not be built again.

    \b
    Example:  conduit archive --to /var/lib/conduit-archive
              conduit replay --policy default/chat --verify --archive /var/lib/conduit-archive
    """
    done = 0

    def said() -> str:
        return f"at least {done:,} events were archived in {folder}, in whole files; run it again for the rest"

    with interruptible(said):
        from conduit_learner.audit import archiving as library  # noqa: PLC0415 - see above

    with interruptible(said), opened_log(settings) as log:
        partitions = None if policy is None else [log.history(policy).partition]
        ends = log.end_offsets(log.topics.events)
        with progress_bar(
            "archiving", sum(end for n, end in ends.items() if partitions is None or n in partitions)
        ) as tell:

            def progress(count: int) -> None:
                nonlocal done
                done += count
                tell(done)

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
                f"    the events before offset {part.first:,} were gone already, and no checkpoint covers them: the "
                "archive can be evaluated, but its snapshots cannot be built again"
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
    """Load an archive into an empty embedded log, every event at its old offset and with its old time.

    A learner on that log arrives at the same snapshots, hash for hash. This takes an archive of one partition that
    begins at offset 0. A Kafka topic cannot be restored exactly, because brokers stamp events with new times:
    read its archive directly with --archive. The log keeps events for its usual retention, counted from
    their old times: the first new event makes it remove those that are older.

    \b
    Example:  conduit restore --from /var/lib/conduit-archive --path /tmp/audit
    """
    done = 0

    def said() -> str:
        return f"at least {done:,} events were restored; run it again for the rest"

    with interruptible(said):
        from conduit_learner.audit.archive import Archive  # noqa: PLC0415 - see above
        from conduit_learner.audit.restore import restore as load  # noqa: PLC0415 - see above

    log = open_log(replace(settings, event_retention_s=None))  # whatever is restored is older than that
    if not isinstance(log, LoadableLog):
        raise ConfigurationError(
            f"{log.title} cannot be restored exactly: it would stamp events with new times. Restore into an embedded "
            "log with --path, or read the archive directly with --archive"
        )

    async def run() -> int:
        source = Archive(folder)
        async with log:
            with progress_bar("restoring", sum(source.partition(number).end for number in source.partitions())) as tell:

                def progress(count: int) -> None:
                    nonlocal done
                    done += count
                    tell(done)

                return await load(source, log, progress=progress)

    with interruptible(said):
        count = asyncio.run(run())
    if as_json:
        echo_json({"restored": count, "log": str(settings.address), "topic": settings.topics.events})
    else:
        click.echo(f"{count:,} events restored to topic {settings.topics.events} of the {log.title}")
