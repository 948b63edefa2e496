"""The results as a table for the terminal and as a self-contained HTML page with charts."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.quality.svg import Chart, Marker

__all__ = ["table", "to_html"]

Json = Mapping[str, Any]

_LEADER = "conduit"
_GREY = "#9aa4ad"
_COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2"),
    *("#17becf", "#b8a800", "#14365f", "#0b6e4f", "#a05dff", "#f2a900"),
)
_MAX_LABELS = 12
"""With more models than this, the chart names only those on the frontier; tooltips name all of them."""
_SINGLE = {
    *("best_fixed", "oracle", "random", "cheapest", "most_expensive"),
    *("litellm_simple_shuffle", "litellm_cost_based"),
}
"""Policies that do not learn, and therefore get no line."""


def table(results: Json) -> str:
    """Return the results as text."""
    lines: list[str] = []
    for name, data in results["datasets"].items():
        lines += ["", f"{name}: {_size(data)}"]
        head = [_head(row["tradeoff"]) for row in next(iter(data["policies"].values()))]
        header, *rows = [["", *head, "saved at 100/98/95 %", "area"], *_rows(data)]
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        lines += [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (header, *rows)
        ]
    lines += ["", f"{_EXPLANATION} {results['settings']['seeds']} seeds."]
    for policy, package in results["left_out"].items():
        lines.append(f"Left out: {policy} (pip install {package}).")
    return "\n".join(lines)


_EXPLANATION = (
    "Utility per request, whole stream / last third ± half a 95 % interval; [Conduit's advantage over that policy in "
    "the last third, same streams: + significant, - significantly behind, = neither]. Cost saved and area under the "
    "frontier: last third."
)


def _size(data: Json) -> str:
    size = f"{data['prompts']:,} prompts, {len(data['models'])} models"
    used: int = data["prompts_per_stream"]
    return size if used == data["prompts"] else f"{size}; each order takes {used:,} of them at random (--max-prompts)"


def _head(tradeoff: float) -> str:
    return f"t={tradeoff:g}: whole / last third"


def _rows(data: Json) -> list[list[str]]:
    rows = []
    for policy, entries in data["policies"].items():
        cells = []
        for entry in entries:
            last = entry["last_third"]
            text = f"{entry['utility']:.4f} / {last['utility']:.4f}{_plus_minus(last['ci95'])}"
            cells.append(text + _verdict(policy, entry))
        rows.append([policy, *cells, *_frontier_cells(data, policy)])
    blank = [""] * len(next(iter(data["policies"].values())))
    return [*rows, ["static_hull", *blank, *_frontier_cells(data, "static_hull")]]


def _plus_minus(width: float | None) -> str:
    return "" if width is None else f" ±{width:.4f}"


def _verdict(policy: str, entry: Json) -> str:
    advantage = entry.get("conduit_advantage")
    if advantage is None or policy == _LEADER:
        return "      " if advantage else ""
    value, width = advantage["last_third"]["utility"], advantage["last_third"]["ci95"]
    sign = "=" if width is None or abs(value) <= width else "+" if value > 0 else "-"
    return f" [{sign}{abs(value):.3f}]"[:9]


def _frontier_cells(data: Json, policy: str) -> tuple[str, str]:
    saved = data["savings_at"][policy].values()
    area = data["frontier_area"][policy]["area"]
    return (
        " / ".join("  -  " if value is None else f"{100 * value:5.1f}" for value in saved),
        "" if area is None else f"{area:.4f}",
    )


def to_html(results: Json) -> str:
    """Return a self-contained page: for each data set its frontier, its learning curves, and the figures."""
    sections = "\n".join(_section(name, data) for name, data in results["datasets"].items())
    settings = ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in results["settings"].items() if value is not None
    )
    about = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in results["policies"].items())
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Quality of routing</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff; }}
figure {{ margin: 1rem 0; }} figcaption {{ color: #57606a; }}
svg {{ width: 100%; height: auto; font: 12px system-ui, sans-serif; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }}
.wide {{ overflow-x: auto; }}
th, td {{ padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #e5e8eb; white-space: pre; }}
th:first-child, td:first-child {{ text-align: left; }}
tr.leader {{ font-weight: 600; }}
dt {{ font-weight: 600; }}
</style>
<h1>Quality of routing</h1>
<p>A replay of recorded outcomes: every policy routes the same prompts in the same order and gets the same delayed
feedback. Settings: {escape(settings)}.</p>
{sections}
<h2>Policies</h2><dl>{about}</dl>
<p>{escape(_EXPLANATION)}</p>
</html>
"""


