"""``conduit routing``: show and change a policy's routing settings."""

import getpass
import platform
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from conduit_learner.commands.options import as_json_option, echo_json, log_options, opened_log, policy_option
from conduit_learner.commands.routing_text import routing_lines, settings_lines
from conduit_log import LogSettings, Message
from conduit_policy import LIMITED, PRESETS, check_routing
from conduit_schemas import (
    AutomaticRollout,
    ConfigurationError,
    Mode,
    RoutingChange,
    RoutingSettings,
    StickyBy,
    checked,
    encode,
)

if TYPE_CHECKING:
    from conduit_learner.audit.history import BlockingLog
    from conduit_learner.audit.routing_log import RoutingNow

__all__ = ["routing"]

_NONE = "none"
_Command = TypeVar("_Command", bound=Callable[..., Any])
_by_option = click.option("--by", metavar="NAME", help="Who makes the change [default: user and host].")


@click.group()
def routing() -> None:
    """Show and change a policy's objective, limits, budget and mode, for all applications.

    \b
    Example:  conduit routing show --policy default/chat
              conduit routing set --policy default/chat --objective cost --budget 25/day
              conduit routing set --policy default/chat --mode canary --canary-share 0.1 --automatic promote,rollback
              conduit routing clear --policy default/chat
    """


@routing.command()
@policy_option
@log_options
@as_json_option
def show(*, policy: str, settings: LogSettings, as_json: bool) -> None:
    """Show the settings in force, who set them and when, the money spent, and a canary's results.

    \b
    Example:  conduit routing show --policy default/chat --json
    """
    with opened_log(settings) as log:
        now = _now(log, policy)
    if as_json:
        echo_json({"policy": policy, "in_force": now.published, "waiting": list(now.waiting)})
    else:
        click.echo("\n".join(routing_lines(policy, now)))


def _limit_options(command: _Command) -> _Command:
    """Add an option for every amount that a goal can limit."""
    for signal in reversed(LIMITED):
        option = f"--{signal.limit.replace('_', '-')}"
        limits = click.option(option, metavar=f"{signal.unit}|none", help=f"Limit on a request's {signal.title}.")
        command = limits(command)
    return command


@routing.command("set")
@policy_option
@log_options
@click.option("--objective", help=f"{', '.join(PRESETS)}, or weights: quality=1,cost=0.1,latency=0.")
@_limit_options
@click.option("--budget", metavar="USD/day|USD/1000_requests|none", help="Spending limit, paced over its period.")
@click.option(
    "--quality-floor",
    metavar="SHARE[@CONFIDENCE]|none",
    help="Use the cheapest deployment with at least this share of the best quality, as in 0.95@0.95.",
)
@click.option("--team", help="Apply these goals to one team, by id or alias.")
@click.option("--key", help="Apply these goals to one key, by alias or hash.")
@click.option("--drop", is_flag=True, help="Remove the goals of --team or --key.")
@click.option(
    "--mode",
    type=click.Choice(get_args(Mode)),
    help="Who chooses: LiteLLM (off, shadow), Conduit for a share (canary), or Conduit (active).",
)
@click.option("--canary-share", type=float, help="Share of the traffic that a canary gets, 0 to 1.")
@click.option("--sticky-by", type=click.Choice(get_args(StickyBy)), help="Keep each of these on one side of a canary.")
@click.option("--min-exploration", type=float, help="Minimum share of the choices to spread evenly.")
@click.option(
    "--automatic",
    metavar="promote,rollback|promote|rollback|none",
    help="What to do without asking once the evidence suffices.",
)
@click.option(
    "--margin", type=float, help=f"How much worse than LiteLLM Conduit may be [default: {AutomaticRollout().margin}]."
)
@click.option("--session-stickiness/--no-session-stickiness", default=None, help="Keep each session on its deployment.")
@click.option("--switching-cost", type=float, help="Utility that a session must gain to switch deployments.")
@click.option(
    "--file",
    "source",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="TOML file with all settings; the other options override it.",
)
@click.option("--new", is_flag=True, help="Allow a policy that has no events yet.")
@_by_option
@as_json_option
def set_(
    *, policy: str, settings: LogSettings, source: Path | None, new: bool, by: str | None, as_json: bool, **options: Any
) -> None:
    """Change the given settings and keep the others. Plugins apply them once the learner has published them.

    \b
    Example:  conduit routing set --policy default/chat --objective quality --max-cost-usd 0.02
              conduit routing set --policy default/chat --team growth --objective cost --budget 5/day
              conduit routing set --policy default/chat --mode off
    """
    with opened_log(settings) as log:
        if source is not None:
            fields = _from_file(source)
        else:
            fields = _in_force(log, policy, new)
            if not any(value is not None and value is not False for value in options.values()):
                raise ConfigurationError("say what to change: see conduit routing set --help")
        wanted = checked(RoutingSettings, _changed(fields, options), "routing")
        check_routing(wanted)
        _append(log, policy, wanted, by)
    if as_json:
        echo_json({"policy": policy, "routing": wanted})
    else:
        click.echo(f"policy {policy}, once the learner has published this:")
        click.echo("\n".join(f"    {line}" for line in settings_lines(wanted)))


