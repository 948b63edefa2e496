"""All runs of a benchmark, distributed over processes, and their figures."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.quality.dataset import Dataset, load
from benchmarks.quality.metrics import (
    Part,
    Point,
    Score,
    cost_for,
    frontier,
    frontier_area,
    interval,
    jackknife,
    score,
)
from benchmarks.quality.policies import POLICIES, chosen_arms
from benchmarks.quality.stream import Delays, Stream

__all__ = ["Plan", "study"]

TARGETS = (100, 98, 95)
"""Percentages of the best fixed arm's quality at which the saved cost is reported."""
_POOL = 50_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    folders: Mapping[str, Path]
    """Folders by data set name."""
    policies: tuple[str, ...]
    tradeoffs: tuple[float, ...] = (0.0, 0.05, 0.2)
    seeds: int = 5
    max_prompts: int = 5_000
    """Maximum number of prompts per stream."""
    delays: Delays = field(default_factory=Delays)

    @property
    def pool(self) -> int:
        """Maximum number of a folder's prompts, from which every order takes its sample."""
        return max(self.max_prompts, _POOL)


class _Job(NamedTuple):
    dataset: str
    policy: str
    tradeoff: float
    seed: int


class _Result(NamedTuple):
    score: Score
    fixed: tuple[tuple[Point, Point], ...]
    """By model, the point of always choosing it, over the whole stream and over its last third."""


