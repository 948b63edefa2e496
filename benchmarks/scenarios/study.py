"""Run the scenarios and summarise the results."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.dataset import load
from benchmarks.quality.metrics import interval
from benchmarks.quality.policies import POLICIES
from benchmarks.quality.stream import Delays
from benchmarks.scenarios.worlds import SCENARIOS, World

__all__ = ["Plan", "adapted_after", "study", "summary"]

WINDOW = 200
"""Number of decisions over which the loss is averaged to decide whether it is back to normal."""

STEP = 50
SLACK = 0.02
"""How far above normal the loss may be and still count as back."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    folders: Mapping[str, Path]
    scenarios: tuple[str, ...]
    policies: tuple[str, ...]
    seeds: int = 3
    decisions: int = 6000
    tradeoff: float | None = None
    delays: Delays = field(default_factory=Delays)


class _Job(NamedTuple):
    dataset: str
    scenario: str
    policy: str
    seed: int


class _Run(NamedTuple):
    loss: NDArray[np.float64]
    """By decision, the utility of the part's best model minus that of the policy."""
    parts: tuple[int, ...]


def study(plan: Plan, *, processes: int = 1) -> dict[str, Any]:
    """Run everything and return the report; progress is written to standard error."""
    for name, folder in plan.folders.items():
        _load(folder, name)  # refuses what cannot be used before anything is run
    jobs = [
        _Job(dataset, scenario, policy, seed)
        for dataset in plan.folders
        for scenario in plan.scenarios
        for seed in range(plan.seeds)
        for policy in plan.policies
    ]
    runs: dict[_Job, _Run] = {}
    for job, run in _played(plan, jobs, processes):
        runs[job] = run
        if len(runs) % max(1, len(jobs) // 20) == 0 or len(runs) == len(jobs):
            print(f"{len(runs)}/{len(jobs)} runs, latest: {' '.join(map(str, job))}", file=sys.stderr, flush=True)
    found = {
        dataset: {
            scenario: {
                policy: _entry([runs[_Job(dataset, scenario, policy, seed)] for seed in range(plan.seeds)])
                for policy in plan.policies
            }
            for scenario in plan.scenarios
        }
        for dataset in plan.folders
    }
    return {
        "datasets": found,
        "summary": summary(found),
        "scenarios": {name: SCENARIOS[name].about for name in plan.scenarios},
        "settings": {"seeds": plan.seeds, "decisions": plan.decisions},
        "units": {
            "lost": "utility less than that of the part's best model, summed over the part; ci95 over seeds",
            "adapted_after": f"decisions after the change until the loss per decision, averaged over seeds and the "
            f"next {WINDOW} decisions, is within {SLACK} of what it was before; null: not within the part",
        },
    }


def summary(
    found: Mapping[str, Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]],
) -> dict[str, dict[str, float]]:
    """Return the loss per 1,000 decisions after the change, by scenario and policy, averaged over data sets.

    If nothing changes, the loss is that of the whole stream.
    """
    by_scenario: dict[str, dict[str, list[float]]] = {}
    for scenarios in found.values():
        for scenario, policies in scenarios.items():
            for policy, entries in policies.items():
                after = entries[1:] or entries
                lost = sum(entry["lost"] for entry in after) / sum(entry["decisions"] for entry in after)
                by_scenario.setdefault(scenario, {}).setdefault(policy, []).append(1e3 * lost)
    return {
        scenario: {policy: float(np.mean(lost)) for policy, lost in policies.items()}
        for scenario, policies in by_scenario.items()
    }


def adapted_after(loss: NDArray[np.float64], begin: int, end: int, usual: float) -> int | None:
    """Return the number of decisions after ``begin`` until the loss is back to normal, or None if not before ``end``.

    Examples
    --------
    >>> adapted_after(np.r_[np.zeros(500), np.ones(100), np.zeros(900)], 500, 1500, 0.0)
    100
    """
    for start in range(begin, end - WINDOW + 1, STEP):
        if loss[start : start + WINDOW].mean() <= usual + SLACK:
            return start - begin
    return None


def _entry(runs: Sequence[_Run]) -> list[dict[str, Any]]:
    """Return one entry for each part of the stream."""
    parts, count = runs[0].parts, len(runs[0].loss)
    mean = np.mean([run.loss for run in runs], axis=0)
    ends = (*parts[1:], count)
    entries = []
    for number, (begin, end) in enumerate(zip(parts, ends, strict=True)):
        lost, width = interval([float(run.loss[begin:end].sum()) for run in runs])
        entry: dict[str, Any] = {"from": begin, "decisions": end - begin, "lost": lost, "ci95": width}
        if number:
            # Normal is the end of the first part: nothing has changed yet, and the policy has finished learning.
            usual = max(0.0, float(mean[parts[1] // 2 : parts[1]].mean()))
            entry["adapted_after"] = adapted_after(mean, begin, end, usual)
        entries.append(entry)
    return entries


def _played(plan: Plan, jobs: Sequence[_Job], processes: int) -> Iterator[tuple[_Job, _Run]]:
    if processes == 1:
        yield from ((job, _play(plan, job)) for job in jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from zip(jobs, pool.map(_play, [plan] * len(jobs), jobs), strict=True)


@lru_cache(maxsize=1)
def _load(folder: Path, name: str) -> Any:
    return load(folder, name)


def _play(plan: Plan, job: _Job) -> _Run:
    scenario = SCENARIOS[job.scenario]
    world = World(
        _load(plan.folders[job.dataset], job.dataset),
        seed=job.seed,
        tradeoff=scenario.tradeoff if plan.tradeoff is None else plan.tradeoff,
        decisions=plan.decisions,
        delays=plan.delays,
    )
    scenario.happen(world)
    arms = POLICIES[job.policy].arms(world, crc32(f"{job.policy}/{job.seed}".encode()))
    positions = np.arange(len(world))
    best = np.empty(len(world))
    for begin, end in zip(world.parts, (*world.parts[1:], len(world)), strict=True):
        part = slice(begin, end)
        best[part] = world.utility[part, world.best(part)]
    return _Run(best - world.utility[positions, arms], world.parts)
