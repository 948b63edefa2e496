"""What all commands have in common, and the commands doctor, top and completion."""

import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from audit_traffic import Installation
from click.testing import CliRunner, Result
from learner_traffic import POLICY, feedback, outcome, selection, stored

from conduit_learner.cli import main
from conduit_learner.view.checkup import (
    Finding,
    check_clocks,
    check_dead_letters,
    check_policy,
    check_spool,
    check_topics,
    check_traffic,
)
from conduit_learner.view.follow import Following
from conduit_learner.view.installation import InstallationView
from conduit_log import TopicDescription
from conduit_log.kafka import KafkaLog
from conduit_schemas import DeadLetterReason, Event, Fallback, Topics

NO_JSON = {
    "completion": "it prints a program",
    "dashboard": "it serves JSON",
    "learner": "its log lines are JSON with --log-format json",
}
"""Commands without --json, and why."""


def commands() -> Iterator[tuple[str, click.Command]]:
    def below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if name:
            yield name, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                assert found is not None
                yield from below(f"{name} {child}".strip(), found)

    return below("", main)


COMMANDS = dict(commands())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="conduit")


class TestEveryCommand:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_help_has_an_example_that_can_be_parsed(self, name: str) -> None:
        text = run(*name.split(), "--help").output
        examples = re.findall(r"^ *(?:Examples?: +)?(conduit .*?)(?: *>.*| *#.*|\)\")?$", text, re.MULTILINE)
        assert any(f"conduit {name}" in example for example in examples) or isinstance(COMMANDS[name], click.Group)
        assert examples, "no example"
        for example in examples:
            words = example.split()[1:]
            command: click.Command = main
            while isinstance(command, click.Group) and words:
                found = command.get_command(click.Context(command), words[0])
                assert found is not None, example
                command, words = found, words[1:]
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            assert {word for word in words if word.startswith("--")} <= options, example

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_option_is_explained(self, name: str) -> None:
        for parameter in COMMANDS[name].params:
            if isinstance(parameter, click.Option):
                assert parameter.help or parameter.show_default, parameter.name

    @pytest.mark.parametrize(
        "name", [name for name, command in COMMANDS.items() if not isinstance(command, click.Group)]
    )
    def test_it_speaks_json(self, name: str) -> None:
        speaks = any("--json" in parameter.opts for parameter in COMMANDS[name].params)
        assert speaks or name in NO_JSON

    def test_the_plain_ones_print_one_object(self, tmp_path: Path) -> None:
        for arguments in (("version",), ("topics", "create"), ("topics", "describe")):
            where = () if arguments == ("version",) else ("--path", str(tmp_path))
            assert isinstance(json.loads(run(*arguments, *where, "--json").output), dict)


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_it_prints_what_the_shell_reads(self, shell: str) -> None:
        result = run("completion", shell)
        assert result.exit_code == 0
        assert "_CONDUIT_COMPLETE" in result.output

    @pytest.mark.process
    def test_bash_takes_it(self) -> None:
        script = run("completion", "bash").output
        done = subprocess.run(["bash", "-n"], input=script, text=True, check=False, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.process
    def test_commands_are_completed(self) -> None:
        environment = {
            **os.environ,
            "_CONDUIT_COMPLETE": "bash_complete",
            "COMP_WORDS": "conduit do",
            "COMP_CWORD": "1",
        }
        code = "from conduit_learner.cli import main; main(prog_name='conduit')"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["plain,doctor"]

    def test_another_shell_is_refused(self) -> None:
        assert run("completion", "tcsh").exit_code == 2


def seen(events: list[Event]) -> InstallationView:
    view = InstallationView()
    for message in stored(events):
        view.event(message)
    return view


def served(count: int, *, rated: int = 0, cost_usd: float | None = 0.01, **changes: object) -> InstallationView:
    events: list[Event] = []
    for number in range(count):
        decision_id = f"d{number}"
        events += [selection(decision_id, chosen=0, **changes), outcome(decision_id, cost_usd=cost_usd)]
        if number < rated:
            events.append(feedback(decision_id, 0.5))
    return seen(events)


def found(view: InstallationView, what: str, *, silent_s: float = 0.0) -> Finding:
    policy = view.policies[POLICY]
    findings = {
        finding.check.removeprefix(f"{POLICY}: "): finding
        for finding in check_policy(policy, now_ms=int(policy.newest_ms + 1000 * silent_s))
    }
    return findings[what]


def topic(name: str, **changes: object) -> TopicDescription:
    settings = {"cleanup.policy": "delete" if name.endswith("events") else "compact"}
    settings["message.timestamp.type"] = "LogAppendTime"
    return TopicDescription(name, True, 12, 3, settings, {})._replace(**changes)


class TestCheckup:
    def test_sound_topics(self) -> None:
        described = [topic(name) for name in Topics().all]
        assert [finding.state for finding in check_topics(described, Topics(), KafkaLog.capabilities)] == ["ok"]

    @pytest.mark.parametrize(
        ("name", "changes", "state", "said"),
        [
            ("conduit.events", {"exists": False}, "bad", "conduit.events do not exist"),
            ("conduit.events", {"settings": {"message.timestamp.type": "CreateTime"}}, "bad", "senders' clocks"),
            ("conduit.snapshots", {"settings": {"cleanup.policy": "delete"}}, "bad", "is not compacted"),
            ("conduit.events", {"replication": 1}, "look", "only one copy"),
        ],
    )
    def test_what_is_wrong_with_topics(self, name: str, changes: dict[str, object], state: str, said: str) -> None:
        described = [topic(known, **(changes if known == name else {})) for known in Topics().all]
        last = list(check_topics(described, Topics(), KafkaLog.capabilities))[-1]
        assert last.state == state
        assert said in last.found
        assert last.advice

    def test_clocks(self) -> None:
        view = served(1)
        now_s = view.newest_ms / 1000.0
        assert list(check_clocks(InstallationView(), now_s=0.0)) == []
        assert [finding.state for finding in check_clocks(view, now_s=now_s)] == ["ok"]
        assert [finding.state for finding in check_clocks(view, now_s=now_s - 60.0)] == ["look"]
        ahead = seen([selection("d1", time=now_s + 3_600.0)])
        (finding,) = check_clocks(ahead, now_s=now_s)
        assert re.search(r"ahead of the log's clock", finding.found)

    def test_a_learner(self) -> None:
        view = served(3)
        assert found(view, "learner").state == "bad"
        made = Installation().run(100)
        for message in made.log:
            view.event(message)
        view.snapshot(made.stored_published()[0])
        assert found(view, "learner").state == "ok"
        assert found(view, "learner", silent_s=600.0).state == "bad"
        made.publish()
        view.snapshot(made.stored_published()[-1])
        assert found(view, "learner", silent_s=600.0).state == "ok"

    def test_decisions_left_to_litellm(self) -> None:
        assert found(served(30), "decisions").state == "ok"
        left = found(served(30, fallback="no_snapshot"), "decisions")
        assert left.found.endswith(f"mostly because of: no_snapshot. {Fallback.NO_SNAPSHOT.about}")
        assert left.advice == Fallback.NO_SNAPSHOT.advice
        assert "'full_moon'" in found(served(30, fallback="full_moon"), "decisions").found
        for intended in ("shadow", "off", "control", "warm_start"):
            assert found(served(30, fallback=intended), "decisions").state == "ok"

    @pytest.mark.parametrize(
        ("count", "rated", "state"), [(5, 0, "ok"), (30, 0, "look"), (300, 2, "look"), (300, 30, "ok")]
    )
    def test_feedback(self, count: int, rated: int, state: str) -> None:
        assert found(served(count, rated=rated), "feedback").state == state

    @pytest.mark.parametrize(("cost_usd", "state"), [(None, "look"), (0.0, "look"), (0.01, "ok")])
    def test_prices(self, cost_usd: float | None, state: str) -> None:
        assert found(served(30, cost_usd=cost_usd), "prices").state == state

    def test_the_rest(self) -> None:
        view = InstallationView()
        assert check_traffic(view, Following()).state == "look"
        assert check_dead_letters(view).state == "ok"
        view.dead_letters["t/0/1"] = "orphan"
        assert check_dead_letters(view).found == f"1. orphan: {DeadLetterReason.ORPHAN.about}"
        assert [finding.state for size in (None, 0, 5 << 20) for finding in check_spool(size)] == ["ok", "look"]


class TestDoctor:
    def test_a_sound_installation(self, tmp_path: Path) -> None:
        made = Installation().run(200)
        made.publish()
        shift = int(time.time() * 1000) - 5_000 - made.log[-1].time_ms
        made.store(tmp_path, [message._replace(time_ms=message.time_ms + shift) for message in made.log])
        result = run("doctor", "--path", str(tmp_path))
        assert result.exit_code == 0, result.output
        assert f"ok    {POLICY}: learner: up to date with contextual_thompson" in result.output
        assert "ok    dead letters: none" in result.output
        fields = json.loads(run("doctor", "--path", str(tmp_path), "--json").output)
        assert fields["ok"] is True
        assert {"versions", "log", "topics", "clock", "traffic"} <= {finding["check"] for finding in fields["findings"]}

    def test_a_broken_one_says_what_to_do(self, tmp_path: Path) -> None:
        made = Installation().run(30)
        made.published.clear()
        made.store(tmp_path)
        result = run("doctor", "--path", str(tmp_path))
        assert result.exit_code == 1
        assert re.search(r"BAD .*no snapshot has been published.*\n +-> make sure that a learner runs", result.output)

    def test_on_kafka_without_topics_and_without_a_broker(self, kafka_bootstrap: str) -> None:
        prefix = f"doctor-{uuid.uuid4().hex[:12]}"
        result = run("doctor", "--bootstrap-servers", kafka_bootstrap, "--prefix", prefix)
        assert result.exit_code == 1
        assert "create them: conduit topics create" in result.output
        run("topics", "create", "--bootstrap-servers", kafka_bootstrap, "--prefix", prefix)
        result = run("doctor", "--bootstrap-servers", kafka_bootstrap, "--prefix", prefix)
        assert result.exit_code == 0, result.output
        assert "look  traffic: no events yet" in result.output
        assert run("doctor", "--bootstrap-servers", "127.0.0.1:1").exit_code == 3


class TestTop:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        made = Installation().run(150)
        made.publish()
        made.store(tmp_path)
        return tmp_path

    def test_it_prints_once_where_there_is_no_terminal(self, path: Path) -> None:
        result = run("top", "--path", str(path))
        assert result.exit_code == 0, result.output
        assert f"policy {POLICY}, all events read: 150 decisions" in result.output
        for arm in ("dear", "cheap", "slow"):
            assert re.search(rf"^{arm} +\d+\.\d%", result.output, re.MULTILINE)
        assert re.search(r"looked best of 3|was tried out", result.output)

    def test_json_is_the_pages_report(self, path: Path) -> None:
        report = json.loads(run("top", "--path", str(path), "--json").output)
        assert report["totals"]["selections"] == 150
        assert math.isclose(sum(arm["share"] for arm in report["arms"]), 1.0)

    def test_a_policy_that_is_not_there(self, path: Path) -> None:
        result = run("top", "--path", str(path), "--policy", "default/none")
        assert result.exit_code == 2
        assert f"known policies: {POLICY}" in result.output

    @pytest.mark.process
    def test_on_a_terminal_it_goes_on_until_it_is_told_to_stop(self, path: Path) -> None:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "conduit_learner", "top", "--path", str(path)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
            start_new_session=True,
            # A test run in the background ignores Ctrl-C, and child processes inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no other thread runs
        )
        os.close(theirs)
        shown = b""
        while b"looked best" not in shown and b"was tried out" not in shown:
            shown += os.read(ours, 65_536)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        try:
            while os.read(ours, 65_536):
                pass
        except OSError:
            pass  # the other end is closed
        os.close(ours)
        assert process.wait(timeout=240) == 0
        assert POLICY.encode() in shown
