import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from benchmarks.quality.__main__ import main

POLICIES = ("conduit", "random", "litellm_cost_based", "best_fixed", "full_information", "oracle")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def chosen(*names: str) -> list[str]:
    return [part for name in names for part in ("--policy", name)]


@pytest.fixture(scope="module")
def finished(easy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, str]:
    page = tmp_path_factory.mktemp("report") / "report.html"
    result = run(
        *("--data", str(easy), "--seeds", "2", "--tradeoff", "0", "--tradeoff", "0.2", "--jobs", "2"),
        *("--max-prompts", "600", "--json", "--report", str(page), *chosen(*POLICIES)),
    )
    assert result.exit_code == 0
    return result, page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def report(finished: tuple[Result, str]) -> Any:
    return json.loads(finished[0].stdout.rstrip().rpartition("\n")[2])


@pytest.mark.process
def test_json_holds_what_other_programs_read(report: Any) -> None:
    assert list(report["datasets"]) == ["easy"]
    data = report["datasets"]["easy"]
    assert data["prompts"] == 900
    assert data["models"] == ["bungler", "coder", "poet"]
    assert list(data["policies"]) == list(POLICIES)
    for rows in data["policies"].values():
        assert [row["tradeoff"] for row in rows] == [0.0, 0.2]
        for row in rows:
            for part in (row, row["last_third"]):
                assert {"utility", "quality", "cost_usd", "regret", "ci95"} <= set(part)
                assert all(isinstance(part[key], float) for key in ("utility", "quality", "cost_usd", "ci95"))
                assert 0.0 <= part["quality"] <= 1.0
            assert row["last_third"]["utility"] <= row["last_third"]["quality"]
    for savings in (data["savings_at"], data["savings_ci95"]):
        assert set(savings) == {*POLICIES, "static_hull"}
        assert all(set(by_target) == {"100", "98", "95"} for by_target in savings.values())
    assert data["savings_at"]["best_fixed"]["100"] >= 0.0
    assert data["savings_at"]["random"]["100"] is None
    assert data["references"]["best_fixed"]["0"] in {"coder", "poet"}
    assert report["settings"]["seeds"] == 2
    assert (data["prompts_per_stream"], report["settings"]["max_prompts"]) == (600, 600)
    for point in data["references"]["fixed"].values():
        assert set(point) == {"cost_usd", "quality", "last_third"}
        assert set(point["last_third"]) == {"cost_usd", "quality"}


def test_figures_agree_with_each_other(report: Any) -> None:
    policies = report["datasets"]["easy"]["policies"]
    for index in range(2):
        rows = {name: policies[name][index] for name in POLICIES}
        best = rows["best_fixed"]["utility"]
        assert rows["best_fixed"]["regret"] == pytest.approx(0.0)
        assert rows["oracle"]["oracle_regret"] == pytest.approx(0.0)
        for name in ("conduit", "random", "oracle"):
            assert rows[name]["regret"] == pytest.approx(best - rows[name]["utility"])
            assert sum(rows[name]["regret_curve"]) / 10 == pytest.approx(rows[name]["regret"])
            gap = rows["conduit"]["last_third"]["utility"] - rows[name]["last_third"]["utility"]
            assert rows[name]["conduit_advantage"]["last_third"]["utility"] == pytest.approx(gap)
        assert rows["random"]["last_third"]["utility"] < rows["conduit"]["last_third"]["utility"]
        assert rows["conduit"]["last_third"]["utility"] <= rows["oracle"]["last_third"]["utility"]
    areas = {name: row["area"] for name, row in report["datasets"]["easy"]["frontier_area"].items()}
    assert areas["static_hull"] < areas["conduit"] <= areas["oracle"]


def test_the_table_names_every_policy(finished: tuple[Result, str]) -> None:
    table = finished[0].stdout
    assert "easy: 900 prompts, 3 models; each order takes 600 of them at random (--max-prompts)" in table
    assert all(re.search(rf"^{name} ", table, re.MULTILINE) for name in (*POLICIES, "static_hull"))
    assert "runs" in finished[0].stderr


