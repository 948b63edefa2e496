"""What operators see of a learner: health, readiness, metrics, log lines, and its end."""

import asyncio
import json
import logging
import math
import re
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from click.testing import CliRunner
from learner_traffic import POLICY, learned, messages, outcome, selection, stored, traffic
from prometheus_client.parser import text_string_to_metric_families

from conduit_learner.cli import main
from conduit_learner.commands.log_format import JsonFormatter
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.worker.metrics import MAX_NAMED_POLICIES, registry_of
from conduit_learner.worker.operations import (
    IDLE_S,
    MAX_LAG,
    MAX_SILENCE_S,
    liveness_problems,
    readiness_problems,
    serve,
)
from conduit_learner.worker.run import WorkerOptions, run_worker
from conduit_learner.worker.status import Durations, WorkerStatus
from conduit_log import EventLog, LogSettings, Message, StoredMessage, open_log
from conduit_log.memory import MemoryLog
from conduit_schemas import ConfigurationError, Topics

TOPICS = Topics("ops")
DEADLINE_S = 180.0
EAGER = WorkerOptions(snapshot_every_events=1, checkpoint_every_events=1, retry_s=0.01, retry_max_s=0.02)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Publication(NamedTuple):
    at: float


@dataclass
class Owned:
    learner: PartitionLearner = field(default_factory=lambda: PartitionLearner(0))
    changed: Collection[str] = ()
    published: dict[str, Publication] = field(default_factory=dict)


def working(**changes: Any) -> WorkerStatus:
    """The status of a worker that owns partition 0 and has no problem."""
    status = WorkerStatus()
    status.partitions = {0: Owned()}
    status.lag = {0: 0}
    status.log_answered()
    for name, value in changes.items():
        setattr(status, name, value)
    return status


async def get(port: int, path: str, **headers: str) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as response,
    ):
        return response.status, response.content_type, await response.text()