def _section(name: str, data: Json) -> str:
    tradeoffs = [row["tradeoff"] for row in next(iter(data["policies"].values()))]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in map(_head, tradeoffs))
    body = "\n".join(
        f"<tr{' class=leader' if row[0] == _LEADER else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for row in _rows(data)
    )
    curves = "\n".join(_curves(data, index, tradeoff) for index, tradeoff in enumerate(tradeoffs))
    return f"""<h2>{escape(name)}</h2>
<p>{escape(_size(data))}.</p>
<figure>{_frontier(data)}<figcaption>Quality against cost in the last third; one point per trade-off, joined. Grey:
single models, and the best that mixing them at random can reach; a dot tells
what it is when pointed at.</figcaption></figure>
{curves}
<div class="wide"><table><tr><th></th>{head}<th>saved at 100/98/95 %</th><th>area</th></tr>
{body}</table></div>"""


def _frontier(data: Json) -> str:
    references = data["references"]
    fixed = [(name, p["last_third"]["cost_usd"], p["last_third"]["quality"]) for name, p in references["fixed"].items()]
    lines = _drawn(data)
    last = {name: [entry["last_third"] for entry in data["policies"][name]] for name in lines}
    points = {name: [(part["cost_usd"], part["quality"]) for part in parts] for name, parts in last.items()}
    every = [*((cost, quality) for _, cost, quality in fixed), *(p for line in points.values() for p in line)]
    chart = Chart([x for x, _ in every], [y for _, y in every], "cost, USD per request", "quality", log_x=True)
    hull = [(p["cost_usd"], p["quality"]) for p in references["static_hull"]]
    chart.line(hull, _GREY, "best mix of single models")
    for name, cost, quality in fixed:
        named = len(fixed) <= _MAX_LABELS or (cost, quality) in hull
        label = name.rpartition("/")[2] if named else ""
        chart.marker(Marker(cost, quality, _GREY, f"always {name}: {quality:.4f} at {cost:.6g} USD", label=label))
    for name, colour in lines.items():
        chart.line(points[name], colour, name, strong=name == _LEADER)
        for entry, (cost, quality) in zip(data["policies"][name], points[name], strict=True):
            tooltip = f"{name}, t={entry['tradeoff']:g}: {quality:.4f} at {cost:.6g} USD"
            chart.marker(Marker(cost, quality, colour, tooltip))
    return chart.svg()


def _curves(data: Json, index: int, tradeoff: float) -> str:
    lines = {name: colour for name, colour in _drawn(data).items() if not name.startswith("full_information")}
    curves = {name: [-regret for regret in data["policies"][name][index]["regret_curve"]] for name in lines}
    values = [value for curve in curves.values() for value in curve]
    if not values:
        return ""
    parts: Sequence[float] = [0.05 + 0.1 * part for part in range(10)]
    chart = Chart([0.0, 1.0], [*values, 0.0], "part of the stream", "utility, best fixed model = 0")
    chart.line([(0.0, 0.0), (1.0, 0.0)], _GREY, "best fixed model")
    for name, colour in lines.items():
        chart.line(list(zip(parts, curves[name], strict=True)), colour, name, strong=name == _LEADER)
    return f"<figure>{chart.svg()}<figcaption>Learning at t={tradeoff:g}, mean over seeds.</figcaption></figure>"


def _drawn(data: Json) -> dict[str, str]:
    """Return the policies that learn, each with the colour of its line."""
    peers = [name for name in data["policies"] if name not in _SINGLE | {_LEADER}]
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(peers)}
    return {**colours, **({_LEADER: "#d1242f"} if _LEADER in data["policies"] else {})}
