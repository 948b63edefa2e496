"""The command line: ``python -m benchmarks.scenarios --data DIR``."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from benchmarks.quality.policies import ONLINE, POLICIES, available
from benchmarks.quality.stream import Delays
from benchmarks.scenarios.study import Plan, study
from benchmarks.scenarios.worlds import SCENARIOS
from conduit_schemas import ConduitError

_NOT_ROUTING = {"cheapest", "most_expensive", "random"}
DEFAULT_POLICIES = ("conduit", "conduit_without_prices", *(name for name in ONLINE if name not in _NOT_ROUTING))


@click.command()
@click.option(
    "--data",
    "folders",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder with prompts.parquet and outcomes.parquet; repeat it for more.",
)
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    type=click.Choice(list(SCENARIOS)),
    help="Only these; repeatable. Default: all.",
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--decisions",
    default=6000,
    show_default=True,
    type=click.IntRange(1000),
    help="Length of each stream; prompts come again, in another order, when there are fewer.",
)
@click.option("--tradeoff", type=click.FloatRange(0.0, 100.0), help="Instead of each scenario's own.")
@click.option(
    "--policy", "policies", multiple=True, metavar="NAME", help=f"Only these; repeatable. Known: {', '.join(POLICIES)}"
)
@click.option(
    "--jobs", default=min(2, os.cpu_count() or 1), show_default=True, type=click.IntRange(1), help="Processes."
)
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON.")
def main(
    *,
    folders: tuple[Path, ...],
    scenarios: tuple[str, ...],
    seeds: int,
    decisions: int,
    tradeoff: float | None,
    policies: tuple[str, ...],
    jobs: int,
    as_json: bool,
) -> None:
    """Replay recorded outcomes in a world that changes on the way, and compare how policies adapt."""
    # For the worker processes: many small products are fastest on one thread, and LiteLLM needs no network.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        present, missing = available(list(dict.fromkeys(policies or DEFAULT_POLICIES)))
        for name, package in missing.items():
            print(f"left out: {name}, because {package} is not installed (pip install {package})", file=sys.stderr)
        if not present:
            raise click.UsageError("none of the chosen policies can play")
        plan = Plan(
            folders={folder.resolve().name: folder for folder in folders},
            scenarios=tuple(dict.fromkeys(scenarios)) or tuple(SCENARIOS),
            policies=tuple(present),
            seeds=seeds,
            decisions=decisions,
            tradeoff=tradeoff,
            delays=Delays(),
        )
        results = study(plan, processes=jobs)
    except ConduitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print("\n".join(_lines(results)))
    if as_json:
        print(json.dumps(results, allow_nan=False))


def _lines(results: dict[str, Any]) -> list[str]:
    lines = []
    for dataset, scenarios in results["datasets"].items():
        for scenario, policies in scenarios.items():
            lines += ["", f"{dataset}, {scenario}: {results['scenarios'][scenario]}"]
            for policy, parts in policies.items():
                shown = "   ".join(_part(part) for part in parts)
                lines.append(f"  {policy:<26}{shown}")
    return [*lines, "", *_summary(results["summary"])]


def _summary(summary: dict[str, dict[str, float]]) -> list[str]:
    """Return a table: a row per policy, a column per scenario."""
    width = max(map(len, summary)) + 2
    lines = ["lost per 1,000 decisions from the change on, mean of the data sets:", f"{'':<26}" + _row(summary, width)]
    for policy in next(iter(summary.values())):
        lines.append(f"{policy:<26}" + _row([f"{losses[policy]:.1f}" for losses in summary.values()], width))
    return lines


def _row(cells: Iterable[str], width: int) -> str:
    return "".join(f"{cell:>{width}}" for cell in cells)


def _part(part: dict[str, Any]) -> str:
    width = "" if part["ci95"] is None else f" +- {part['ci95']:.1f}"
    text = f"lost {part['lost']:.1f}{width}"
    if "adapted_after" in part:
        after = part["adapted_after"]
        text += f", adapted {'not' if after is None else f'after {after}'}"
    return f"{text:<36}"


if __name__ == "__main__":
    main()
