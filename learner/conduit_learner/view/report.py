"""Convert a view into plain numbers and sentences for the web page, ``top`` and ``doctor``."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from conduit_learner.models.elementary import NORMAL_95
from conduit_learner.view.installation import InstallationView
from conduit_learner.view.policy import OTHERS, TIMES, PolicyView
from conduit_learner.view.savings_report import savings_report
from conduit_learner.view.timeline import COUNTS, Cell
from conduit_learner.view.wording import alarm_words, consequence, reason, routing_words
from conduit_policy import AMOUNTS, SIGNALS, weight_words
from conduit_policy.vectors import unpack_vector
from conduit_schemas import DeadLetterReason, Fallback

__all__ = ["POINTS", "arm_names", "installation_report", "policy_report", "quality_of"]

POINTS = 60
"""Maximum number of points on a curve; neighbouring buckets are merged to meet it."""

_COUNTS = tuple(name for name in COUNTS if name != "rating_squares")


def installation_report(view: InstallationView, *, now_ms: int) -> dict[str, Any]:
    """Return the numbers of the whole installation: a summary of each policy, and the dead letters."""
    return {
        "now_ms": now_ms,
        "events": view.events,
        "events_of_policies_not_shown": view.events_not_shown,
        "undecodable": view.undecodable,
        "policies": [
            {"name": policy.name, "selections": policy.selections, "newest_ms": policy.newest_ms}
            for policy in sorted(view.policies.values(), key=lambda policy: policy.name)
        ],
        "dead_letters": {
            "reasons": dict(Counter(view.dead_letters.values()).most_common()),
            "about": {reason: DeadLetterReason.sentence(reason) for reason in view.dead_letters.values()},
            "newest": [
                {
                    "place": letter.place,
                    "time_ms": letter.time_ms,
                    "reason": letter.reason,
                    "message": letter.message,
                }
                for letter in reversed(view.letters)
            ],
        },
    }


def policy_report(policy: PolicyView, range_: str, *, now_ms: int) -> dict[str, Any]:
    """Return everything to show about one policy.

    Parameters
    ----------
    range_
        One of :data:`conduit_learner.view.timeline.RANGES`, the time span of curves and tables. Savings always cover
        all events read.
    now_ms
        The current time, milliseconds since 1970.

    Examples
    --------
    >>> policy_report(PolicyView("default/chat"), "all", now_ms=0)["totals"]["selections"]
    0
    """
    names = arm_names(policy.arms)

    def named(arm: str) -> str:
        return names.get(arm, arm)

    width_ms, starts, cells = _curves(policy, range_, now_ms)
    sums = {arm: _together(column) for arm, column in cells.items()}
    total = _together(sums.values())
    shown = [*policy.arms, *([OTHERS] if OTHERS in sums else [])]
    return {
        "policy": policy.name,
        "amounts": _amounts(policy),
        "range": range_,
        "now_ms": now_ms,
        "newest_ms": policy.newest_ms,
        "totals": {**_figures(total, total.selections), "spent_usd": policy.spent_usd, "all": policy.selections},
        "arms": [
            {
                "id": arm,
                "name": named(arm),
                "model": policy.arms.get(arm, ""),
                **_figures(sums.get(arm, Cell()), total.selections),
                "p95": {field: policy.quantile(arm, field, 0.95) for field in TIMES},
                "beliefs": _beliefs(policy, arm),
                "alarms": _alarms(policy, arm),
            }
            for arm in shown
        ],
        "series": {
            "starts_ms": starts,
            "width_ms": width_ms,
            "arms": {
                arm: {
                    **{name: [getattr(cell, name) for cell in column] for name in _COUNTS},
                    **{signal.field: [cell.amounts[signal.field] for cell in column] for signal in AMOUNTS},
                    **{f"{signal.field}_known": [cell.known[signal.field] for cell in column] for signal in AMOUNTS},
                }
                for arm, column in cells.items()
            },
        },
        "savings": savings_report(policy, named),
        "health": _health(policy, now_ms),
        "decisions": [
            {
                "id": decision.decision_id,
                "time_ms": decision.time_ms,
                "arm": decision.arm,
                "name": named(decision.arm),
                "is_exploration": decision.is_exploration,
                "status": decision.status,
                "rating": decision.rating,
                **{signal.field: decision.amounts.get(signal.field) for signal in AMOUNTS},
                "reason": reason(decision, named, observed=policy.observed(decision.arm)),
                "consequence": consequence(decision),
            }
            for decision in reversed(policy.recent)
        ],
        "changes": [change._asdict() for change in reversed(policy.changes)],
        "objective": policy.objective,
        "objective_words": weight_words(policy.objective),
        "routing": _routing(policy),
    }


def arm_names(models: Mapping[str, str]) -> dict[str, str]:
    """Return a short name for every arm: its model's name, with the arm's id if several arms share the model.

    Examples
    --------
    >>> arm_names({"d1": "openai/gpt-4.1", "d2": "azure/gpt-4.1", "d3": "openai/o3", "d4": ""})
    {'d1': 'gpt-4.1 (d1)', 'd2': 'gpt-4.1 (d2)', 'd3': 'o3', 'd4': 'd4'}
    """
    short = {arm: model.rpartition("/")[2] or arm for arm, model in models.items()}
    count = Counter(short.values())
    return {arm: name if count[name] == 1 else f"{name} ({arm[:12]})" for arm, name in short.items()}


def quality_of(cell: Cell) -> tuple[float | None, float | None]:
    """Return an arm's quality, where failed calls count 0, and the half-width of its 95 % interval.

    The mean rating represents all calls that did not fail, rated or not.

    Examples
    --------
    >>> cell = Cell()
    >>> cell.rated, cell.rating, cell.rating_squares, cell.successes, cell.errors = 2, 1.0, 0.5, 3, 1
    >>> quality_of(cell)
    (0.375, 0.0)
    """
    ended = cell.successes + cell.errors
    worked = cell.successes / ended if ended else 1.0
    if not cell.rated:
        return (0.0 if ended and not cell.successes else None), None
    mean = cell.rating / cell.rated
    if cell.rated < 2:
        return mean * worked, None
    variance = max(0.0, cell.rating_squares / cell.rated - mean * mean) * cell.rated / (cell.rated - 1)
    return mean * worked, NORMAL_95 * worked * math.sqrt(variance / cell.rated)


def _curves(policy: PolicyView, range_: str, now_ms: int) -> tuple[int, list[int], dict[str, list[Cell]]]:
    """Return the points' width and start times, and every arm's cell at each point."""
    timeline = policy.timelines[range_]
    buckets = dict(timeline)
    if range_ != "all":
        # The last hour ends now, even if nothing happened in it.
        buckets = {
            start: cells for start, cells in buckets.items() if start > now_ms - timeline.width_ms * timeline.capacity
        }
    if not buckets:
        return timeline.width_ms, [], {}
    first, last = min(buckets), max(buckets)
    count = (last - first) // timeline.width_ms + 1
    width_ms = timeline.width_ms * math.ceil(count / POINTS)
    starts = list(range(first, last + 1, width_ms))
    columns: dict[str, list[Cell]] = {}
    for start, cells in buckets.items():
        for arm, cell in cells.items():
            if arm not in columns:
                columns[arm] = [Cell() for _ in starts]
            columns[arm][(start - first) // width_ms].add(cell)
    return width_ms, starts, columns


def _together(cells: Iterable[Cell]) -> Cell:
    total = Cell()
    for cell in cells:
        total.add(cell)
    return total


def _amounts(policy: PolicyView) -> list[dict[str, Any]]:
    """Return the amounts that calls of this policy have reported, in display order."""
    cells = [cell for _, bucket in policy.timelines["all"] for cell in bucket.values()]
    seen = {field for cell in cells for field, count in cell.known.items() if count}
    return [
        {name: getattr(signal, name) for name in ("name", "field", "unit", "title", "is_money", "is_time")}
        for signal in AMOUNTS
        if signal.field in seen or signal.is_money
    ]


def _figures(cell: Cell, all_selections: int) -> dict[str, Any]:
    quality, reach = quality_of(cell)
    ended = cell.successes + cell.errors
    return {
        "selections": cell.selections,
        "share": _ratio(cell.selections, all_selections),
        "quality": quality,
        "quality_reach": reach,
        **{signal.field: cell.mean(signal.field) for signal in AMOUNTS},
        "error_rate": _ratio(cell.errors, ended),
        "coverage": _ratio(cell.rated, cell.successes),
        "rated": cell.rated,
        "explored": _ratio(cell.explored, cell.selections - cell.fallbacks),
        "by_litellm": _ratio(cell.fallbacks, cell.selections),
    }


def _beliefs(policy: PolicyView, arm: str) -> dict[str, dict[str, float]]:
    """Return an arm's average in the newest snapshot, with its 95 % interval, by signal."""
    known = policy.published.snapshot.arms.get(arm) if policy.published else None
    if known is None:
        return {}
    beliefs = {}
    for signal, posterior in known.signals.items():
        if not posterior.is_observed:
            continue
        # The intercept's variance is the uncertainty about the arm before any request is considered.
        precision = float(unpack_vector(posterior.precision)[0])
        reach = NORMAL_95 * posterior.sigma / math.sqrt(precision) if precision > 0.0 else math.inf
        unit = SIGNALS[signal].shown if signal in SIGNALS else float
        low, high = posterior.average - reach, posterior.average + reach
        if not math.isfinite(reach):
            continue
        beliefs[signal] = {
            "mean": unit(posterior.average),
            "low": unit(low),
            "high": unit(high),
            "observations": posterior.weight,
        }
    return beliefs


