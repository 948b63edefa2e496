"""``conduit demo``: the command, its progress display and its table."""

import asyncio
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from conduit_demo.summary import COLUMNS, POLICIES, cells, judged, sentences
from conduit_log import LogSettings, open_log

__all__ = ["demo"]


@click.command()
@click.option("--requests", type=click.IntRange(20, 100_000), default=3000, show_default=True, help="Requests to send.")
@click.option("--seed", type=int, default=1, show_default=True, help="Random seed of requests and outcomes.")
@click.option("--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="How many seeds to run.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=16, show_default=True, help="Parallel requests.")
@click.option("--kafka", metavar="HOST:PORT", help="Use this Kafka broker, with a separate learner process.")
@click.option("--log", metavar="ADDRESS", help="Use any log: kafka://..., file:///... or another adapter's.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Replay recorded prompts and outcomes from a folder with prompts.parquet and outcomes.parquet.",
)
@click.option("--path", type=click.Path(path_type=Path, file_okay=False), help="Keep the embedded log in this folder.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("demo-report.html"),
    show_default=True,
    help="Where to write the report.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON on standard output at the end.")
def demo(
    *,
    requests: int,
    seed: int,
    seeds: int,
    concurrency: int,
    kafka: str | None,
    log: str | None,
    data: Path | None,
    path: Path | None,
    report: Path,
    as_json: bool,
) -> None:
    """Serve real requests and watch Conduit's choices improve.

    A LiteLLM Router sends requests of many kinds over HTTP to a local server that simulates six models with published
    prices, scores and speeds. Conduit chooses the model and learns from ratings that arrive later for half of the
    answers. It is compared with LiteLLM's simple-shuffle and with fixed choices on the same requests. You need no key,
    and nothing leaves this machine.

    \b
    Examples:  conduit demo
               conduit demo --kafka localhost:9092
               conduit demo --data recorded/ --seeds 5

    Exit codes: 0 success, 1 failure, 2 wrong usage or settings, 3 log unreachable.
    """
    named = [log, f"kafka://{kafka}" if kafka else None, f"file:{path}" if path else None]
    if len(addresses := list(filter(None, named))) > 1:
        raise click.UsageError("--kafka, --path and --log all name the log: give only one of them")
    address = addresses[0] if addresses else None
    if address is not None and open_log(LogSettings(log=address)).capabilities.hosts_learner and seeds > 1:
        raise click.UsageError("--seeds must be 1 with a given log, because that log keeps what was learned")
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # use the prices that LiteLLM ships, no download
    console = Console(stderr=as_json)
    with console.status("loading LiteLLM"):
        from conduit_demo.report import write_report  # noqa: PLC0415  # imports LiteLLM, which takes seconds
        from conduit_demo.run import Settings, demonstrate  # noqa: PLC0415  # as above
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.ERROR)  # its messages on retries would break the display
    results = []
    for number in range(seed, seed + seeds):
        settings = Settings(requests=requests, seed=number, concurrency=concurrency, data=data, log=address)
        with _Display(console, f"seed {number}" if seeds > 1 else "") as display:
            results.append(asyncio.run(demonstrate(settings, display)))
    figures = [result.as_json() for result in results]
    report.parent.mkdir(parents=True, exist_ok=True)
    write_report(report, results[0])
    _show(console, figures)
    console.print(f"Report: [link=file://{report.resolve()}]{report}[/link]", highlight=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps(_merged(figures), allow_nan=False))


