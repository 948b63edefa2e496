from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from conduit_demo import charts, metrics
from conduit_demo.charts import Line, Point
from conduit_demo.report import write_report
from conduit_demo.run import Result, Settings
from conduit_demo.summary import sentences
from conduit_demo.world import SimulatedWorld, World
from conduit_policy import Objective

_VOID = {"meta", "link", "br", "img", "line", "circle", "path"}


class _Page(HTMLParser):
    """Checks that every element is closed, in order, and collects what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.fetched += [f"{tag} {name}" for name, _ in attrs if name in {"src", "href", "srcset", "xlink:href"}]
        if tag not in {"meta"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _result(world: World, requests: int) -> Result:
    table = world.table
    served = {
        "conduit": metrics.at_random(table, 1),
        "simple_shuffle": metrics.at_random(table, 2),
        "random": metrics.at_random(table, 3),
        "best_fixed": metrics.always(table, 1),
        "best_quality": metrics.always(table, 1),
        "most_expensive": metrics.always(table, 0),
    }
    names = {"best_fixed": 1, "best_quality": 1, "most_expensive": 0}
    return Result(
        settings=Settings(requests=requests),
        objective=Objective(),
        table=table,
        served=served,
        fixed={name: table.models[model] for name, model in names.items()},
        snapshots=12,
        feedbacks=34,
        selection_us={"conduit": [100.0, 200.0, 300.0], "simple_shuffle": [50.0]},
        seconds=1.0,
    )


@pytest.mark.parametrize("requests", [60, 1200])
def test_the_report_is_one_whole_page_that_fetches_nothing(tmp_path: Path, requests: int) -> None:
    result = _result(SimulatedWorld(requests, 1), requests)
    write_report(tmp_path / "report.html", result)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.fetched == []
    for outside in ("http://", "https://", "url(", "@import", "<script", "<!-- "):
        assert outside not in text
    assert page.seen.count("svg") == 4
    assert "prefers-color-scheme: dark" in text
    said = " ".join(page.words)
    assert sentences(result.as_json())[0] in said
    assert "nan" not in said.lower().split()
    assert ("After the first 1,000 requests" in said) == (requests > metrics.WARM_UP)


def test_names_are_escaped(tmp_path: Path) -> None:
    world = SimulatedWorld(60, 1)
    world.models = ("<b>bold</b>", *world.models[1:])
    write_report(tmp_path / "report.html", _result(world, 60))
    assert "<b>bold" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_short_runs_have_no_figures_after_the_warm_up() -> None:
    figures = _result(SimulatedWorld(60, 1), 60).as_json()
    assert figures["policies"]["conduit"]["after_1000"] is None
    assert figures["simple_shuffle_selection_us"] == {"p50": 50.0, "p99": 50.0}
    assert figures["selection_us"] == {"p50": 200.0, "p99": pytest.approx(298.0)}


def test_sentences_say_it_when_things_went_badly() -> None:
    good = {"quality": 0.9, "cost_usd": 0.002, "errors": 0.0, "mix_quality": 0.8}
    conduit = {"quality": 0.5, "cost_usd": 0.003, "errors": 0.1, "mix_quality": 0.85, "after_1000": None}
    policies = {
        "conduit": conduit,
        "most_expensive": {**good, "after_1000": None, "model": "big"},
        "best_fixed": {**good, "after_1000": None, "model": "big"},
    }
    said = " ".join(sentences({"requests": 100, "policies": policies}))
    assert "cost 50 % more than always using big, at 55.6 % of its quality" in said
    assert "below the 0.850" in said
    assert "10 requests ended without an answer" in said


def test_labels_do_not_cover_each_other() -> None:
    flat = np.ones(50)
    curves = [Line(f"line {number}", flat * (0.8 + number * 1e-4), "x") for number in range(5)]
    drawing = charts.lines("t", 1, curves, "{:.2f}".format)
    heights = [float(part.split('y="')[1].split('"')[0]) for part in drawing.split("<text")[1:] if "label" in part]
    assert len(heights) == 5
    assert min(np.diff(sorted(heights))) >= 14.9


def test_dots_at_one_place_get_separate_labels() -> None:
    points = [Point(f"model {number}", 1.0, 0.5, "m0") for number in range(2)] + [Point("far", 100.0, 0.9, "m1")]
    drawing = charts.scatter("t", points, [(1.0, 0.5), (100.0, 0.9)], "${:.2f}".format)
    starts = [part.split(">")[0] for part in drawing.split("<text")[1:] if "label" in part]
    assert len(set(starts)) == 3