@routing.command()
@policy_option
@log_options
@_by_option
@as_json_option
def clear(*, policy: str, settings: LogSettings, by: str | None, as_json: bool) -> None:
    """Remove the operators' settings, so that the applications' own settings apply again.

    \b
    Example:  conduit routing clear --policy default/chat
    """
    with opened_log(settings) as log:
        _now(log, policy)
        _append(log, policy, None, by)
    if as_json:
        echo_json({"policy": policy, "routing": None})
        return
    click.echo(f"policy {policy}: the applications' own settings apply again once the learner has published this")


def _now(log: "BlockingLog", policy: str) -> "RoutingNow":
    from conduit_learner.audit.routing_log import known_policies, routing_now  # noqa: PLC0415 - loaded when called for

    try:
        return routing_now(log, policy)
    except ConfigurationError as error:
        known = known_policies(log)
        raise ConfigurationError(f"{error}; known policies: {', '.join(known[:20]) or 'none'}") from error


def _in_force(log: "BlockingLog", policy: str, new: bool) -> dict[str, Any]:
    try:
        coming = _now(log, policy).coming
    except ConfigurationError:
        if not new:
            raise
        coming = None
    return {} if coming is None or coming.routing is None else coming.routing.model_dump(exclude_none=True)


def _append(log: "BlockingLog", policy: str, wanted: RoutingSettings | None, by: str | None) -> None:
    who = by or f"{getpass.getuser()}@{platform.node()}"
    change = RoutingChange(policy=policy, time=time.time(), routing=wanted, changed_by=who[:256])
    log.append(log.topics.events, [Message(policy.encode(), encode(change))])


def _from_file(path: Path) -> dict[str, Any]:
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return checked(RoutingSettings, fields, str(path)).model_dump(exclude_none=True)


_GOALS = ("objective", *(signal.limit for signal in LIMITED), "budget", "quality_floor")


def _changed(fields: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the options applied."""
    fields = {**fields, "goal": dict(fields.get("goal", {})), "overrides": dict(fields.get("overrides", {}))}
    goal = fields["goal"]
    scope = _scope(options)
    if scope is not None:
        goal = fields["overrides"].setdefault(scope, {})
    if options["drop"]:
        if scope is None or any(options[name] for name in _GOALS):
            raise ConfigurationError("--drop needs --team or --key, and cannot be combined with a goal")
        del fields["overrides"][scope]
    for name in _GOALS:
        text = options[name]
        if text == _NONE:
            goal.pop(name, None)
        elif text is not None:
            goal[name] = text
    for name in ("mode", "canary_share", "sticky_by", "min_exploration", "session_stickiness", "switching_cost"):
        if options[name] is not None:
            fields[name] = options[name]
    fields["automatic"] = _automatic(fields.get("automatic"), options["automatic"], options["margin"])
    return fields


def _automatic(before: dict[str, Any] | None, text: str | None, margin: float | None) -> dict[str, Any] | None:
    found = None if text == _NONE else before
    if text is not None and text != _NONE:
        given = checked(RoutingSettings, {"automatic": text}, "routing").model_dump(exclude_unset=True)
        found = {**(before or {}), **given["automatic"]}
    if margin is None:
        return found
    if found is None:
        raise ConfigurationError("--margin needs --automatic")
    return {**found, "margin": margin}


def _scope(options: Mapping[str, Any]) -> str | None:
    if options["team"] and options["key"]:
        raise ConfigurationError("give --team or --key, not both")
    return f"team:{options['team']}" if options["team"] else f"key:{options['key']}" if options["key"] else None
