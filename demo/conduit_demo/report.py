"""The report of a run: one self-contained HTML file with a light and a dark theme."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conduit_demo import charts
from conduit_demo.charts import Line, Point
from conduit_demo.metrics import Served, mixed_quality
from conduit_demo.models import MODELS, list_price
from conduit_demo.run import Result
from conduit_demo.summary import COLUMNS, POLICIES, cells, judged, sentences

__all__ = ["write_report"]

Array = NDArray[np.float64]


def write_report(path: Path, result: Result) -> None:
    """Write the report of one run."""
    figures = result.as_json()
    page = files("conduit_demo").joinpath("report.html").read_text(encoding="utf-8")
    said = sentences(figures)
    parts = {
        "headline": escape(said[0]),
        "sentences": "".join(f"<p>{escape(sentence)}</p>" for sentence in said[1:]),
        "tiles": _tiles(figures),
        "charts": "".join(_figure(*chart) for chart in _charts(result, figures)),
        "tables": _tables(figures),
        "method": _method(result, figures),
    }
    for name, part in parts.items():
        page = page.replace(f"<!-- {name} -->", part)
    path.write_text(page, encoding="utf-8")


def _tiles(figures: dict[str, Any]) -> str:
    conduit, dear = judged(figures, "conduit"), judged(figures, "most_expensive")
    name = escape(figures["policies"]["most_expensive"]["model"])
    selection, shuffle = figures["selection_us"], figures["simple_shuffle_selection_us"]
    tiles = (
        (
            f"{100.0 * (1.0 - conduit['cost_usd'] / dear['cost_usd']):.0f} %" if dear["cost_usd"] else "-",
            f"less cost than always using {name}",
        ),
        (
            f"{100.0 * conduit['quality'] / dear['quality']:.1f} %" if dear["quality"] else "-",
            f"of the quality of {name}",
        ),
        (
            f"{100.0 * (1.0 - figures['policies']['conduit']['errors']):.1f} %",
            f"of {figures['requests']:,} requests served",
        ),
        (f"{figures['snapshots']:,}", f"snapshots learned from {figures['feedbacks']:,} ratings"),
        (f"{selection['p50'] / 1000.0:.2f} ms", f"to select a model; simple-shuffle {shuffle['p50'] / 1000.0:.2f} ms"),
    )
    return "".join(f'<div class="tile"><b>{value}</b><span>{caption}</span></div>' for value, caption in tiles)


def _charts(result: Result, figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    count = len(result.table)
    window = max(10, min(200, count // 8))
    served = result.served
    levels = {"best_fixed": "best fixed", "most_expensive": "most expensive"}

    def curves(pick: str, factor: float) -> list[Line]:
        moving = [("conduit", "Conduit"), ("simple_shuffle", "simple-shuffle")]
        flat = np.ones(count - window + 1)
        return [
            *(
                Line(label, factor * flat * getattr(served[name], pick).mean(), f"level {name}")
                for name, label in levels.items()
            ),
            *(
                Line(label, factor * _rolling(getattr(served[name], pick), window), name)
                for name, label in moving[::-1]
            ),
        ]

    caption = f"mean of the last {window} requests; dashed lines are means over the whole run"
    dollars = "${:.2f}".format
    models = result.table.models
    shares = _shares(served["conduit"], len(models), window)
    return [
        ("Quality", caption, charts.lines("Quality over time", window, curves("quality", 1.0), "{:.2f}".format)),
        (
            "Cost",
            "US dollars per 1,000 requests, averaged in the same way",
            charts.lines("Cost over time", window, curves("cost_usd", 1000.0), dollars),
        ),
        (
            "Which model Conduit chose",
            f"share of the last {window} requests",
            charts.areas("Share per model over time", window, models, shares),
        ),
        (
            "Quality against cost",
            "higher and further left is better; the curve shows the best random mixes of models",
            charts.scatter("Quality against cost", *_money_map(result, figures), dollars),
        ),
    ]


def _money_map(result: Result, figures: dict[str, Any]) -> tuple[list[Point], list[tuple[float, float]]]:
    start = 1000 if figures["policies"]["conduit"]["after_1000"] else 0
    table = result.table
    cost, quality = table.cost_usd[start:].mean(axis=0), table.quality[start:].mean(axis=0)
    min_cost = 1e-9  # lets free models appear on a logarithmic axis
    points = [
        Point(model, 1000.0 * max(min_cost, float(c)), float(q), f"m{column % 10}")
        for column, (model, c, q) in enumerate(zip(table.models, cost, quality, strict=True))
    ]
    for policy, label in (("simple_shuffle", "simple-shuffle"), ("conduit", "Conduit")):
        entry = judged(figures, policy)
        points.append(Point(label, 1000.0 * max(min_cost, entry["cost_usd"]), entry["quality"], policy))
    costs = np.geomspace(max(min_cost, float(cost.min())), max(min_cost, float(cost.max())), 60)
    mix = [(1000.0 * c, mixed_quality(table, c * (1.0 + 1e-9), start)) for c in costs.tolist()]
    return points, mix


def _rolling(values: Array, window: int) -> Array:
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((total[window:] - total[:-window]) / window)


def _shares(served: Served, models: int, window: int) -> Array:
    return np.stack([_rolling((served.chosen == model).astype(np.float64), window) for model in range(models)], axis=1)


def _tables(figures: dict[str, Any]) -> str:
    parts = []
    if figures["policies"]["conduit"]["after_1000"]:
        parts.append("<h3>After the first 1,000 requests</h3>" + _table(figures, "after_1000"))
    parts.append("<h3>Whole run</h3>" + _table(figures, None))
    return "".join(parts)


def _table(figures: dict[str, Any], part: str | None) -> str:
    rows = []
    for policy, label in POLICIES.items():
        entry = figures["policies"][policy]
        model = f" <small>{escape(entry['model'])}</small>" if "model" in entry else ""
        shown = entry[part] if part else entry
        share = " ".join(f'<i class="m{c % 10}" style="flex:{s:.4f}" title="{escape(m)} {s:.0%}"></i>'
                         for c, (m, s) in enumerate(shown["share"].items()) if s > 0.0)  # fmt: skip  # one bar
        rows.append(
            f'<tr class="{policy}"><th scope="row">{label}{model}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells(shown))
            + f'<td class="bar"><div>{share}</div></td></tr>'
        )
    return _scroll(["policy", *COLUMNS, "models"], rows)


def _method(result: Result, figures: dict[str, Any]) -> str:
    process = "the same process" if result.settings.hosts_learner else "a separate process"
    weights = ", ".join(f"{name} {weight:g}" for name, weight in figures["objective"].items())
    said = [
        f"Each of the {figures['requests']:,} requests was sent over HTTP through a LiteLLM Router to a local server "
        f"that simulates the models, {result.settings.speed:g} times faster than in reality; the latencies shown are "
        f"scaled back to reality. Events went through a log ({figures['log']}), with the learner in {process}. The "
        f"application rated half of the answers, 30 to 300 requests later. Objective: {weights}.",
        "Conduit and simple-shuffle actually ran. Every request's outcome on every model is determined in advance, so "
        "the other policies' results are read from the table of all outcomes, for the same requests.",
    ]
    if result.settings.data is not None:
        said.append("Prompts and outcomes were recorded; they were given with --data.")
        return "".join(f"<p>{escape(sentence)}</p>" for sentence in said)
    said.append(
        "Models, prices, benchmark scores and speeds are published ones; conduit_demo/models.py lists their sources. "
        "Individual prompts, their difficulty and the length of answers are simulated."
    )
    rows = []
    for column, model in enumerate(MODELS):
        price = " / ".join(f"${1e6 * dollars:.2f}" for dollars in list_price(model))
        ability = "".join(f"<td>{score:.3f}</td>" for score in model.ability.values())
        rows.append(
            f'<tr><th scope="row"><i class="dot m{column % 10}"></i>{model.name}</th><td>{price}</td>'
            f"<td>{model.first_token_s:.2f} s</td><td>{model.tokens_per_s:.0f}</td>{ability}</tr>"
        )
    heads = ["model", "USD / million tokens in / out", "first token", "tokens / s", *MODELS[0].ability]
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in said) + _scroll(heads, rows)


def _scroll(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _figure(title: str, caption: str, svg: str) -> str:
    return f"<figure><figcaption><b>{escape(title)}</b><span>{escape(caption)}</span></figcaption>{svg}</figure>"