def study(plan: Plan, *, processes: int = 1, left_out: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run everything and return the report; progress is written to standard error.

    Raises
    ------
    RecordedDataError
        When a folder cannot be used; nothing has run then.
    """
    data = {name: _load(folder, name, plan.pool) for name, folder in plan.folders.items()}
    results = _run(plan, processes)
    return {
        "datasets": {name: _dataset_report(plan, name, data[name], results) for name in plan.folders},
        "settings": {
            "seeds": plan.seeds,
            "tradeoffs": list(plan.tradeoffs),
            "max_prompts": plan.max_prompts,
            **asdict(plan.delays),
        },
        "policies": {name: POLICIES[name].about for name in plan.policies},
        "left_out": dict(left_out or {}),
        "units": {
            "utility": "quality - tradeoff * c per request; c = ln(cost), 0 at the mean cost of the cheapest model, 1 "
            "at that of the most expensive one, clipped to 0..1",
            "ci95": "half the width of the 95 % confidence interval of the utility over seeds",
            "regret": "utility of the best fixed model less that of the policy, per request",
            "savings_at": "share of the best fixed model's cost saved (1 = all), last third, at that per cent of its "
            "quality, by mixing the policy's own trade-offs; null: it does not reach that quality",
        },
    }


def _run(plan: Plan, processes: int) -> dict[_Job, _Result]:
    jobs = [
        _Job(name, policy, tradeoff, seed)
        for name in plan.folders
        for seed in range(plan.seeds)
        for tradeoff in plan.tradeoffs
        for policy in plan.policies
    ]
    results: dict[_Job, _Result] = {}
    started = time.monotonic()
    for job, result in _played(plan, jobs, processes):
        results[job] = result
        if len(results) % max(1, len(jobs) // 40) == 0 or len(results) == len(jobs):
            print(
                f"{len(results)}/{len(jobs)} runs, {time.monotonic() - started:.0f} s, latest: {job.dataset} "
                f"{job.policy} t={job.tradeoff:g} seed {job.seed}",
                file=sys.stderr,
                flush=True,
            )
    return results


def _played(plan: Plan, jobs: Sequence[_Job], processes: int) -> Iterator[tuple[_Job, _Result]]:
    if processes == 1:
        yield from ((job, _play(plan, job)) for job in jobs)
        return
    # Fresh processes, not forks: Vowpal Wabbit and numerical libraries have threads that a fork would lose.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_play, plan, job): job for job in jobs}
        for done in as_completed(futures):
            yield futures[done], done.result()


@lru_cache(maxsize=1)
def _load(folder: Path, name: str, pool: int) -> Dataset:
    return load(folder, name, max_prompts=pool)


@lru_cache(maxsize=1)
def _stream(
    folder: Path, name: str, *, seed: int, tradeoff: float, max_prompts: int, pool: int, delays: Delays
) -> Stream:
    return Stream(_load(folder, name, pool), seed=seed, tradeoff=tradeoff, delays=delays, max_prompts=max_prompts)


def _play(plan: Plan, job: _Job) -> _Result:
    stream = _stream(
        plan.folders[job.dataset],
        job.dataset,
        seed=job.seed,
        tradeoff=job.tradeoff,
        max_prompts=plan.max_prompts,
        pool=plan.pool,
        delays=plan.delays,
    )
    arms = chosen_arms(job.policy, stream)
    recorded, last = stream.outcomes, stream.last_third
    return _Result(
        score(stream, arms, counted_from=len(stream) // 2 if POLICIES[job.policy].half else 0),
        tuple(
            (
                Point(float(recorded.cost_usd[:, arm].mean()), float(recorded.quality[:, arm].mean())),
                Point(float(recorded.cost_usd[last, arm].mean()), float(recorded.quality[last, arm].mean())),
            )
            for arm in range(len(recorded.models))
        ),
    )


def _dataset_report(plan: Plan, name: str, data: Dataset, results: Mapping[_Job, _Result]) -> dict[str, Any]:
    def scores(policy: str, tradeoff: float) -> list[Score]:
        return [results[_Job(name, policy, tradeoff, seed)].score for seed in range(plan.seeds)]

    entries = {
        policy: [_entry(tradeoff, scores(policy, tradeoff)) for tradeoff in plan.tradeoffs] for policy in plan.policies
    }
    if "conduit" in plan.policies:
        for policy, rows in entries.items():
            for row in rows:
                row["conduit_advantage"] = _advantage(
                    scores("conduit", row["tradeoff"]), scores(policy, row["tradeoff"]), POLICIES[policy].half
                )
    any_policy = plan.policies[0]
    fixed = [results[_Job(name, any_policy, plan.tradeoffs[0], seed)].fixed for seed in range(plan.seeds)]
    points: dict[str, list[list[Point]]] = {
        policy: [
            [_point(results[_Job(name, policy, tradeoff, seed)].score.last_third) for tradeoff in plan.tradeoffs]
            for seed in range(plan.seeds)
        ]
        for policy in plan.policies
    }
    points["static_hull"] = [[last for _, last in models] for models in fixed]
    savings, areas = _frontiers(points, fixed)
    return {
        "prompts": data.outcomes.recorded,
        "prompts_per_stream": min(len(data), plan.max_prompts),
        "models": list(data.outcomes.models),
        "policies": entries,
        "savings_at": {policy: {target: s[0] for target, s in row.items()} for policy, row in savings.items()},
        "savings_ci95": {policy: {target: s[1] for target, s in row.items()} for policy, row in savings.items()},
        "frontier_area": {policy: {"area": area, "ci95": width} for policy, (area, width) in areas.items()},
        "references": {
            "best_fixed": {
                f"{tradeoff:g}": data.outcomes.models[int(data.utility(tradeoff).mean(axis=0).argmax())]
                for tradeoff in plan.tradeoffs
            },
            "fixed": {
                model: {
                    **_mean_point([models[arm][0] for models in fixed])._asdict(),
                    "last_third": _mean_point([models[arm][1] for models in fixed])._asdict(),
                }
                for arm, model in enumerate(data.outcomes.models)
            },
            "static_hull": [p._asdict() for p in frontier(_mean_points(points["static_hull"]))],
            "full_information_gain": _full_information_gain(plan, scores),
        },
    }


def _entry(tradeoff: float, scores: Sequence[Score]) -> dict[str, Any]:
    return {
        "tradeoff": tradeoff,
        **_part([score.whole for score in scores]),
        "last_third": _part([score.last_third for score in scores]),
        "regret_curve": [interval(bin_)[0] for bin_ in zip(*(score.curve for score in scores), strict=True)],
    }


def _part(parts: Sequence[Part]) -> dict[str, Any]:
    figures = {field: interval([getattr(part, field) for part in parts]) for field in Part._fields}
    return {
        **{field: mean for field, (mean, _) in figures.items()},
        "ci95": figures["utility"][1],
        **{f"{field}_ci95": width for field, (_, width) in figures.items() if field != "utility"},
    }


def _advantage(ours: Sequence[Score], theirs: Sequence[Score], half: bool) -> dict[str, Any]:
    """Return Conduit's utility minus another policy's, for each seed on the same stream."""
    pairs = list(zip(ours, theirs, strict=True))
    last, last_width = interval([a.last_third.utility - b.last_third.utility for a, b in pairs])
    advantage: dict[str, Any] = {"last_third": {"utility": last, "ci95": last_width}}
    if not half:
        whole, width = interval([a.whole.utility - b.whole.utility for a, b in pairs])
        advantage |= {"utility": whole, "ci95": width}
    return advantage


def _full_information_gain(plan: Plan, scores: Any) -> dict[str, Any]:
    """Return, for each trade-off, Conduit's gain over the best fixed arm in the last third, and the possible gain."""
    gains: dict[str, Any] = {}
    for policy in ("conduit", "full_information", "full_information_words"):
        if policy in plan.policies:
            gains[policy] = {}
            for tradeoff in plan.tradeoffs:
                gain, width = interval([-score.last_third.regret for score in scores(policy, tradeoff)])
                gains[policy][f"{tradeoff:g}"] = {"gain": gain, "ci95": width}
    return gains


_Estimate = tuple[float | None, float | None]


def _frontiers(
    points: Mapping[str, Sequence[Sequence[Point]]], fixed: Sequence[Sequence[tuple[Point, Point]]]
) -> tuple[dict[str, dict[str, _Estimate]], dict[str, _Estimate]]:
    """Return each policy's savings at each quality target, and the area under its frontier."""
    seeds = len(fixed)
    models = range(len(fixed[0]))

    def last(arm: int, used: Sequence[int]) -> Point:
        return _mean_point([fixed[seed][arm][1] for seed in used])

    best = max(models, key=lambda arm: _mean_point([seed[arm][0] for seed in fixed]).quality)
    cheapest = min(models, key=lambda arm: _mean_point([seed[arm][0] for seed in fixed]).cost_usd)
    most_expensive_usd = max(_mean_point([seed[arm][0] for seed in fixed]).cost_usd for arm in models)
    savings: dict[str, dict[str, _Estimate]] = {}
    areas: dict[str, _Estimate] = {}
    for policy, by_seed in points.items():

        def saved(target: int, used: Sequence[int], by_seed: Sequence[Sequence[Point]] = by_seed) -> float | None:
            goal = last(best, used)
            # A small tolerance, so that rounding does not keep the best arm itself from reaching 100 %.
            cost = cost_for(_mean_points([by_seed[seed] for seed in used]), goal.quality * target / 100.0 - 1e-12)
            return None if cost is None or not goal.cost_usd else 1.0 - cost / goal.cost_usd

        def area(used: Sequence[int], by_seed: Sequence[Sequence[Point]] = by_seed) -> float:
            return frontier_area(
                _mean_points([by_seed[seed] for seed in used]), last(cheapest, used), most_expensive_usd
            )

        savings[policy] = {
            str(target): jackknife(lambda used, t=target: saved(t, used), seeds)  # type: ignore[misc]  # bound per target
            for target in TARGETS
        }
        areas[policy] = jackknife(area, seeds) if most_expensive_usd else (None, None)
    return savings, areas


def _point(part: Part) -> Point:
    return Point(part.cost_usd, part.quality)


def _mean_point(points: Sequence[Point]) -> Point:
    return Point(*(sum(column) / len(points) for column in zip(*points, strict=True)))


def _mean_points(by_seed: Sequence[Sequence[Point]]) -> list[Point]:
    return [_mean_point(points) for points in zip(*by_seed, strict=True)]
