"""Old request logs become marked events that the learner learns from, all of them or none."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from learner_traffic import learned, stored

from conduit_learner.cli import main
from conduit_learner.warm_start.past import MARK, read_past
from conduit_policy import Request, TextFeaturizer
from conduit_schemas import ConfigurationError, Feedback, Selection, Snapshot

POLICY = "default/chat"
SPEND_LOG = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "spend": 0.002,
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "startTime": "2026-03-01T10:00:00.000Z",
    "endTime": "2026-03-01T10:00:02.500Z",
    "model": "gpt-4o",
    "model_id": "deployment-1",
    "model_group": "chat",
    "messages": "{}",
    "status": "success",
    "cache_hit": "False",
}


def rows(count: int = 40) -> list[dict[str, Any]]:
    return [
        {**SPEND_LOG, "request_id": f"r{number}", "model_id": f"deployment-{number % 2}", "quality": number % 2}
        for number in range(count)
    ]


def write(folder: Path, ending: str, content: list[dict[str, Any]]) -> Path:
    file = folder / f"past.{ending}"
    if ending == "jsonl":
        file.write_text("\n".join(map(json.dumps, content)) + "\n\n")
    elif ending == "json":
        file.write_text(json.dumps({"data": content}))
    elif ending == "csv":
        with file.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, list(content[0]))
            writer.writeheader()
            writer.writerows(content)
    else:
        pq.write_table(pa.Table.from_pylist(content), file)
    return file


def snapshot_of(file: Path) -> Snapshot:
    events = [event for request in read_past([file], POLICY).events for event in request]
    return learned(stored(events)).snapshot(POLICY)


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_a_spend_log_teaches_quality_cost_latency_and_success(tmp_path: Path, ending: str) -> None:
    snapshot = snapshot_of(write(tmp_path, ending, rows()))
    good, bad = snapshot.arms["deployment-1"], snapshot.arms["deployment-0"]
    assert (good.outcomes, good.feedbacks, bad.outcomes) == (20, 20, 20)
    assert (good.signals["quality"].average, bad.signals["quality"].average) == (1.0, 0.0)
    assert good.signals["cost"].average == pytest.approx(math.log(0.002), abs=1e-4)
    assert good.signals["latency"].average == pytest.approx(math.log(2.5), abs=1e-4)
    assert good.signals["success"].average == 1.0


def test_events_are_marked_and_not_taken_for_conduits_decisions(tmp_path: Path) -> None:
    [(selection, outcome, feedback)] = read_past([write(tmp_path, "jsonl", rows(1))], POLICY).events
    assert isinstance(selection, Selection)
    assert isinstance(feedback, Feedback)
    assert (selection.flags, selection.fallback, selection.propensity) == ((MARK,), MARK, None)
    assert (outcome.source, feedback.source) == (MARK, MARK)  # type: ignore[union-attr]  # an outcome


def test_known_probabilities_are_kept(tmp_path: Path) -> None:
    row = {"arm": "b", "arms": ["a", "b"], "probabilities": [0.25, 0.75], "prompt": "What is 2 + 2?", "quality": 1}
    past = read_past([write(tmp_path, "jsonl", [row])], POLICY)
    selection = past.events[0][0]
    assert isinstance(selection, Selection)
    assert (selection.propensity, selection.fallback, selection.flags) == (0.75, None, (MARK,))
    assert (past.with_probabilities, past.with_text) == (1, 1)
    assert any(selection.context[2:])


def test_failures_other_groups_and_other_names(tmp_path: Path) -> None:
    content = [
        {**SPEND_LOG, "status": "failure", "model_id": "", "request_id": "a"},
        {**SPEND_LOG, "model_group": "other"},
    ]
    past = read_past([write(tmp_path, "jsonl", content)], POLICY, renamed={"gpt-4o": "deployment-9"})
    assert (past.arms, past.other_groups, len(past.events)) == (("deployment-9",), 1, 1)
    assert past.events[0][1].status == "error"  # type: ignore[union-attr]  # an outcome


def test_prompts_are_found_where_litellm_keeps_them(tmp_path: Path) -> None:
    body = {"model": "chat", "messages": [{"role": "user", "content": "Write a poem."}], "max_tokens": 100}
    for kept in (body, json.dumps(body)):
        past = read_past([write(tmp_path, "jsonl", [{**SPEND_LOG, "proxy_server_request": kept}])], POLICY)
        selection = past.events[0][0]
        assert isinstance(selection, Selection)
        request = Request(messages=body["messages"], params={"max_tokens": 100})  # type: ignore[arg-type]  # a dict of all
        assert selection.context == TextFeaturizer()(request).astype("<i2").tobytes()
    for nothing in ("{}", {}, "", {"model": "chat"}):
        row = {**SPEND_LOG, "proxy_server_request": nothing}
        assert read_past([write(tmp_path, "jsonl", [row])], POLICY).with_text == 0


def test_what_no_deployment_got_is_left_out(tmp_path: Path) -> None:
    refused = {**SPEND_LOG, "request_id": "x", "status": "failure", "model": "", "model_id": "", "model_group": ""}
    past = read_past([write(tmp_path, "jsonl", [refused, SPEND_LOG])], POLICY)
    assert (past.unserved, len(past.events), past.arms) == (1, 1, ("deployment-1",))


def test_the_oldest_comes_first_also_where_an_export_begins_with_the_newest(tmp_path: Path) -> None:
    content = [
        {**SPEND_LOG, "request_id": f"r{hour}", "startTime": f"2026-03-01T{hour:02}:00:00Z", "endTime": None}
        for hour in (5, 9, 1)
    ]
    times = [events[0].time for events in read_past([write(tmp_path, "jsonl", content)], POLICY).events]
    assert times == sorted(times)
    del content[0]["startTime"]
    times = [events[0].time for events in read_past([write(tmp_path, "jsonl", content)], POLICY).events]
    assert times[0] == 0.0  # if times are missing, the order is the file's
    assert times[1] > times[2]


def test_rows_alike_are_as_many_requests_and_the_same_ones_when_read_again(tmp_path: Path) -> None:
    file = write(tmp_path, "jsonl", [{"arm": "a", "quality": 1}] * 3 + [{"arm": "b", "quality": 0}])
    first, again = (
        [events[0].decision_id for events in read_past([file], POLICY).events]  # type: ignore[union-attr]  # a selection
        for _ in range(2)
    )
    assert len(set(first)) == 4
    assert first == again


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"spend": 1.0}, "row 1 names no deployment"),
        ({"arm": "a", "quality": 1.5}, "row 1: quality=1.5"),
        ({"arm": "a", "arms": ["b"]}, "not among the arms b"),
        ({"arm": "a", "probabilities": [1.0]}, "need the list of arms"),
        ({"arm": "a", "spend": "much"}, "row 1: could not convert"),
        ({"arm": "a", "startTime": "yesterday"}, "row 1: Invalid isoformat"),
        ({"arm": "a", "proxy_server_request": "{"}, "row 1: '{' is not JSON"),
        ({"arm": "a", "messages": [1]}, r"row 1: messages=\[1\]: must be a list of objects"),
        ({"arm": "a", "proxy_server_request": {"messages": "x"}}, "row 1: messages=x: must be a list"),
        ({"arm": "a", "arms": ["a", "b"], "probabilities": [0.5, 0.6]}, "row 1: probabilities sum to 1.1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read_past([write(tmp_path, "jsonl", [row])], POLICY)


@pytest.mark.parametrize(("name", "text"), [("x.txt", ""), ("x.jsonl", "{"), ("x.json", "3"), ("x.parquet", "PAR")])
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=name):
        read_past([file], POLICY)


class TestCommand:
    def run(self, home: Path, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["warm-start", "--path", str(home), *arguments], catch_exceptions=False)

    def replayed(self, home: Path) -> Any:
        arguments = ["replay", "--path", str(home), "--policy", POLICY, "--json"]
        return json.loads(CliRunner().invoke(main, arguments, catch_exceptions=False).output)["snapshot"]

    def test_what_was_appended_is_learned_once(self, tmp_path: Path) -> None:
        file = str(write(tmp_path, "jsonl", rows()))
        for _ in range(2):
            result = self.run(tmp_path / "home", "--policy", POLICY, file)
            assert result.exit_code == 0, result.output
            assert "appended 40 requests to deployment-0, deployment-1; 40 with quality" in result.output
        snapshot = self.replayed(tmp_path / "home")
        assert snapshot["outcomes"] == snapshot["feedbacks"] == 40

    def test_a_dry_run_writes_nothing(self, tmp_path: Path) -> None:
        file = str(write(tmp_path, "jsonl", rows()))
        result = self.run(tmp_path / "home", "--policy", POLICY, "--dry-run", "--json", file)
        assert json.loads(result.output)["written"] is False
        assert not (tmp_path / "home").exists()

    def test_a_bad_row_keeps_everything_out(self, tmp_path: Path) -> None:
        file = str(write(tmp_path, "jsonl", [*rows(), {"spend": 1.0}]))
        result = self.run(tmp_path / "home", "--policy", POLICY, file)
        assert result.exit_code == 2
        assert "row 41" in result.output
        assert not (tmp_path / "home").exists()

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (("--policy", "chat"), "NAMESPACE/GROUP"),
            (("--policy", "default/other"), "hold no request"),
            (("--policy", POLICY, "--arm", "x"), "OLD=NEW"),
        ],
    )
    def test_wrong_use(self, tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
        result = self.run(tmp_path / "home", *arguments, str(write(tmp_path, "jsonl", rows())))
        assert result.exit_code == 2
        assert problem in result.output
