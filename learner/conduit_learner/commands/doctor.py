"""``conduit doctor``: check an installation, and advise on what to fix."""

import asyncio
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import click

from conduit_learner.commands.options import (
    as_json_option,
    echo_json,
    events_option,
    existing_log,
    log_options,
    progress_bar,
)
from conduit_log import EventLog, LogSettings
from conduit_schemas import SCHEMA_VERSION

if TYPE_CHECKING:
    from conduit_learner.view.checkup import Finding

__all__ = ["doctor"]

_SIGNS = {"ok": ("ok  ", "green"), "look": ("look", "yellow"), "bad": ("BAD ", "red")}


@click.command()
@log_options
@events_option
@as_json_option
def doctor(*, settings: LogSettings, max_events: int, as_json: bool) -> None:
    """Check the log, topics, clocks, versions, learner, prices and feedback, and advise on what to fix.

    It changes nothing. Exit code 1 means that something does not work; findings marked "look" do not affect it.

    \b
    Example:  conduit doctor
              conduit doctor --bootstrap-servers kafka:9092 --json
    """
    log = existing_log(settings)
    with progress_bar("reading"):
        findings = asyncio.run(_examine(log, settings, max_events))
    states = {finding.state for finding in findings}
    if as_json:
        echo_json({"ok": "bad" not in states, "findings": findings})
    else:
        for finding in findings:
            sign, colour = _SIGNS[finding.state]
            click.echo(f"{click.style(sign, fg=colour)}  {finding.check}: {finding.found}")
            if finding.advice:
                click.echo(f"      -> {finding.advice}")
    if "bad" in states:
        raise click.exceptions.Exit(1)


async def _examine(log: EventLog, settings: LogSettings, max_events: int) -> "list[Finding]":
    # Imported here, so that other commands do not load it.
    from conduit_learner.view import checkup  # noqa: PLC0415 - see above
    from conduit_learner.view.follow import Following, follow, spooled_bytes  # noqa: PLC0415 - see above
    from conduit_learner.view.installation import InstallationView  # noqa: PLC0415 - see above

    findings = [checkup.Finding("versions", "ok", ", ".join(_versions()))]
    view, following = InstallationView(), Following()
    async with log:
        described = await log.describe()
        findings.append(checkup.Finding("log", "ok", f"{log.title} answers"))
        found = list(checkup.check_topics(described, settings.topics, log.capabilities))
        findings += found
        if any(finding.check == "topics" and "do not exist" in finding.found for finding in found):
            return findings
        await follow(log, settings.topics, view, following, max_events=max_events, until_complete=True)
    now_s = time.time()
    findings += checkup.check_clocks(view, now_s=now_s)
    findings.append(checkup.check_traffic(view, following))
    for name in sorted(view.policies):
        findings += checkup.check_policy(view.policies[name], now_ms=int(now_s * 1000))
    findings.append(checkup.check_dead_letters(view))
    findings += checkup.check_spool(spooled_bytes(log, settings))
    return findings


def _versions() -> Iterator[str]:
    for package in ("conduit-litellm", "litellm", "river", "numpy", "aiokafka"):
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"no {package}"
    yield f"wire contract {SCHEMA_VERSION}"
