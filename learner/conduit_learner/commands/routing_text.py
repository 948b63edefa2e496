"""Routing settings as text."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from conduit_learner.view.wording import goal_words
from conduit_schemas import RoutingGoal, RoutingSettings, RoutingState

if TYPE_CHECKING:
    from conduit_learner.audit.routing_log import RoutingNow

__all__ = ["routing_lines", "settings_lines"]


def routing_lines(policy: str, now: "RoutingNow") -> Iterator[str]:
    """Yield lines for the settings in force and for the changes not published yet."""
    yield f"policy {policy}"
    if now.published is None:
        yield "no settings are in force yet: no snapshot holds any"
    else:
        yield from _state_lines(now.published)
    for change in now.waiting:
        what = "cleared" if change.routing is None else "; ".join(settings_lines(change.routing))
        yield f"not published yet, by {change.origin} {change.changed_by}, {_moment(change.time)}: {what}"


def _state_lines(state: RoutingState) -> Iterator[str]:
    yield f"set by {state.origin} {state.changed_by or '?'}, {_moment(state.changed_at)}"
    yield from settings_lines(state.settings)
    if state.rollout is not None:
        share = f", share {state.canary_share:g}"
        yield f"roll-out: {state.rollout.stage}{share}" + (f": {state.rollout.reason}" if state.rollout.reason else "")
        for name, interval in sorted(state.rollout.evidence.items()):
            bounds = f"{interval.mean:.4f} in [{interval.low:.4f}, {interval.high:.4f}]"
            yield f"    {name:<17} {bounds}, {interval.count:,} decisions"
    for scope, spend in sorted(state.spend.items()):
        day = datetime.fromtimestamp(spend.day_start_ms / 1000, UTC).date()
        thousand = f"{spend.thousand_usd:.6g} USD in the current thousand, after {spend.thousand_requests:,} requests"
        yield f"spent{f' by {scope}' if scope else ''}: {spend.day_usd:.6g} USD on {day}; {thousand}"


def settings_lines(settings: RoutingSettings) -> Iterator[str]:
    """Yield one line for each kind of setting."""
    share = f", share {settings.canary_share:g}, sticky by {settings.sticky_by}" if settings.mode == "canary" else ""
    yield f"mode: {settings.mode}{share}"
    if settings.automatic is not None:
        rules = settings.automatic
        what = " and ".join(name for name in ("promote", "rollback") if getattr(rules, name)) or "nothing"
        yield f"automatic: {what}, margin {rules.margin:g}, confidence {rules.confidence:g}, holdout {rules.holdout:g}"
    yield f"goal: {_or_above(settings.goal)}"
    for scope, goal in sorted(settings.overrides.items()):
        yield f"goal of {scope}: {_or_above(goal)}"
    others = []
    if settings.min_exploration:
        others.append(f"minimum exploration {settings.min_exploration:g}")
    if settings.session_stickiness:
        others.append("sessions stay on their deployment")
    if settings.switching_cost:
        others.append(f"switching cost {settings.switching_cost:g}")
    if others:
        yield ", ".join(others)


def _or_above(goal: RoutingGoal) -> str:
    return goal_words(goal) or "inherited from the level above"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
