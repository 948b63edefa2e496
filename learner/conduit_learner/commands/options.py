"""Options and output shared by the commands: the log's address, the policy, progress bars, JSON."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from conduit_learner.audit.history import BlockingLog, EventSource, History
from conduit_learner.view.json_text import json_text
from conduit_log import EventLog, LogSettings, StoredMessage, open_log
from conduit_schemas import ConfigurationError

__all__ = [
    "MAX_EVENTS",
    "Interrupted",
    "TrackedHistory",
    "address_option",
    "as_json_option",
    "echo_json",
    "events_option",
    "existing_log",
    "interruptible",
    "log_options",
    "opened_log",
    "opened_source",
    "policy_option",
    "progress_bar",
    "source_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])

_EVERY = 1_000

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
MAX_EVENTS = 500_000
"""Default number of newest events that commands read to show an installation."""

events_option = click.option(
    "--events",
    "max_events",
    type=click.IntRange(1),
    default=MAX_EVENTS,
    show_default=True,
    help="How many of the newest events to start with.",
)
policy_option = click.option("--policy", required=True, metavar="NAMESPACE/GROUP", help="Name of the policy.")


def log_options(command: Command) -> Command:
    """Add the options that say where the log is, and pass them to the command as LogSettings."""

    @click.option(
        "--log",
        metavar="ADDRESS",
        help="Address of any log: kafka://HOST:PORT, file:///FOLDER, or another adapter's [env: CONDUIT_LOG].",
    )
    @click.option("--bootstrap-servers", metavar="HOST:PORT", help="Kafka brokers [env: CONDUIT_BOOTSTRAP_SERVERS].")
    @click.option(
        "--path",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the embedded log, which is used without the other options [env: CONDUIT_HOME; "
        "default: ~/.conduit].",
    )
    @click.option("--prefix", help="Prefix of the topic names [env: CONDUIT_TOPIC_PREFIX; default: conduit].")
    @wraps(command)
    def with_settings(
        *args: Any,
        log: str | None,
        bootstrap_servers: str | None,
        path: Path | None,
        prefix: str | None,
        **kwargs: Any,
    ) -> Any:
        settings = LogSettings.resolve(log=log, bootstrap_servers=bootstrap_servers, path=path, prefix=prefix)
        return command(*args, settings=settings, **kwargs)

    return with_settings  # type: ignore[return-value]  # click's options keep the signature open


def source_options(command: Command) -> Command:
    """Add the options of a command that reads one policy's history, from a log or from an archive."""
    archive = click.option(
        "--archive",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Read the events from this archive instead of the log; see conduit archive.",
    )
    return policy_option(archive(log_options(as_json_option(command))))


def address_option(*names: str, **options: Any) -> Callable[[Command], Command]:
    """Return an option that takes ``HOST:PORT`` and passes the command a pair."""

    def parse(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, int] | None:
        if value is None:
            return None
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise click.BadParameter(f"{value!r} is not HOST:PORT, as in 127.0.0.1:9464")
        return host.strip("[]"), int(port)

    return click.option(*names, callback=parse, metavar="HOST:PORT", **options)


def existing_log(settings: LogSettings) -> EventLog:
    """Return an existing log. One that does not exist is refused, because opening it would create it.

    Raises
    ------
    ConfigurationError
        When the log does not exist, or its address is wrong.
    """
    log = open_log(settings)
    if not log.exists():
        raise ConfigurationError(
            f"there is no {log.title}: give its folder with --path, Kafka brokers with --bootstrap-servers, or any "
            "log's address with --log"
        )
    return log


@contextmanager
def opened_log(settings: LogSettings) -> Iterator[BlockingLog]:
    """Open an existing log."""
    with BlockingLog(existing_log(settings), settings.topics) as log:
        yield log


@contextmanager
def opened_source(settings: LogSettings, archive: Path | None) -> Iterator[EventSource]:
    """Open the archive if one is given, else the log."""
    if archive is None:
        with opened_log(settings) as log:
            yield log
    else:
        from conduit_learner.audit.archive import Archive  # noqa: PLC0415 - pyarrow is an optional dependency and slow to load

        yield Archive(archive)


@contextmanager
def progress_bar(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar if standard error is a terminal; yields a function that takes the number done so far."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console  # noqa: PLC0415 - an optional part
    from rich.progress import Progress  # noqa: PLC0415 - an optional part

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


class Interrupted(click.ClickException):
    """Raised after Ctrl-C: prints one line that says what was done, and exits with the code that shells expect."""

    exit_code = 130

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message."""
        click.echo(f"interrupted: {self.format_message()}", file=file, err=file is None)


@contextmanager
def interruptible(summary: Callable[[], str]) -> Iterator[None]:
    """End a command at Ctrl-C with a message that says how far it got.

    Parameters
    ----------
    summary
        Returns what was and what was not done.

    Raises
    ------
    Interrupted
        In place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(summary()) from error


class TrackedHistory:
    """A history that reports how far it has been read."""

    def __init__(self, history: History, show_progress: Callable[[int], None]) -> None:
        self._history = history
        self._show_progress = show_progress

    def __iter__(self) -> Iterator[StoredMessage]:
        for number, message in enumerate(self._history):
            if number % _EVERY == 0:
                self._show_progress(message.offset)
            yield message


def echo_json(fields: Mapping[str, Any]) -> None:
    """Print one JSON object; infinities and NaN become null."""
    click.echo(json_text(fields))
