"""The ``conduit`` command line."""

import asyncio
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version as package_version
from typing import Any

import click

from conduit_learner.commands.archive import archive, restore
from conduit_learner.commands.completion import completion
from conduit_learner.commands.dashboard import dashboard
from conduit_learner.commands.dead_letters import dead_letters
from conduit_learner.commands.diff import diff
from conduit_learner.commands.doctor import doctor
from conduit_learner.commands.evaluate import evaluate
from conduit_learner.commands.explain import explain
from conduit_learner.commands.learner import learner
from conduit_learner.commands.options import Interrupted, as_json_option, echo_json, log_options
from conduit_learner.commands.replay import replay
from conduit_learner.commands.routing import routing
from conduit_learner.commands.top import top
from conduit_learner.commands.warm_start import warm_start
from conduit_log import LogSettings, LogUnavailableError, open_log
from conduit_log.ports import TopicDescription
from conduit_schemas import SCHEMA_VERSION, ConduitError, ConfigurationError

__all__ = ["main"]

# Each command imports the learner or the demo itself: river takes a second to import, and an application server has
# neither river nor rich.


class _Failure(click.ClickException):
    """An error shown as one line, with an exit code for scripts."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click means it as a default to override


class _Commands(click.Group):
    """Shows Conduit's errors as one line each, and imports the demo only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "demo"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "demo":
            return super().get_command(ctx, cmd_name)
        try:
            demo: click.Command = import_module("conduit_demo.cli").demo
        except ModuleNotFoundError as error:
            return _missing("demo", "Serve real requests and watch Conduit's choices improve.", error)
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
        except KeyboardInterrupt as error:
            raise Interrupted("the command did not finish") from error


def _advice(error: ModuleNotFoundError) -> str:
    return f'{error.name} is not installed: pip install "conduit-litellm[learner]"'


def _missing(name: str, about: str, error: ModuleNotFoundError) -> click.Command:
    def fail(**_: object) -> None:
        raise _Failure(_advice(error), 1)

    return click.Command(
        name, callback=fail, help=about, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
    )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """LiteLLM routing that learns from its own traffic.

    \b
    Start with:   conduit demo
    On Kafka:     conduit topics create --bootstrap-servers kafka:9092
                  conduit learner --bootstrap-servers kafka:9092
    Watch:        conduit dashboard --open       conduit top       conduit doctor
    Audit:        conduit replay --policy default/chat --verify
                  conduit explain DECISION_ID --policy default/chat
    Control:      conduit routing set --policy default/chat --objective cost --budget 25/day

    Exit codes: 0 success, 1 failure, 2 wrong usage or settings, 3 log unreachable, 130 interrupted (Ctrl-C).
    """


_COMMANDS = (
    archive,
    completion,
    dashboard,
    dead_letters,
    diff,
    doctor,
    evaluate,
    explain,
    learner,
    replay,
    restore,
    routing,
    top,
    warm_start,
)
for _command in _COMMANDS:
    main.add_command(_command)


@main.command()
@as_json_option
def version(*, as_json: bool) -> None:
    """Print the version.

    \b
    Example:  conduit version
    """
    number = package_version("conduit-litellm")
    if as_json:
        echo_json({"version": number, "schema_version": SCHEMA_VERSION})
    else:
        click.echo(f"conduit-litellm {number}")


@main.group()
def topics() -> None:
    """Create or describe the topics.

    \b
    Example:  conduit topics create --bootstrap-servers kafka:9092 --replication-factor 3
              conduit topics describe --bootstrap-servers kafka:9092
    """


@topics.command()
@log_options
@click.option("--partitions", type=click.IntRange(1), help="Partitions of each topic [default: 12].")
@click.option("--replication-factor", type=click.IntRange(1), help="Copies of each partition [default: 1].")
@as_json_option
def create(*, settings: LogSettings, partitions: int | None, replication_factor: int | None, as_json: bool) -> None:
    """Create the topics that do not exist yet.

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
    if as_json:
        echo_json({"topics": settings.topics.all})
        return
    for topic in settings.topics.all:
        click.echo(topic)


@topics.command()
@log_options
@as_json_option
def describe(*, settings: LogSettings, as_json: bool) -> None:
    """Show the topics: partitions, copies, messages, settings.

    \b
    Example:  conduit topics describe --bootstrap-servers kafka:9092
    """

    async def run() -> list[TopicDescription]:
        async with open_log(settings) as log:
            return await log.describe()

    described = asyncio.run(run())
    if as_json:
        echo_json({"topics": [topic._asdict() for topic in described]})
        return
    for topic in described:
        if not topic.exists:
            click.echo(f"{topic.name}: does not exist; create it with: conduit topics create")
            continue
        click.echo(
            f"{topic.name}: {topic.partitions} partitions, {topic.replication} copies, "
            f"{sum(topic.end_offsets.values()):,} messages written"
        )
        for name, value in sorted(topic.settings.items()):
            click.echo(f"    {name} = {value}")