def samples(text: str) -> Samples:
    """Every sample by name and labels. Prometheus would refuse a scrape with a duplicate."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@asynccontextmanager
async def observed(log: EventLog) -> AsyncIterator[tuple[WorkerStatus, int]]:
    """A worker, and the port with its status."""
    status, stop = WorkerStatus(), asyncio.Event()
    async with serve(status, "127.0.0.1", 0) as port:
        worker = asyncio.create_task(run_worker(log, topics=TOPICS, stop=stop, options=EAGER, status=status))
        try:
            yield status, port
        finally:
            stop.set()
            await asyncio.wait_for(worker, DEADLINE_S)


class TestHealth:
    def test_a_worker_that_gets_on_is_well(self) -> None:
        assert liveness_problems(working()) == []

    def test_a_worker_that_is_stuck_is_not(self) -> None:
        status = working(progressed_at=time.monotonic() - MAX_SILENCE_S - 1.0)
        assert liveness_problems(status) == [f"the worker has made no progress for {MAX_SILENCE_S + 1:.0f} s"]
        assert liveness_problems(status)[0] in readiness_problems(status)

    def test_an_absent_log_is_no_reason_to_restart(self) -> None:
        status = working()
        status.log_failed()
        assert liveness_problems(status) == []


class TestReadiness:
    def test_caught_up_is_ready(self) -> None:
        assert readiness_problems(working()) == []
        assert readiness_problems(working(lag={0: MAX_LAG})) == []

    def test_far_behind_is_not(self) -> None:
        assert readiness_problems(working(lag={0: MAX_LAG + 1})) == ["partition 0 is 10,001 events behind"]

    def test_a_partition_of_unknown_lag_is_not(self) -> None:
        status = working(partitions={0: Owned(), 3: Owned()})
        assert readiness_problems(status) == ["partition 3 is still being restored"]

    def test_an_absent_log_is_not(self) -> None:
        status = working()
        status.log_failed()
        assert readiness_problems(status) == ["the event log has been unreachable for 0 s"]
        status.log_returned()
        assert readiness_problems(status) == []

    def test_idle_is_ready_once_the_group_must_have_assigned_all(self) -> None:
        status = working(partitions={})
        assert readiness_problems(status) == ["no partition is assigned yet"]
        assert status.working_since is not None
        status.working_since -= IDLE_S
        assert readiness_problems(status) == []

    def test_idle_starts_again_after_a_failure_or_a_reassignment(self) -> None:
        for interrupt in (WorkerStatus.log_failed, WorkerStatus.reassigned):
            status = working(partitions={}, working_since=time.monotonic() - IDLE_S)
            interrupt(status)
            status.unreachable_since = None
            assert readiness_problems(status) == ["no partition is assigned yet"]
            status.log_answered()
            assert readiness_problems(status) == ["no partition is assigned yet"]

    def test_partitions_that_left_have_no_lag(self) -> None:
        status = working(lag={0: 5, 1: 7})
        status.reassigned()
        assert status.lag == {0: 5}


class TestDurations:
    def test_a_bound_belongs_to_its_bucket(self) -> None:
        durations = Durations()
        for seconds in (0.001, 0.0011, 300.0, 301.0):
            durations.observe(seconds)
        cumulative = dict(durations.cumulative())
        assert (cumulative[0.001], cumulative[0.0025], cumulative[60.0], cumulative[300.0]) == (1, 2, 2, 3)
        assert cumulative[math.inf] == durations.count == 4
        assert durations.total_s == pytest.approx(601.0021)


class TestMetrics:
    def test_the_states_of_partitions_are_summed_over_policies(self) -> None:
        first = learned(stored([selection("d1"), selection("d1"), selection("d2"), outcome("d2")]))
        second = learned(stored(traffic(60, policies=("a/a", "b/b")), partition=5), partition=5)
        status = working(partitions={0: Owned(first), 5: Owned(second)}, lag={0: 3, 5: 40})
        registry = registry_of(status)

        def value(name: str, partition: int) -> float | None:
            return registry.get_sample_value(f"conduit_learner_{name}", {"partition": str(partition)})

        assert (value("offset", 0), value("policies", 0), value("lag_events", 0)) == (4, 1, 3)
        assert (value("open_decisions", 0), value("duplicates_total", 0), value("censored_total", 0)) == (1, 1, 0)
        assert (value("policies", 5), value("lag_events", 5)) == (2, 40)
        snapshots = [second.snapshot(policy) for policy in ("a/a", "b/b")]
        assert value("open_decisions", 5) == sum(snapshot.open_decisions for snapshot in snapshots) > 0
        assert registry.get_sample_value("conduit_learner_partitions") == 2

    def test_the_number_of_series_is_bounded(self) -> None:
        now = time.monotonic()
        names = [f"team/{number:04}" for number in range(MAX_NAMED_POLICIES + 50)]
        published = {name: Publication(now - 10.0 - index) for index, name in enumerate(names)}
        owned = Owned(published=published)
        registry = registry_of(working(partitions={0: owned}))

        def ages() -> dict[str, float]:
            [family] = [f for f in registry.collect() if f.name == "conduit_learner_snapshot_age_seconds"]
            return {sample.labels["policy"]: sample.value for sample in family.samples}

        before = ages()
        assert sorted(before) == ["", *names[:MAX_NAMED_POLICIES]]
        assert before[names[3]] == pytest.approx(13.0, abs=5.0)
        assert before[""] == pytest.approx(10.0 + len(names) - 1, abs=5.0)
        # A later policy does not take over a name, and one that ends frees its own.
        published["a/first"] = Publication(now)
        assert sorted(ages()) == sorted(before)
        del published[names[0]]
        assert "a/first" in ages() and names[0] not in ages() and len(ages()) == len(before)

    def test_what_is_learned_but_not_published_has_an_age(self) -> None:
        now = time.monotonic()
        published = {"a/a": Publication(now - 100.0), "b/b": Publication(now - 50.0), "c/c": Publication(now - 20.0)}
        for changed, age in (((), 0.0), (("b/b", "c/c", "new/one"), 50.0)):
            registry = registry_of(working(partitions={0: Owned(changed=changed, published=published)}))
            assert registry.get_sample_value("conduit_learner_unpublished_seconds") == pytest.approx(age, abs=5.0)

    def test_time_without_a_log_adds_up(self) -> None:
        status = working()
        registry = registry_of(status)

        def seen(name: str) -> float:
            return registry.get_sample_value(f"conduit_learner_{name}") or 0.0

        assert (seen("log_up"), seen("log_failures_total"), seen("log_unavailable_seconds_total")) == (1.0, 0.0, 0.0)
        for failures in (2, 4):
            status.log_failed()
            assert status.unreachable_since is not None
            status.unreachable_since -= 10.0
            status.log_failed()
            assert (seen("log_up"), seen("log_failures_total")) == (0.0, failures)
            assert seen("log_unavailable_seconds_total") == pytest.approx(5.0 * failures, abs=4.0)
            status.log_returned()
            assert seen("log_up") == 1.0
            assert seen("log_unavailable_seconds_total") == pytest.approx(5.0 * failures, abs=4.0)

    def test_the_registry_is_its_own(self) -> None:
        one, two = registry_of(working(events=1)), registry_of(working(events=2))
        assert one.get_sample_value("conduit_learner_events_total") == 1
        assert two.get_sample_value("conduit_learner_events_total") == 2
        assert two.get_sample_value("process_resident_memory_bytes")

    def test_the_guide_lists_every_metric_and_no_other(self) -> None:
        guide = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
        listed = re.findall(r"^\| `(conduit_learner_\w+)` \| (\w*) ?\|", guide, re.MULTILINE)
        status = working(partitions={0: Owned(published={POLICY: Publication(0.0)})}, dead_letters=Counter(invalid=1))
        collected = {}
        for family in registry_of(status).collect():
            if family.name.startswith("conduit_"):
                name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
                labels = {label for sample in family.samples for label in sample.labels} - {"le"}
                collected[name] = "".join(labels)
        assert dict(listed) == collected


class GrowingLog(MemoryLog):
    """A log that is longer than what it delivers."""

    def __init__(self) -> None:
        super().__init__(TOPICS)
        self.unseen = 70_000

    def group_reader(self, topic: str, group: str, **callbacks: Any) -> Any:
        reader = super().group_reader(topic, group, **callbacks)
        end_offsets = reader.end_offsets

        async def later() -> dict[int, int]:
            return {number: end + self.unseen for number, end in (await end_offsets()).items()}

        reader.end_offsets = later  # type: ignore[method-assign]  # this one log grows, its class does not
        return reader


class TestHttp:
    async def test_a_worker_shows_what_it_did(self) -> None:
        log = MemoryLog(TOPICS)
        events = messages(traffic(120, policies=("a/a", "b/b")))
        async with observed(log) as (status, port):
            await until(lambda: not readiness_problems(status))
            assert (await get(port, "/healthz"))[:2] == (200, "application/json")
            assert json.loads((await get(port, "/readyz"))[2]) == {"ok": True, "reasons": []}
            await log.append(TOPICS.events, [*events, Message(b"a/a", b"not an event"), Message(b"b/b", b" " * 70_000)])
            await until(lambda: status.dead_letters.total() == 2 and status.checkpoints.count > 0)
            code, content_type, text = await get(port, "/metrics")
        assert (code, content_type) == (200, "text/plain")
        found = samples(text)
        assert found[("conduit_learner_events_total", ())] == len(events) + 2
        assert found[("conduit_learner_offset", (("partition", "0"),))] == len(events) + 2
        assert found[("conduit_learner_dead_letters_total", (("reason", "invalid"),))] == 1
        assert found[("conduit_learner_dead_letters_total", (("reason", "too_large"),))] == 1
        published = found[("conduit_learner_snapshots_total", ())]
        assert published == status.snapshots.count >= 2
        assert found[("conduit_learner_snapshot_build_seconds_count", ())] == published
        assert found[("conduit_learner_snapshot_build_seconds_bucket", (("le", "+Inf"),))] == published
        assert found[("conduit_learner_checkpoints_total", ())] >= 1
        assert found[("conduit_learner_restore_seconds_count", ())] == 1
        assert {key[1][0][1] for key in found if key[0] == "conduit_learner_snapshot_age_seconds"} == {"a/a", "b/b"}

    async def test_lag_is_what_is_not_applied_yet(self) -> None:
        log = GrowingLog()
        events = messages(traffic(50))
        await log.append(TOPICS.events, events)
        async with observed(log) as (status, port):
            await until(lambda: status.events == len(events) and bool(status.lag))
            assert status.lag == {0: 70_000}
            code, _, text = await get(port, "/readyz")
            assert (code, json.loads(text)["reasons"]) == (503, ["partition 0 is 70,000 events behind"])
            log.unseen = 0
            await until(lambda: status.lag == {0: 0})
            assert (await get(port, "/readyz"))[0] == 200

    async def test_on_kafka_every_partition_is_measured(self, kafka_bootstrap: str) -> None:
        prefix = f"ops-{uuid.uuid4().hex[:12]}"
        settings = LogSettings(bootstrap_servers=kafka_bootstrap, prefix=prefix, partitions=3)
        events = messages(traffic(100, policies=tuple(f"team/{number}" for number in range(12))))
        status, stop = WorkerStatus(), asyncio.Event()
        async with open_log(settings) as log:
            await log.create_topics()
            await log.append(settings.topics.events, events)
            worker = asyncio.create_task(run_worker(log, topics=settings.topics, stop=stop, status=status))
            await until(lambda: status.events == len(events) and sorted(status.lag) == [0, 1, 2])
            await until(lambda: not readiness_problems(status))
            assert sum(owned.learner.offset for owned in status.partitions.values()) == len(events)
            stop.set()
            await asyncio.wait_for(worker, DEADLINE_S)

    async def test_a_sick_worker_is_reported_with_reasons(self) -> None:
        status = working(progressed_at=time.monotonic() - 1000.0, lag={0: 10**6})
        async with serve(status, "127.0.0.1", 0) as port:
            code, _, text = await get(port, "/healthz")
            assert (code, len(json.loads(text)["reasons"])) == (503, 1)
            code, _, text = await get(port, "/readyz")
            assert code == 503
            assert json.loads(text)["reasons"][1] == "partition 0 is 1,000,000 events behind"
            assert (await get(port, "/elsewhere"))[0] == 404

    async def test_openmetrics_for_who_asks(self) -> None:
        async with serve(working(), "127.0.0.1", 0) as port:
            _, content_type, text = await get(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert content_type == "application/openmetrics-text"
        assert text.endswith("# EOF\n")

    async def test_a_port_that_is_taken_is_said_in_one_line(self) -> None:
        async with serve(working(), "127.0.0.1", 0) as port:
            with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
                async with serve(working(), "127.0.0.1", port):
                    pass


class UnreadableLog(MemoryLog):
    """A log in which a restoration never stops reading."""

    def __init__(self) -> None:
        super().__init__(TOPICS)
        self.polled = asyncio.Event()

    def reader(self, topic: str, *, partitions: Collection[int] | None = None) -> Any:
        reader = super().reader(topic, partitions=partitions)

        async def poll(**_: object) -> Sequence[StoredMessage]:
            self.polled.set()
            await asyncio.sleep(0.001)
            return [StoredMessage(0, 0, 0, b"none/of/ours", b"")]

        reader.poll = poll  # type: ignore[method-assign,assignment]  # this one reader never ends, its class does
        return reader


class TestTheEnd:
    async def test_a_stop_interrupts_a_restoration(self) -> None:
        log, stop = UnreadableLog(), asyncio.Event()
        await MemoryLog.append(log, TOPICS.checkpoints, [Message(b"0/0", b"{}")] * 3)
        worker = asyncio.create_task(run_worker(log, topics=TOPICS, stop=stop, status=WorkerStatus()))
        await asyncio.wait_for(log.polled.wait(), DEADLINE_S)
        assert not worker.done()
        stop.set()
        await asyncio.wait_for(worker, DEADLINE_S)

    async def test_a_restoration_counts_as_getting_on(self) -> None:
        log, stop, status = UnreadableLog(), asyncio.Event(), WorkerStatus()
        await MemoryLog.append(log, TOPICS.checkpoints, [Message(b"0/0", b"{}")] * 3)
        worker = asyncio.create_task(run_worker(log, topics=TOPICS, stop=stop, status=status))
        await asyncio.wait_for(log.polled.wait(), DEADLINE_S)
        before = status.progressed_at = time.monotonic() - 2 * MAX_SILENCE_S
        await until(lambda: status.progressed_at > before)
        assert readiness_problems(status) == ["no partition is assigned yet"]
        stop.set()
        await asyncio.wait_for(worker, DEADLINE_S)


@asynccontextmanager
async def process(*options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A ``conduit learner`` of its own."""
    learner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "conduit_learner", "learner", *options), stderr=asyncio.subprocess.PIPE
    )
    try:
        yield learner
    finally:
        if learner.returncode is None:
            learner.kill()
            await learner.wait()


