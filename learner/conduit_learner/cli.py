"""The ``conduit`` command line."""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from importlib import import_module
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, TypeVar

import click

from conduit_log import LogSettings, LogUnavailableError, open_log
from conduit_log.ports import TopicDescription
from conduit_schemas import ConduitError, ConfigurationError

__all__ = ["main"]

# The learner and the demo are imported by the commands that need them: river takes a second to load, and an
# application server has neither river nor rich.

Command = TypeVar("Command", bound=Callable[..., Any])


class _Failure(click.ClickException):
    """One line for people, and an exit code for scripts."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click means it as a default to override


class _Commands(click.Group):
    """Turns our errors into one line each, and loads the demo only when it is called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "demo"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "demo":
            return super().get_command(ctx, cmd_name)
        try:
            demo: click.Command = import_module("conduit_demo.cli").demo
        except ModuleNotFoundError as error:
            return _missing("demo", "Serve real requests and watch the choice become better.", error)
        return demo

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise _Failure(str(error), 2) from error
        except LogUnavailableError as error:
            raise _Failure(str(error), 3) from error
        except ConduitError as error:
            raise _Failure(str(error), 1) from error
        except ModuleNotFoundError as error:
            raise _Failure(_advice(error), 1) from error


def _advice(error: ModuleNotFoundError) -> str:
    return f'{error.name} is not installed: pip install "conduit-litellm[learner]"'


def _missing(name: str, about: str, error: ModuleNotFoundError) -> click.Command:
    def fail(**_: object) -> None:
        raise _Failure(_advice(error), 1)

    return click.Command(
        name, callback=fail, help=about, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
    )


def _log_options(command: Command) -> Command:
    """Add the options that say where the log is, and hand the command a LogSettings for them."""

    @click.option("--bootstrap-servers", metavar="HOST:PORT", help="Kafka brokers [env: CONDUIT_BOOTSTRAP_SERVERS].")
    @click.option(
        "--path",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the embedded log, used without brokers [env: CONDUIT_HOME; default: ~/.conduit].",
    )
    @click.option("--prefix", help="Start of the topics' names [env: CONDUIT_TOPIC_PREFIX; default: conduit].")
    @wraps(command)
    def with_settings(
        *args: Any, bootstrap_servers: str | None, path: Path | None, prefix: str | None, **kwargs: Any
    ) -> Any:
        settings = LogSettings.resolve(bootstrap_servers=bootstrap_servers, path=path, prefix=prefix)
        return command(*args, settings=settings, **kwargs)

    return with_settings  # type: ignore[return-value]  # click's options keep the signature open


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    r"""LiteLLM routing that learns from its own traffic.

    \b
    Start with:   conduit demo
    On Kafka:     conduit topics create --bootstrap-servers kafka:9092
                  conduit learner --bootstrap-servers kafka:9092

    Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 the brokers cannot be reached.
    """


@main.command()
def version() -> None:
    r"""Print the version.

    \b
    Example:  conduit version
    """
    click.echo(f"conduit-litellm {package_version('conduit-litellm')}")


@main.command()
@_log_options
@click.option("--snapshot-every-events", type=click.IntRange(1), default=100, show_default=True)
@click.option("--snapshot-every-seconds", type=click.FloatRange(0.01), default=1.0, show_default=True)
@click.option("--checkpoint-every-events", type=click.IntRange(1), default=5_000, show_default=True)
@click.option("--checkpoint-every-seconds", type=click.FloatRange(0.01), default=30.0, show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Log every snapshot and checkpoint.")
def learner(
    *,
    settings: LogSettings,
    snapshot_every_events: int,
    snapshot_every_seconds: float,
    checkpoint_every_events: int,
    checkpoint_every_seconds: float,
    verbose: bool,
) -> None:
    r"""Learn from the event log and publish snapshots, until SIGTERM or Ctrl-C.

    Start as many as you like: they share the work, and when one dies the others take over. A learner may be
    killed at any moment without harm. While the brokers are away it waits for them.

    \b
    Example:  conduit learner --bootstrap-servers kafka:9092
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if verbose:
        for room in ("conduit_learner", "conduit_log"):
            logging.getLogger(room).setLevel(logging.DEBUG)
    worker = import_module("conduit_learner.worker")

    options = worker.WorkerOptions(
        snapshot_every_events=snapshot_every_events,
        snapshot_every_s=snapshot_every_seconds,
        checkpoint_every_events=checkpoint_every_events,
        checkpoint_every_s=checkpoint_every_seconds,
    )

    async def learn() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with open_log(settings) as log:
            await worker.run_worker(log, topics=settings.topics, stop=stop, options=options)

    asyncio.run(learn())


@main.group()
def topics() -> None:
    """Create or describe the topics."""


@topics.command()
@_log_options
@click.option("--partitions", type=click.IntRange(1), help="Partitions of each topic [default: 12].")
@click.option("--replication-factor", type=click.IntRange(1), help="Copies of each partition [default: 1].")
def create(settings: LogSettings, partitions: int | None, replication_factor: int | None) -> None:
    r"""Create the topics that do not exist yet.

    \b
    Example:  conduit topics create --bootstrap-servers kafka:9092 --replication-factor 3
    """
    settings = replace(
        settings,
        partitions=partitions or settings.partitions,
        replication_factor=replication_factor or settings.replication_factor,
    )

    async def run() -> None:
        async with open_log(settings) as log:
            await log.create_topics()

    asyncio.run(run())
    for topic in settings.topics.all:
        click.echo(topic)


@topics.command()
@_log_options
def describe(settings: LogSettings) -> None:
    r"""Show the topics: partitions, copies, messages, settings.

    \b
    Example:  conduit topics describe --bootstrap-servers kafka:9092
    """

    async def run() -> list[TopicDescription]:
        async with open_log(settings) as log:
            return await log.describe()

    for topic in asyncio.run(run()):
        if not topic.exists:
            click.echo(f"{topic.name}: does not exist; create it with: conduit topics create")
            continue
        click.echo(
            f"{topic.name}: {topic.partitions} partitions, {topic.replication} copies, "
            f"{sum(topic.end_offsets.values()):,} messages written"
        )
        for name, value in sorted(topic.settings.items()):
            click.echo(f"    {name} = {value}")