def test_the_page_needs_nothing_from_elsewhere_and_its_pictures_are_whole(finished: tuple[Result, str]) -> None:
    page = finished[1]

    class Links(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [tag for key, _ in attrs if key in {"src", "href"}]
            self.found += [tag] if tag in {"script", "link", "img"} else []

    links = Links()
    links.feed(page)
    assert not links.found
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 3
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert len(root.findall("polyline")) >= 2
        assert "nan" not in picture.lower()


def test_the_same_seed_gives_the_same_report(easy: Path) -> None:
    arguments = (
        "--data",
        str(easy),
        "--seeds",
        "1",
        "--max-prompts",
        "200",
        "--jobs",
        "1",
        "--tradeoff",
        "0.1",
        "--json",
    )
    first, second = (run(*arguments, "--jobs", "1", "--json", *chosen("conduit", "random")).stdout for _ in range(2))
    assert first == second
    row = json.loads(first.splitlines()[-1])["datasets"]["easy"]["policies"]["random"][0]
    assert row["ci95"] is None


def test_bad_data_ends_with_code_2_and_a_plain_sentence(tmp_path: Path, write: Any, tables: Any) -> None:
    prompts, outcomes = tables
    outcomes["cost_usd"][5] = -1.0
    folder = write(tmp_path / "bad", prompts, outcomes)
    result = run("--data", str(folder), "--jobs", "1", *chosen("random"))
    assert result.exit_code == 2
    assert "error:" in result.stderr
    assert "outcomes.parquet: row 5 has cost_usd -1" in result.stderr
    missing = run("--data", str(tmp_path / "nowhere"), "--jobs", "1", *chosen("random"))
    assert missing.exit_code == 2
    assert "prompts.parquet does not exist" in missing.stderr
    unknown = run("--data", str(folder), *chosen("best_ever"))
    assert unknown.exit_code == 2
    assert "unknown policy 'best_ever'" in unknown.stderr


def test_what_would_fail_at_the_end_is_refused_at_the_start(easy: Path, tmp_path: Path) -> None:
    arguments = ("--data", str(easy), "--jobs", "1", *chosen("random"))
    result = run(*arguments, "--report", str(tmp_path / "nowhere" / "report.html"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--report: there is no folder {tmp_path / 'nowhere'}; make it first" in result.stderr
    result = run(*arguments, "--tradeoff", "nan")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--tradeoff and --feedback-share take finite numbers only" in result.stderr


@pytest.mark.parametrize(
    ("quality", "cost_usd"),
    [([0.5, 0.5], [0.0, 0.0]), ([0.0, 0.0], [0.002, 0.002])],
    ids=["equally good, free", "useless, equally dear"],
)
@pytest.mark.campaign
def test_every_policy_plays_where_nothing_tells_models_apart(
    tmp_path: Path, write: Any, tables: Any, quality: list[float], cost_usd: list[float]
) -> None:
    prompts, outcomes = tables
    prompts["text"][:3] = ["", "\x00 \n", "long " * 2_000]
    folder = write(tmp_path / "flat", prompts, {**outcomes, "quality": quality * 60, "cost_usd": cost_usd * 60})
    page = tmp_path / "report.html"
    arguments = ("--seeds", "1", "--jobs", "1", "--tradeoff", "0.2", "--feedback-delay", "10")
    result = run("--data", str(folder), *arguments, "--json", "--report", str(page))
    assert result.exit_code == 0
    data = json.loads(result.stdout.rstrip().rpartition("\n")[2])["datasets"]["flat"]
    assert set(data["policies"]) >= {"conduit", "random", "best_fixed", "oracle", "litellm_adaptive_router"}
    for rows in data["policies"].values():
        assert all(0.0 <= row["quality"] <= 1.0 and row["oracle_regret"] >= -1e-12 for row in rows)
    assert "nan" not in page.read_text(encoding="utf-8").lower()


def test_missing_packages_are_told_and_left_out(easy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.quality.policies.find_spec", lambda module: None)
    arguments = ("--data", str(easy), "--seeds", "1", "--max-prompts", "100", "--jobs", "1", "--json")
    result = run(*arguments, *chosen("random", "vw_bag"))
    assert "left out: vw_bag, because vowpalwabbit is not installed (pip install vowpalwabbit)" in result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["left_out"] == {"vw_bag": "vowpalwabbit"}
    assert list(report["datasets"]["easy"]["policies"]) == ["random"]
    assert run(*arguments, *chosen("vw_bag")).exit_code == 2


def test_folders_of_one_name_are_told_apart(tmp_path: Path, write: Any, tables: Any) -> None:
    folders = [write(tmp_path / parent / "set", *tables) for parent in ("a", "b")]
    data = [part for folder in folders for part in ("--data", str(folder))]
    result = run(*data, "--seeds", "1", "--jobs", "1", "--json", *chosen("random"))
    assert list(json.loads(result.stdout.splitlines()[-1])["datasets"]) == ["set", "set-2"]