def _alarms(policy: PolicyView, arm: str) -> list[dict[str, Any]]:
    """Return the changes that the learner detected in an arm, newest first."""
    known = policy.published.snapshot.arms.get(arm) if policy.published else None
    found = known.alarms if known is not None and known.alarms is not None else {}
    alarms = [
        {"time_ms": alarm.time_ms, "words": alarm_words(signal, alarm.before, alarm.after, alarm.count)}
        for signal, alarm in found.items()
    ]
    return sorted(alarms, key=lambda alarm: -alarm["time_ms"])


def _routing(policy: PolicyView) -> dict[str, Any] | None:
    """Return the routing settings in the newest snapshot, or None if it has none."""
    state = policy.published.snapshot.routing if policy.published else None
    if state is None:
        return None
    return {"words": routing_words(state.settings), **state.model_dump(mode="json")}


def _health(policy: PolicyView, now_ms: int) -> dict[str, Any]:
    behind, is_floor = policy.behind()
    published = policy.published
    snapshot = published.snapshot if published else None
    return {
        "partition": policy.partition,
        "events_behind": behind,
        "is_more_behind": is_floor,
        "snapshot_age_s": max(0.0, (now_ms - published.at_ms) / 1000.0) if published else None,
        "snapshot_offset": snapshot.offset if snapshot else None,
        "snapshot_hash": snapshot.hash if snapshot else None,
        "algorithm": snapshot.settings.algorithm if snapshot else None,
        "open_decisions": snapshot.open_decisions if snapshot else None,
        "censored": snapshot.censored if snapshot else None,
        "unmatched": policy.unmatched,
        "fallbacks": dict(policy.fallbacks.most_common()),
        "about_fallbacks": {reason: Fallback.sentence(reason) for reason in policy.fallbacks},
        "errors": dict(policy.errors.most_common(10)),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