async def line_with(learner: asyncio.subprocess.Process, text: str) -> str:
    assert learner.stderr is not None
    async for line in learner.stderr:
        if text in line.decode():
            return line.decode()
    raise AssertionError(f"the learner ended without saying {text!r}")


class TestProcess:
    @pytest.mark.process
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    async def test_it_may_be_ended_while_it_is_still_loading(self, how: signal.Signals, tmp_path: Path) -> None:
        async with process("--path", str(tmp_path)) as learner:
            await line_with(learner, "starting")
            learner.send_signal(how)
            assert await asyncio.wait_for(learner.wait(), DEADLINE_S) == 0
            assert learner.stderr is not None
            assert b"Traceback" not in await learner.stderr.read()

    @pytest.mark.process
    async def test_it_ends_cleanly_while_there_is_no_broker(self) -> None:
        async with process("--bootstrap-servers", "127.0.0.1:1") as learner:
            await line_with(learner, "cannot reach the event log")
            learner.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(learner.wait(), DEADLINE_S) == 0

    @pytest.mark.process
    async def test_it_answers_while_it_works_and_writes_json(self, tmp_path: Path) -> None:
        settings = LogSettings(path=tmp_path)
        options = ("--path", str(tmp_path), "--http", "127.0.0.1:0", "--log-format", "json", "-v")
        async with process(*options) as learner, open_log(settings) as log:
            line = json.loads(await line_with(learner, "serving health and metrics on"))
            assert set(line) == {"time", "level", "logger", "message"}
            port = int(line["message"].rpartition(":")[2])
            assert (await get(port, "/healthz"))[0] == 200
            await log.append(settings.topics.events, messages([selection("d1")]))
            published = json.loads(await line_with(learner, "published policy"))
            assert published["level"] == "DEBUG"
            found = samples((await get(port, "/metrics"))[2])
            assert found[("conduit_learner_snapshot_age_seconds", (("policy", POLICY),))] >= 0.0
            learner.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(learner.wait(), DEADLINE_S) == 0

    @pytest.mark.process
    async def test_a_loop_that_does_not_turn_does_not_answer(self, tmp_path: Path) -> None:
        async with process("--path", str(tmp_path), "--http", "127.0.0.1:0") as learner:
            port = int((await line_with(learner, "serving health and metrics on")).rpartition(":")[2])
            learner.send_signal(signal.SIGSTOP)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(get(port, "/healthz"), 0.5)
            learner.send_signal(signal.SIGCONT)
            assert (await asyncio.wait_for(get(port, "/healthz"), DEADLINE_S))[0] == 200

    @pytest.mark.process
    async def test_it_reports_an_absent_broker(self) -> None:
        async with process("--bootstrap-servers", "127.0.0.1:1", "--http", "127.0.0.1:0") as learner:
            port = int((await line_with(learner, "serving health and metrics on")).rpartition(":")[2])
            await line_with(learner, "cannot reach the event log")
            assert (await get(port, "/healthz"))[0] == 200
            code, _, text = await get(port, "/readyz")
            assert code == 503
            assert "the event log has been unreachable" in text
            found = samples((await get(port, "/metrics"))[2])
            assert found[("conduit_learner_log_up", ())] == 0.0
            assert found[("conduit_learner_log_failures_total", ())] >= 1.0


@pytest.mark.parametrize("address", ["9464", ":9464", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    result = CliRunner().invoke(main, ["learner", "--http", address])
    assert result.exit_code == 2
    assert "is not HOST:PORT" in result.output


def test_a_json_line_holds_its_error() -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        record = logging.LogRecord("conduit", logging.ERROR, "", 0, "it %s", ("broke",), sys.exc_info())
    record.created = 86_400.25
    text = JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert line["exception"].startswith("Traceback") and line["exception"].endswith("line one\nline two")
    del line["exception"]
    assert line == {
        "time": "1970-01-02T00:00:00.250+00:00",
        "level": "ERROR",
        "logger": "conduit",
        "message": "it broke",
    }
