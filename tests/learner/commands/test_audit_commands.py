"""The audit commands from end to end, on an embedded log and on archives of it."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_traffic import ARMS, POLICY, Installation, partly_rated
from click.testing import CliRunner, Result
from learner_traffic import feedback, messages, outcome, selection

from conduit_learner.audit.archive import Archive
from conduit_learner.audit.dead_letters import dead_letters
from conduit_learner.audit.history import BlockingLog
from conduit_learner.cli import main
from conduit_learner.commands.options import progress_bar
from conduit_log import StoredMessage
from conduit_log.embedded import EmbeddedLog
from conduit_schemas import (
    DeadLetter,
    Fallback,
    Flag,
    LearningChange,
    LearningSettings,
    Topics,
    decode_snapshot,
    encode,
)
from conduit_schemas.reasons import NotProvable

TOPICS = Topics()
COMMANDS = [
    ("archive",),
    ("dead-letters",),
    ("dead-letters", "list"),
    ("dead-letters", "replay"),
    ("diff",),
    ("evaluate",),
    ("explain",),
    ("replay",),
    ("restore",),
]


def run(*arguments: object, input: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(part) for part in arguments], input=input, prog_name="conduit")


def fields(result: Result) -> dict[str, Any]:
    assert result.exit_code in (0, 1), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def installation() -> Installation:
    return Installation().run(150)


@pytest.fixture(scope="module")
def path(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    installation.store(folder)
    return folder


@pytest.fixture(scope="module")
def tampered(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tampered")
    installation.store(folder, installation.tampered(installation.offset_of("d120", "outcome"), cost_usd=9.0))
    return folder


@pytest.fixture(scope="module")
def archived(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    assert run("archive", "--to", folder, "--path", path).exit_code == 0
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_on_a_line_of_its_own(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"\n  Example:  conduit {command[0]}" in result.output
    assert "\\b" not in result.output


class TestReplay:
    def test_it_prints_what_is_known(self, installation: Installation, path: Path) -> None:
        result = run("replay", "--policy", POLICY, "--path", path)
        snapshot = installation.learner.snapshot(POLICY)
        assert result.exit_code == 0
        assert f"hash {snapshot.hash}" in result.output
        assert f"offset {snapshot.offset:,}" in result.output and "150 selections" in result.output
        dear = snapshot.arms["dear"].signals
        row = next(line for line in result.output.splitlines() if line.startswith("dear "))
        assert row.split()[1] == "vendor/dear"
        assert row.split()[-4] == f"{dear['quality'].average:.3f}"

    def test_json_and_the_whole_snapshot(self, installation: Installation, path: Path, tmp_path: Path) -> None:
        file = tmp_path / "snapshot.json"
        found = fields(run("replay", "--policy", POLICY, "--path", path, "--until", 200, "--json", "--output", file))
        snapshot = decode_snapshot(file.read_bytes())
        assert (found["snapshot"]["offset"], found["snapshot"]["hash"]) == (200, snapshot.hash)
        assert found["verification"] is None
        assert set(found["snapshot"]["arms"]) == set(ARMS)
        quality = found["snapshot"]["arms"]["dear"]["signals"]["quality"]
        assert quality["average"] == snapshot.arms["dear"].signals["quality"].average

    def test_an_honest_log_is_verified(self, installation: Installation, path: Path) -> None:
        result = run("replay", "--policy", POLICY, "--path", path, "--verify")
        assert result.exit_code == 0
        assert "matched: 130 decisions and 1 published records, from 7 rebuilt snapshots" in result.output
        assert "nothing to prove: 20 decisions. LiteLLM's own selection chose (no_snapshot)." in result.output
        assert "mismatched: 0" in result.output

    def test_a_tampered_log_is_found_out(self, installation: Installation, tampered: Path) -> None:
        result = run("replay", "--policy", POLICY, "--path", tampered, "--verify")
        assert result.exit_code == 1
        assert f"events offset {installation.offset_of('d140')}, decision d140: the snapshot" in result.output
        assert "decision d139:" not in result.output
        assert "snapshots offset" in result.output  # nor does the published one follow from it
        found = fields(run("replay", "--policy", POLICY, "--path", tampered, "--verify", "--json"))
        assert found["verification"]["mismatched"] == 11
        decisions = [mismatch["decision_id"] for mismatch in found["verification"]["mismatches"]]
        assert decisions == [None, *(f"d{number}" for number in range(140, 150))]
        assert found["verification"]["matched"]["decisions"] == 120

    def test_up_to_the_forgery_all_is_well(self, installation: Installation, tampered: Path) -> None:
        until = installation.offset_of("d120", "outcome")
        result = run("replay", "--policy", POLICY, "--path", tampered, "--verify", "--until", until)
        assert result.exit_code == 0
        assert "mismatched: 0" in result.output

    def test_many_mismatches_are_summed_up(self, installation: Installation, tmp_path: Path) -> None:
        made = Installation().run(160, publish_every=10)
        made.store(tmp_path, made.tampered(2, status="error"))
        result = run("replay", "--policy", POLICY, "--path", tmp_path, "--verify")
        assert "mismatched: 151" in result.output and "    and 51 more" in result.output

    def test_a_trimmed_log_says_what_it_cannot_prove(self, installation: Installation, tmp_path: Path) -> None:
        installation.store(tmp_path, installation.log[5:])
        result = run("replay", "--policy", POLICY, "--path", tmp_path, "--verify")
        assert result.exit_code == 1
        assert f"not provable: 131 decisions or published records. {NotProvable.NO_CHECKPOINT.about}" in result.output
        plain = run("replay", "--policy", POLICY, "--path", tmp_path)
        assert plain.exit_code == 1
        assert plain.output.startswith("Error: partition 0: the events before offset 5 were deleted")

    def test_a_checkpoint_helps(self, tmp_path: Path) -> None:
        made = Installation().run(100)
        made.checkpoint()
        made.run(60, seed=1)
        made.store(tmp_path, made.log[1:])
        result = run("replay", "--policy", POLICY, "--path", tmp_path, "--verify")
        assert result.exit_code == 0
        assert "matched: 60 decisions" in result.output
        assert "were deleted; the replay started from a checkpoint" in result.output
        assert "not provable: 80 decisions" in result.output


class TestExplain:
    def test_a_decision_in_words(self, installation: Installation, path: Path) -> None:
        result = run("explain", "d120", "--policy", POLICY, "--path", path)
        assert result.exit_code == 0
        assert "decision d120 of policy default/chat" in result.output
        assert "exploration rule: thompson (cold_ratings 5, " in result.output
        assert "objective: quality 1, cost 0.05, " in result.output
        assert "latency 0.01; all but quality counted for 100% of that" in result.output
        assert "proof: proven" in result.output
        assert "outcome: success" in result.output
        assert "had the largest mean utility, so " in result.output

    def test_what_is_assumed_of_a_deployment_is_marked(self, tmp_path: Path) -> None:
        partly_rated().store(tmp_path)
        told = run("explain", "d90", "--policy", POLICY, "--path", tmp_path).output
        rows = {row.split()[0]: row for row in told.splitlines() if " vendor/" in row}
        assert re.search(r"1\.000 \[0\.\d\d\d, 1\.000\] n=20 ", rows["dear"]) and "assumed" not in rows["dear"]
        for arm in ("cheap", "slow"):
            assert re.search(r" 1\.000 assumed  1\.000 \[", rows[arm]) and rows[arm].count("n=20") == 2
        found = fields(run("explain", "d90", "--policy", POLICY, "--path", tmp_path, "--json"))
        assert [explained["predicted"]["quality"]["observations"] > 0 for explained in found["arms"]] == [
            True,
            False,
            False,
        ]

    def test_a_decision_as_json(self, installation: Installation, path: Path) -> None:
        found = fields(run("explain", "d120", "--policy", POLICY, "--path", path, "--json"))
        assert found["proof"] == "proven" and found["reasons"] == []
        assert [explained["arm"] for explained in found["arms"]] == list(ARMS)
        assert found["drawn"] == found["chosen"]
        assert found["largest_probability_difference"] == 0.0
        assert found["propensity"] == found["arms"][ARMS.index(found["chosen"])]["logged_probability"]
        assert found["outcomes"][0]["decision_id"] == "d120"

    def test_a_forged_decision(self, installation: Installation, tampered: Path) -> None:
        result = run("explain", "d149", "--policy", POLICY, "--path", tampered)
        assert result.exit_code == 1
        assert "proof: differs." in result.output and "was logged" in result.output

    def test_a_fallback(self, path: Path) -> None:
        result = run("explain", "d3", "--policy", POLICY, "--path", path)
        assert result.exit_code == 0
        assert Fallback.NO_SNAPSHOT.about in result.output
        assert fields(run("explain", "d3", "--policy", POLICY, "--path", path, "--json"))["greedy"] is None

    def test_duplicates_and_failures_are_told(self, tmp_path: Path) -> None:
        made = Installation()
        made.put(made.select("x", POLICY, made_context()))
        for event in (
            outcome("x", status="error", error_class="Timeout"),
            outcome("x"),
            feedback("x", 0.5, key="tone"),
            feedback("x", 0.7, key="tone"),
        ):
            made.put(event)
        made.put(
            selection("y", policy=POLICY, featurizer="eight", context=bytes(16), flags=("cold_share", "full_moon"))
        )
        made.store(tmp_path)
        told = run("explain", "x", "--policy", POLICY, "--path", tmp_path).output
        assert "outcome: error (Timeout)\noutcome: success, a duplicate\n" in told
        assert "feedback: quality 0.5 by app/tone\nfeedback: quality 0.7 by app/tone, a duplicate\n" in told
        silent = run("explain", "y", "--policy", POLICY, "--path", tmp_path).output
        assert "no outcome or feedback has been logged" in silent
        assert (
            f"that changed the probabilities:\n    cold_share: {Flag.COLD_SHARE.about}\n    full_moon: The log"
            in silent
        )


def made_context() -> np.ndarray:
    return np.full(8, 1024, np.int16)


class TestDiff:
    def test_words_and_numbers(self, installation: Installation, path: Path) -> None:
        result = run("diff", "--policy", POLICY, "--path", path, "--from", 60)
        assert result.exit_code == 0
        assert "dear (vendor/dear): kept, +" in result.output
        assert "\n    cost    " in result.output and " observations)" in result.output
        assert ", first observed" in result.output or ", no clear change" in result.output

    def test_json(self, installation: Installation, path: Path) -> None:
        found = fields(run("diff", "--policy", POLICY, "--path", path, "--from", 60, "--to", 300, "--json"))
        assert (found["before"]["offset"], found["after"]["offset"]) == (60, 300)
        assert found["arms"]["dear"]["status"] == "kept"
        added = found["after"]["selections"] - found["before"]["selections"]
        assert sum(arm["counts"]["selections"] for arm in found["arms"].values()) == added

    def test_settings_and_clear_changes(self, tmp_path: Path) -> None:
        made = Installation().run(60)
        half = len(made.log)
        other = LearningSettings(featurizer="eight", dimension=8, lambda_reg=4.0, params={"cold_ratings": 5.0})
        made.put(LearningChange(policy=POLICY, time=0.0, settings=other))
        for number in range(60):
            made.put(made.select(f"late{number}", POLICY, made_context()))
            made.put(outcome(f"late{number}", latency_s=900.0, cost_usd=1e-9))
        made.store(tmp_path)
        told = run("diff", "--policy", POLICY, "--path", tmp_path, "--from", half).output
        assert "setting lambda_reg: 1.0 -> 4.0" in told
        assert ", clearly up" in told and ", clearly down" in told


class TestEvaluate:
    def test_a_candidate(self, path: Path, tmp_path: Path) -> None:
        file = tmp_path / "policy.toml"
        file.write_text('[settings]\nalgorithm = "uniform"\n[objective]\npreset = "cost"\n', encoding="utf-8")
        result = run("evaluate", "--policy", POLICY, "--path", path, "--candidate", file)
        assert result.exit_code == 0
        assert "policy default/chat: 130 decisions" in result.output
        assert "95% interval" in result.output and "doubly robust" in result.output
        assert "note: 20 decisions were left out" in result.output
        found = fields(run("evaluate", "--policy", POLICY, "--path", path, "--candidate", file, "--json"))
        assert found["candidate"]["settings"]["algorithm"] == "uniform"
        assert found["candidate"]["objective"] == {"quality": 1.0, "cost": 0.2, "latency": 0.01, "ttft": 0.0}
        headline = found["estimates"]["quality"][0]
        assert headline["low"] <= headline["value"] <= headline["high"]
        direct = next(estimate for estimate in found["estimates"]["quality"] if estimate["method"] == "direct")
        assert direct["low"] is None and direct["standard_error"] is None  # JSON has no infinity

    def test_what_was_logged_is_worth_what_it_earned(self, path: Path, tmp_path: Path) -> None:
        file = tmp_path / "policy.toml"
        file.write_text("[settings]\n", encoding="utf-8")
        found = fields(run("evaluate", "--policy", POLICY, "--path", path, "--candidate", file, "--json"))
        assert found["estimates"]["success"][0]["value"] == pytest.approx(found["logged"]["success"]["value"], abs=0.05)

    def test_a_trimmed_log_is_noted(self, installation: Installation, tmp_path: Path) -> None:
        installation.store(tmp_path, [installation.log[0]._replace(offset=4), *installation.log[5:]])
        file = tmp_path / "policy.toml"
        file.write_text('[objective]\npreset = "speed"', encoding="utf-8")
        result = run("evaluate", "--policy", POLICY, "--path", tmp_path, "--candidate", file)
        assert result.exit_code == 0
        assert (
            "note: the events before offset 4 were deleted, so the candidate did not learn from them" in result.output
        )

    def test_mistakes(self, path: Path, tmp_path: Path) -> None:
        file = tmp_path / "policy.toml"
        file.write_text("[settings]\nalgoritm = 1", encoding="utf-8")
        result = run("evaluate", "--policy", POLICY, "--path", path, "--candidate", file)
        assert result.exit_code == 2
        assert result.output.startswith(f"Error: {file}: [settings]: there is no 'algoritm'; there are algorithm, ")


class TestArchive:
    def test_every_command_reads_an_archive(self, installation: Installation, archived: Path, tmp_path: Path) -> None:
        where = ("--policy", POLICY, "--archive", archived)
        replayed = run("replay", "--verify", *where)
        assert replayed.exit_code == 0
        assert "matched: 130 decisions and 0 published records" in replayed.output
        assert "proof: proven" in run("explain", "d120", *where).output
        assert run("diff", "--from", 60, *where).exit_code == 0
        (tmp_path / "policy.toml").write_text("[settings]", encoding="utf-8")
        assert run("evaluate", "--candidate", tmp_path / "policy.toml", *where).exit_code == 0

    def test_only_what_is_new_is_added(self, installation: Installation, path: Path, archived: Path) -> None:
        count = len(installation.log)
        found = fields(run("archive", "--to", archived, "--path", path, "--policy", POLICY, "--json"))
        wanted = {"partition": 0, "first": 0, "end": count, "messages": 0, "files": 0, "is_provable": True}
        assert found["partitions"] == [wanted]
        told = run("archive", "--to", archived, "--path", path)
        assert told.output.splitlines() == [
            f"partition 0: 0 events added, offsets 0 to {count - 1:,}",
            f"0 events archived in {archived}",
        ]

    def test_a_late_archive_says_what_it_is_good_for(self, installation: Installation, tmp_path: Path) -> None:
        installation.store(tmp_path, installation.log[5:])
        result = run("archive", "--to", tmp_path / "archive", "--path", tmp_path)
        assert result.exit_code == 0
        assert "its snapshots cannot be rebuilt" in result.output

    def test_a_damaged_archive_is_noticed(self, path: Path, tmp_path: Path) -> None:
        run("archive", "--to", tmp_path, "--path", path)
        (file,) = Archive(tmp_path).partition(0).files
        file.write_bytes(file.read_bytes()[:-50])
        result = run("replay", "--policy", POLICY, "--archive", tmp_path)
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {file}")

    def test_restored_it_gives_the_same_snapshots(
        self, installation: Installation, archived: Path, tmp_path: Path
    ) -> None:
        told = run("restore", "--from", archived, "--path", tmp_path)
        count = len(installation.log)
        assert told.output == f"{count} events restored to topic conduit.events of the embedded log in {tmp_path}\n"
        found = fields(run("restore", "--from", archived, "--log", f"file:{tmp_path}", "--json"))
        assert found == {"restored": 0, "log": f"file:{tmp_path}", "topic": "conduit.events"}
        again = fields(run("replay", "--policy", POLICY, "--path", tmp_path, "--json"))
        assert again["snapshot"]["hash"] == installation.learner.snapshot(POLICY).hash


class TestDeadLetters:
    @pytest.fixture
    def letters(self, tmp_path: Path) -> Path:
        good = messages([outcome("d1", cost_usd=0.5)])[0]
        records = [(good.value, "orphan", 10), (b"junk", "invalid", 20), (good.value, "orphan", 30)]
        with BlockingLog(EmbeddedLog(tmp_path, topics=TOPICS), TOPICS) as log:
            log.append(
                TOPICS.dead_letters,
                [
                    good._replace(
                        key=f"{TOPICS.events}/0/{offset}".encode(),
                        value=encode(
                            DeadLetter(
                                topic=TOPICS.events,
                                partition=0,
                                offset=offset,
                                time_ms=1_000 * offset,
                                reason=reason,
                                message=f"number {offset}",
                                record_key=good.key,
                                record=record,
                                record_bytes=len(record),
                            )
                        ),
                    )
                    for record, reason, offset in records
                ],
            )
        return tmp_path

    def test_list(self, letters: Path) -> None:
        assert run("dead-letters", "list", "--path", letters).output.splitlines() == [
            "1970-01-01T00:00:10.000+00:00  conduit.events/0/10  orphan: number 10",
            "1970-01-01T00:00:20.000+00:00  conduit.events/0/20  invalid: number 20",
            "1970-01-01T00:00:30.000+00:00  conduit.events/0/30  orphan: number 30",
            "3 dead letters, 2 orphan, 1 invalid",
        ]

    def test_list_some(self, letters: Path) -> None:
        found = fields(run("dead-letters", "list", "--path", letters, "--reason", "orphan", "--limit", 1, "--json"))
        assert (found["count"], found["reasons"]) == (2, {"orphan": 2})
        assert [letter["offset"] for letter in found["dead_letters"]] == [30]

    def test_replay_asks_first(self, letters: Path) -> None:
        result = run("dead-letters", "replay", "--path", letters, input="n\n")
        assert result.exit_code == 1
        assert "Append 2 records to conduit.events? [y/N]" in result.output
        with BlockingLog(EmbeddedLog(letters, topics=TOPICS), TOPICS) as log:
            assert list(log.partition(0)) == []

    def test_replay_says_what_was_done(self, letters: Path) -> None:
        result = run("dead-letters", "replay", "--path", letters, input="y\n")
        assert result.exit_code == 0
        assert "left out: 1. Its record would be refused again. `conduit dead-letters list` says" in result.output
        assert "2 records appended to conduit.events again" in result.output
        with BlockingLog(EmbeddedLog(letters, topics=TOPICS), TOPICS) as log:
            assert len(list(log.partition(0))) == 2
            assert sum(letter.replayed_at is not None for letter in dead_letters(log)) == 2
        assert ", retried: number 10" in run("dead-letters", "list", "--path", letters).output
        again = run("dead-letters", "replay", "--path", letters, "--reason", "orphan")
        assert again.output.splitlines() == [
            "left out: 2. It was retried before.",
            "0 records appended to conduit.events again",
        ]

    def test_replay_without_asking(self, letters: Path) -> None:
        found = fields(run("dead-letters", "replay", "--path", letters, "--yes", "--json", "--reason", "orphan"))
        assert found == {"replayed": 2, "left_out": {}}


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("replay",), 2, "Missing option '--policy'"),
        (("replay", "--policy", "p", "--path", "LOG"), 2, "holds no event of policy 'p'"),
        (("replay", "--policy", POLICY, "--path", "LOG", "--until", "soon"), 2, "'soon' is not a position"),
        (("replay", "--policy", POLICY, "--path", "LOG", "--until", "9999"), 2, "the events end at offset"),
        (("replay", "--policy", POLICY, "--path", "LOG", "--until", "0"), 2, "has no event before offset 0"),
        (("replay", "--policy", POLICY, "--path", "EMPTY"), 2, "there is no embedded log in"),
        (("replay", "--policy", POLICY, "--archive", "EMPTY"), 2, "holds no archive"),
        (("replay", "--policy", POLICY, "--bootstrap-servers", "127.0.0.1:1"), 3, "127.0.0.1:1"),
        (("explain", "nobody", "--policy", POLICY, "--path", "LOG"), 2, "no decision 'nobody'"),
        (("diff", "--policy", POLICY, "--path", "LOG"), 2, "Missing option '--from'"),
        (("archive", "--path", "EMPTY", "--to", "EMPTY"), 2, "there is no embedded log in"),
        (("restore", "--from", "EMPTY", "--path", "EMPTY"), 2, "holds no archive"),
        (("restore", "--from", "EMPTY", "--bootstrap-servers", "k:1"), 2, "cannot be restored exactly"),
        (("dead-letters", "list", "--path", "EMPTY"), 2, "there is no embedded log in"),
    ],
)
def test_failures_are_one_clear_line(
    path: Path, tmp_path: Path, arguments: tuple[str, ...], exit_code: int, message: str
) -> None:
    places = {"LOG": path, "EMPTY": tmp_path}
    result = run(*(places.get(part, part) for part in arguments))
    assert result.exit_code == exit_code
    assert message in result.output
    assert result.output.splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "log.sqlite3").exists()  # reading creates nothing


def test_progress_is_shown_on_a_terminal_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        with progress_bar("counting", 10) as tell:
            tell(5)
        assert ("counting" in stream.getvalue()) is shown


def test_a_foreign_record_on_the_snapshot_topic_does_not_mislead(installation: Installation, tmp_path: Path) -> None:
    installation.store(tmp_path)
    with BlockingLog(EmbeddedLog(tmp_path, topics=TOPICS), TOPICS) as log:
        log.append(TOPICS.snapshots, [StoredMessage(0, 0, 0, POLICY.encode(), b"{}")[3:]])  # type: ignore[list-item]  # a pair
    result = run("replay", "--policy", POLICY, "--path", tmp_path, "--verify")
    assert result.exit_code == 1
    assert "mismatched: 1" in result.output and "snapshots offset" in result.output
