"""``conduit top``: a live view of a policy in the terminal."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from conduit_learner.commands.options import (
    as_json_option,
    echo_json,
    events_option,
    existing_log,
    log_options,
    progress_bar,
)
from conduit_learner.commands.text import table
from conduit_learner.view.timeline import RANGES
from conduit_log import LogSettings
from conduit_schemas import ConfigurationError

if TYPE_CHECKING:
    from conduit_learner.view.installation import InstallationView

__all__ = ["top"]

_EVERY_S = 1.0


@click.command()
@log_options
@click.option("--policy", metavar="NAMESPACE/GROUP", help="Name of the policy [default: the busiest].")
@click.option(
    "--range",
    "range_",
    type=click.Choice(list(RANGES)),
    default="all",
    show_default=True,
    help="Show the last hour, the last day, or all events read.",
)
@events_option
@click.option("--once", is_flag=True, help="Print once and exit; the default when the output is not a terminal.")
@as_json_option
def top(*, settings: LogSettings, policy: str | None, range_: str, max_events: int, once: bool, as_json: bool) -> None:
    """Watch a policy's deployments, savings and newest decisions in the terminal, until Ctrl-C.

    \b
    Example:  conduit top
              conduit top --policy default/chat --range hour
              conduit top --json
    """
    # Imported here, so that other commands do not load it.
    from conduit_learner.view.follow import Following, follow  # noqa: PLC0415 - see above
    from conduit_learner.view.installation import InstallationView  # noqa: PLC0415 - see above

    log = existing_log(settings)
    view, following = InstallationView(), Following()
    is_live = not (once or as_json) and sys.stdout.isatty()

    def shown() -> str:
        if following.away_since is not None:
            return f"the log does not answer: {following.trouble}"
        if not view.policies:
            return f"{following.read:,} of {following.to_read:,} events read; no decisions yet"
        return screen(_report(view, policy, range_))

    async def watch() -> None:
        async with log:
            reading = follow(log, settings.topics, view, following, max_events=max_events, until_complete=not is_live)
            if is_live:
                await _live(asyncio.create_task(reading), shown)
            else:
                await reading

    with suppress(KeyboardInterrupt), nullcontext() if is_live else progress_bar("reading"):
        asyncio.run(watch())
    if as_json:
        echo_json(_report(view, policy, range_))
    elif not is_live:
        click.echo(screen(_report(view, policy, range_)))


async def _live(reading: asyncio.Task[None], shown: Callable[[], str]) -> None:
    from rich.live import Live  # noqa: PLC0415 - an optional part
    from rich.text import Text  # noqa: PLC0415 - an optional part

    try:
        with Live(auto_refresh=False, screen=True) as live:
            while not reading.done():
                live.update(Text(shown(), no_wrap=True), refresh=True)
                await asyncio.wait({reading}, timeout=_EVERY_S)
        reading.result()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _report(view: "InstallationView", policy: str | None, range_: str) -> dict[str, Any]:
    from conduit_learner.view.report import policy_report  # noqa: PLC0415 - loaded when called for

    if policy is None and view.policies:
        policy = max(view.policies.values(), key=lambda known: known.selections).name
    found = view.policies.get(policy or "")
    if found is None:
        known = ", ".join(sorted(view.policies)) or "none"
        raise ConfigurationError(f"no policy {policy or ''!r} in the events that were read; known policies: {known}")
    return policy_report(found, range_, now_ms=int(time.time() * 1000))


def screen(report: dict[str, Any]) -> str:
    """Return a report as text for a terminal."""
    totals, health = report["totals"], report["health"]
    age = "none yet" if health["snapshot_age_s"] is None else f"{health['snapshot_age_s']:.0f} s old"
    lines = [
        f"policy {report['policy']}, {RANGES[report['range']].title}: {totals['selections']:,} decisions, quality "
        f"{_number(totals['quality'], '.3f')}, {_money(totals['cost_usd'], 1000)} per 1,000, "
        f"{_number(totals['error_rate'], '.1%')} failed, {_number(totals['coverage'], '.0%')} rated",
        f"snapshot {age}, {health['events_behind']:,}{'+' if health['is_more_behind'] else ''} events behind",
        "",
        table([_heads(report), *(_row(report, arm) for arm in report["arms"])]),
        "",
        *_saved(report["savings"]),
        "",
    ]
    for decision in report["decisions"][:8]:
        moment = time.strftime("%H:%M:%S", time.localtime(decision["time_ms"] / 1000))
        lines.append(f"{moment}  {decision['reason']}")
    return "\n".join(lines).rstrip()


def _heads(report: dict[str, Any]) -> tuple[str, ...]:
    amounts = [("per 1,000",) if one["is_money"] else (one["title"], "p95") for one in report["amounts"]]
    return ("deployment", "share", "quality", *chain.from_iterable(amounts), "errors", "rated")


def _row(report: dict[str, Any], arm: dict[str, Any]) -> tuple[str, ...]:
    amounts = []
    for one in report["amounts"]:
        if one["is_money"]:
            amounts.append(_money(arm[one["field"]], 1000))
        else:
            amounts += [f"{_number(value, '.2f')} s" for value in (arm[one["field"]], arm["p95"][one["field"]])]
    return (
        arm["name"],
        _number(arm["share"], ".1%"),
        _number(arm["quality"], ".3f"),
        *amounts,
        _number(arm["error_rate"], ".1%"),
        _number(arm["coverage"], ".0%"),
    )


def _saved(savings: dict[str, Any]) -> list[str]:
    lines = []
    for words, key in (("the most expensive", "most_expensive"), ("the best single deployment", "best")):
        arm = next((arm for arm in savings["arms"] if arm["id"] == savings[key]), None)
        if arm is None or arm["saved_usd"] is None:
            continue
        off = savings["judging_usd"]
        low, mean, high = (_money(arm["saved_usd"][name] - off, 1) for name in ("low", "mean", "high"))
        lines.append(f"saved compared with always using {arm['name']} ({words}): {mean}, 95 % interval {low} to {high}")
    return lines or ["savings: not enough data yet"]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _money(value: float | None, times: int) -> str:
    return "-" if value is None else f"{'-' if value < 0 else ''}${abs(value) * times:.3f}"
