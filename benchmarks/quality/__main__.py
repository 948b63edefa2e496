"""The command line: ``python -m benchmarks.quality --data DIR``."""

import json
import math
import os
import sys
from pathlib import Path

import click

from benchmarks.quality.policies import CONDUIT, ONLINE, POLICIES, REFERENCES, available
from benchmarks.quality.report import table, to_html
from benchmarks.quality.stream import Delays
from benchmarks.quality.study import Plan, study
from conduit_schemas import ConduitError

DEFAULT_POLICIES = ("conduit", *ONLINE, *REFERENCES)


@click.command()
@click.option(
    "--data",
    "folders",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder with prompts.parquet (prompt_id, text) and outcomes.parquet (a row per prompt and model: prompt_id, "
    "model, quality 0..1, cost_usd and, where known, latency_s, input_tokens, output_tokens); repeat it for more.",
)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1, 1000), help="Orders of the prompts.")
@click.option(
    "--tradeoff",
    "tradeoffs",
    multiple=True,
    type=click.FloatRange(0.0, 100.0),
    default=(0.0, 0.05, 0.2),
    show_default=True,
    help="How much quality the most expensive model's price is worth; repeatable.",
)
@click.option(
    "--max-prompts",
    default=5_000,
    show_default=True,
    type=click.IntRange(50),
    help="Maximum number of prompts per stream; each order takes its own random sample.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="Only these; repeatable. 'all' adds Conduit's other algorithms. Known: " + ", ".join(POLICIES),
)
@click.option(
    "--snapshot-every",
    default=50,
    show_default=True,
    type=click.IntRange(1),
    help="Decisions between two updates of what policies choose by.",
)
@click.option(
    "--outcome-delay",
    default=20,
    show_default=True,
    type=click.IntRange(0),
    help="Decisions until cost and latency are known.",
)
@click.option(
    "--feedback-delay", default=200, show_default=True, type=click.IntRange(0), help="Decisions until quality is known."
)
@click.option(
    "--feedback-share",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.0, 1.0),
    help="Share of the decisions whose quality ever becomes known.",
)
@click.option(
    "--jobs", default=min(2, os.cpu_count() or 1), show_default=True, type=click.IntRange(1), help="Processes."
)
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write an HTML report with pictures there.",
)
def main(
    *,
    folders: tuple[Path, ...],
    seeds: int,
    tradeoffs: tuple[float, ...],
    max_prompts: int,
    policies: tuple[str, ...],
    snapshot_every: int,
    outcome_delay: int,
    feedback_delay: int,
    feedback_share: float,
    jobs: int,
    as_json: bool,
    report: Path | None,
) -> None:
    """Replay recorded outcomes through Conduit, its peers and its references, and compare them."""
    # For the worker processes: many small products are fastest on one thread, and LiteLLM needs no network.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        wanted = list(policies) or list(DEFAULT_POLICIES)
        if "all" in wanted:
            wanted = [*CONDUIT, *ONLINE, *REFERENCES]
        present, missing = available(list(dict.fromkeys(wanted)))
        for name, package in missing.items():
            print(f"left out: {name}, because {package} is not installed (pip install {package})", file=sys.stderr)
        if not all(map(math.isfinite, (*tradeoffs, feedback_share))):
            raise click.UsageError("--tradeoff and --feedback-share take finite numbers only")
        if report is not None and not report.parent.is_dir():
            raise click.UsageError(f"--report: there is no folder {report.parent}; make it first")
        if not present:
            raise click.UsageError("none of the chosen policies can play")
        plan = Plan(
            folders=_named(folders),
            policies=tuple(present),
            tradeoffs=tuple(sorted(set(tradeoffs))),
            seeds=seeds,
            max_prompts=max_prompts,
            delays=Delays(snapshot_every, outcome_delay, feedback_delay, feedback_share),
        )
        results = study(plan, processes=jobs, left_out=missing)
    except ConduitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(table(results))
    if report is not None:
        report.write_text(to_html(results), encoding="utf-8")
        print(f"report: {report}", file=sys.stderr)
    if as_json:
        print(json.dumps(results, allow_nan=False))


def _named(folders: tuple[Path, ...]) -> dict[str, Path]:
    """Return the folders by their own names; equal names get a number."""
    named: dict[str, Path] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        name, number = folder.name, 2
        while name in named:
            name, number = f"{folder.name}-{number}", number + 1
        named[name] = folder
    return named


if __name__ == "__main__":
    main()