class _Display:
    """Shows progress while requests are served: their number, models, quality and cost so far."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._progress = Progress(
            TextColumn("{task.description:24}"),
            BarColumn(),
            TextColumn("{task.completed:>6,} of {task.total:,}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._models: tuple[str, ...] = ()
        self._said_at = 0.0
        self._forget()
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render)

    def __enter__(self) -> "_Display":
        if self._console.is_terminal:
            self._live.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        if self._console.is_terminal:
            self._live.__exit__(*exc)

    def begin(self, policy: str, requests: int, models: tuple[str, ...]) -> None:
        """Start a new bar."""
        self._forget()
        self._models = models
        self._policy = " ".join(filter(None, (POLICIES[policy], self._title)))
        self._task = self._progress.add_task(self._policy, total=requests)

    def answered(self, answer: Any) -> None:
        """Count one more request."""
        self._count += 1
        self._quality += answer.quality
        self._cost_usd += answer.cost_usd
        self._chosen[answer.model] += 1
        self._progress.advance(self._task)
        # Where nothing can be redrawn, an occasional line shows the progress.
        if not self._console.is_terminal and time.monotonic() - self._said_at > _SAY_EVERY_S:
            self._said_at = time.monotonic()
            self._console.print(
                f"{self._policy}: {self._count:,} requests, {self._so_far()}", highlight=False, soft_wrap=True
            )

    def _forget(self) -> None:
        self._count, self._quality, self._cost_usd = 0, 0.0, 0.0
        self._chosen: Counter[str | None] = Counter()

    def _so_far(self) -> str:
        if not self._count:
            return "waiting for the first answer"
        quality, cost = self._quality / self._count, 1000.0 * self._cost_usd / self._count
        shares = "  ".join(f"{model} {self._chosen[model] / self._count:.0%}" for model in self._models)
        return f"quality {quality:.3f}, ${cost:.3f} per 1,000; {shares}"

    def _render(self) -> Table:
        table = Table.grid()
        table.add_row(self._progress)
        table.add_row(f"[dim]{self._so_far()}[/dim]")
        return table


_SAY_EVERY_S = 5.0


def _show(console: Console, figures: Sequence[dict[str, Any]]) -> None:
    for result in figures:
        when = "after the first 1,000" if result["policies"]["conduit"]["after_1000"] else "all of them"
        seed = f", seed {result['seed']}" if len(figures) > 1 else ""
        console.print(_table(result, f"{result['requests']:,} requests, {when}{seed}"))
        console.print(_shares(result))
        for sentence in sentences(result):
            console.print(sentence, highlight=False)
    if len(figures) > 1:
        cost, quality = (_spread(column) for column in _against_most_expensive(figures).T.tolist())
        console.print(
            f"[bold]Over {len(figures)} seeds[/bold], mean (standard deviation): {_percent(cost)} less cost than "
            f"always using the most expensive model, at {_percent(quality)} of its quality.",
            highlight=False,
        )


def _percent(spread: dict[str, float]) -> str:
    return f"{100.0 * spread['mean']:.1f} % ({100.0 * spread['standard_deviation']:.1f})"


def _table(result: dict[str, Any], title: str) -> Table:
    table = Table(title=title)
    table.add_column("policy")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for policy, label in POLICIES.items():
        model = result["policies"][policy].get("model")
        name = f"{label}\n[dim]{model}[/dim]" if model else label
        table.add_row(name, *cells(judged(result, policy)), style="bold" if policy == "conduit" else "")
    return table


def _shares(result: dict[str, Any]) -> Table:
    """Return a table of each model's share, for the policies that use several models."""
    mixing = [policy for policy in POLICIES if "model" not in result["policies"][policy]]
    table = Table("model", *(POLICIES[policy] for policy in mixing), title="share of the requests")
    for model in judged(result, "conduit")["share"]:
        table.add_row(model, *(f"{judged(result, policy)['share'][model]:.1%}" for policy in mixing))
    return table


def _against_most_expensive(figures: Sequence[dict[str, Any]]) -> Any:
    """Return, for each run, the shares of cost saved and of quality reached, against the most expensive model."""
    rows = []
    for result in figures:
        conduit, dear = judged(result, "conduit"), judged(result, "most_expensive")
        rows.append((1.0 - conduit["cost_usd"] / dear["cost_usd"], conduit["quality"] / dear["quality"]))
    return np.array(rows)


def _merged(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a single run unchanged, or the means of several runs, with their spread and the runs themselves."""
    if len(figures) == 1:
        return figures[0]
    cost, quality = _against_most_expensive(figures).T.tolist()
    return {
        **_mean(figures),
        "spread": {
            "cost_saved_against_most_expensive": _spread(cost),
            "quality_share_of_most_expensive": _spread(quality),
        },
        "runs": list(figures),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "mean": float(np.mean(values)),
        "standard_deviation": float(np.std(values, ddof=1)),
        "least": min(values),
        "largest": max(values),
    }


def _mean(values: Sequence[Any]) -> Any:
    """Return the mean of equally shaped JSON values, number by number; other values are left out unless all agree."""
    first = values[0]
    if isinstance(first, dict):
        merged = {
            key: _mean([value[key] for value in values]) for key in first if all(key in value for value in values)
        }
        return {key: value for key, value in merged.items() if value is not None or first[key] is None}
    if isinstance(first, (int, float)) and all(isinstance(value, (int, float)) for value in values):
        return float(np.mean(values))
    return first if all(value == first for value in values) else None
