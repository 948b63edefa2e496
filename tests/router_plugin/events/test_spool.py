"""Events that the log does not accept wait on the disk: in order, within limits, and after their process has ended."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conduit_litellm.decisions.drafts import ChangeDraft, FeedbackDraft, OutcomeDraft
from conduit_litellm.decisions.facts import Facts
from conduit_litellm.decisions.ledger import Decision, Ledger
from conduit_litellm.events import emitter as emitter_module
from conduit_litellm.events.connectivity import LogState
from conduit_litellm.events.counters import Counters
from conduit_litellm.events.emitter import Emitter
from conduit_litellm.events.spool import Spool, SpoolError, SpoolFile, spool_folder
from conduit_log import LogSettings, LogUnavailableError, Message
from conduit_log.memory import MemoryLog
from conduit_schemas import ConfigurationError, LearningChange, LearningSettings, decode_event, encode

PLENTY = 1 << 30


def messages(*values):
    return [Message(b"policy", str(value).encode()) for value in values]


def everything(spool):
    """Empty a spool as the emitter does, and return what was in it."""
    found = []
    while (file := spool.oldest()) is not None:
        batch = file.peek(3)
        found += [int(message.value) for message in batch]
        file.remove(len(batch))
    return found


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


class TestSpool:
    def test_what_went_in_first_comes_out_first_and_an_empty_file_is_removed(self, tmp_path):
        spool = Spool(tmp_path / "deep" / "spool", PLENTY)
        assert spool.oldest() is None and not (tmp_path / "deep").exists()
        spool.put(messages(*range(7)))
        spool.put(messages(7, 8))
        assert spool.events == 9
        file = spool.oldest()
        assert [message.value for message in file.peek(2)] == [b"0", b"1"] and spool.events == 9
        file.remove(2)
        assert spool.events == 7
        assert everything(spool) == list(range(2, 9))
        assert spool.events == 0 and files(spool.folder) == []
        spool.put(messages(9))
        assert everything(spool) == [9]

    @pytest.mark.process
    def test_the_files_of_the_living_are_left_alone_and_those_of_the_dead_come_first(self, tmp_path):
        holder = hold(tmp_path, range(5))
        spool = Spool(tmp_path, PLENTY)
        assert spool.adopt() == 0
        spool.put(messages(10, 11))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert spool.adopt() == 5 and spool.adopt() == 0
        spool.put(messages(12))
        assert spool.events == 8
        assert everything(spool) == [0, 1, 2, 3, 4, 10, 11, 12]
        assert files(tmp_path) == []

    def test_what_was_removed_before_a_death_does_not_come_back(self, tmp_path):
        first = Spool(tmp_path, PLENTY)
        first.put(messages(*range(5)))
        first.oldest().remove(2)
        first.close()
        heir = Spool(tmp_path, PLENTY)
        heir.adopt()
        assert everything(heir) == [2, 3, 4]

    def test_the_limit_counts_the_files_of_all_processes(self, tmp_path):
        one, other = Spool(tmp_path, 400_000), Spool(tmp_path, 400_000)
        batch = [Message(b"policy", secrets.token_bytes(1000))] * 100
        with pytest.raises(SpoolError, match="limit of 400,000 bytes is reached"):
            for _ in range(100):
                one.put(batch)
        assert 200 <= one.events <= 500  # at most one batch more than 400 KB
        with pytest.raises(SpoolError, match="limit"):
            other.put(batch)
        everything_of(one)
        other.put(batch)
        assert other.events == 100

    def test_a_full_disk_refuses_whole_batches_and_still_gives_everything_back(self, tmp_path):
        spool = Spool(tmp_path, PLENTY)
        file = spool.put(messages(0))
        file._sql.execute("PRAGMA max_page_count = 12")  # makes SQLite fail as on a full disk
        written = 1
        with pytest.raises(SpoolError, match="database or disk is full"):
            while True:
                spool.put([Message(b"policy", str(written).encode().zfill(4000)), *messages(written + 1)])
                written += 2
        assert spool.events == written
        assert everything(spool) == list(range(written))

    def test_where_not_even_a_removal_fits_nothing_is_given_back_twice(self, tmp_path):
        file = Spool(tmp_path, PLENTY).put(messages(*range(5)))
        file._sql.execute("PRAGMA query_only = ON")
        file.remove(2)
        assert [message.value for message in file.peek(10)] == [b"2", b"3", b"4"] and file.events == 3

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        spool = Spool(tmp_path / "file" / "spool", PLENTY)
        assert spool.adopt() == 0
        with pytest.raises(SpoolError, match="the folder cannot be created"):
            spool.put(messages(1))

    def test_a_damaged_file_is_set_aside_and_the_others_are_adopted(self, tmp_path):
        Spool(tmp_path, PLENTY).put(messages(1))
        (tmp_path / "0.spool").write_bytes(b"this is no database" * 100)
        (tmp_path / "1.spool").touch()  # another process is about to lock it
        os.utime(tmp_path / "0.spool", (0, 0))
        spool = Spool(tmp_path, PLENTY)
        with pytest.raises(SpoolError, match="not a database"):
            spool.adopt()
        assert "0.spool.damaged" in files(tmp_path)
        assert spool.adopt() <= 1  # the first process's file is adopted, unless that process is alive
        assert (tmp_path / "1.spool").exists()

    def test_a_file_that_cannot_be_read_or_written_says_so(self, tmp_path):
        file = SpoolFile(tmp_path / "x.spool")
        file.put(messages(1))
        file._sql.execute("DROP TABLE events")
        for action in (lambda: file.put(messages(2)), lambda: file.peek(1), lambda: file.remove(1)):
            with pytest.raises(SpoolError, match=r"x\.spool: no such table"):
                action()
        file._sql.close()
        with pytest.raises(SpoolError, match=r"x\.spool: "):
            file.used_bytes()
        with pytest.raises(SpoolError, match="unable to open"):
            SpoolFile(tmp_path / "nowhere" / "x.spool")

    @pytest.mark.process
    def test_a_forked_child_leaves_the_parents_file_alone(self, tmp_path):
        spool = Spool(tmp_path, PLENTY)
        spool.put(messages(1))
        child = os.fork()
        if child == 0:
            spool.leave_to_parent()
            fine = spool.events == 0 and spool.adopt() == 0
            spool.put(messages(2))
            os._exit(0 if fine and everything(spool) == [2] else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert len(files(tmp_path)) == 2  # the file and its write-ahead log
        spool.put(messages(3))
        assert everything(spool) == [1, 3]

    def test_every_log_has_a_folder_of_its_own(self):
        def folder(brokers, prefix="conduit", path=None):
            return spool_folder(LogSettings(bootstrap_servers=brokers, prefix=prefix, path=Path("/home")), path)

        assert folder("b:1,a:1") == folder("a:1, b:1") == Path("/home/spool/conduit@a_1,b_1")
        assert len({folder("a:1"), folder("a:2"), folder("a:1", "other")}) == 3
        assert folder("a/../b:1", path=Path("/else")) == Path("/else/conduit@a_.._b_1")


HOLD = """
import sys, time
from pathlib import Path
from conduit_litellm.events.spool import Spool
from conduit_log import Message
spool = Spool(Path(sys.argv[1]), 1 << 30)
spool.put([Message(b"policy", value.encode()) for value in sys.argv[2:]])
print("held", flush=True)
time.sleep(60)
"""


def hold(folder, values):
    """Start a process, and return it once it owns a spool file."""
    command = [sys.executable, "-c", HOLD, str(folder), *map(str, values)]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "held\n"
    return process


def everything_of(spool):
    while (file := spool.oldest()) is not None:
        file.remove(file.events)


class AbsentLog(MemoryLog):
    """Fails, or never answers, until told otherwise."""

    def __init__(self):
        super().__init__()
        self.failure = LogUnavailableError("no broker")
        self.silent = False
        self.appends = 0

    async def append(self, topic, messages):
        self.appends += 1
        if self.silent:
            await asyncio.sleep(3600.0)
        if self.failure is not None:
            raise self.failure
        await super().append(topic, messages)

    async def ids(self):
        async with self.reader(self.topics.events) as reader:
            return [decode_event(message.value).decision_id for message in await reader.poll(timeout_s=0)]


@pytest.fixture
def log():
    return AbsentLog()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(emitter_module, "_SLOW_S", 0.1)
    monkeypatch.setattr(emitter_module, "_SPOOL_RETRY_S", 0.1)
    monkeypatch.setattr(emitter_module, "_LONGEST_PAUSE_S", 0.1)


@pytest.fixture
def new_emitter(tmp_path):
    def make(limit=100_000, spool_bytes=PLENTY, folder=tmp_path / "spool"):
        return Emitter(
            ledger=Ledger(),
            counters=Counters(),
            state=LogState(),
            limit=limit,
            delivered=lambda policies: None,
            spool=Spool(folder, spool_bytes),
        )

    return make


def put(emitter, numbers):
    for number in numbers:
        emitter.put(FeedbackDraft(1.0, "default/chat", f"d{number}", 0.5))


def app_outcome():
    return OutcomeDraft(time.time(), Decision("x", "default/chat", "a", 0.0), Facts("success"), "app")


def ids(numbers):
    return [f"d{number}" for number in numbers]


class Running:
    """A running emitter, which is stopped properly at the end."""

    def __init__(self, emitter, log):
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(emitter.run(log, log.topics.events, self.stop))

    async def end(self, timeout_s=180.0):
        self.stop.set()
        await asyncio.wait_for(self.task, timeout_s)


class TestEmitter:
    async def test_while_the_log_is_away_events_are_on_the_disk_and_later_ones_wait_their_turn(
        self, new_emitter, log, until
    ):
        emitter = new_emitter()
        running = Running(emitter, log)
        put(emitter, range(700))
        await until(lambda: emitter._spool.events == 700)
        put(emitter, range(700, 1500))
        await until(lambda: emitter._spool.events == 1500)
        assert emitter.waiting == 1500 and log.appends >= 2
        log.failure = None
        put(emitter, range(1500, 1600))
        await running.end()
        assert await log.ids() == ids(range(1600))
        assert emitter.waiting == 0 and files(emitter._spool.folder) == []
        assert emitter._counters["events_delivered"] == 1600
        assert 1500 <= emitter._counters["events_spooled"] <= 1600

    async def test_a_log_that_does_not_answer_counts_as_away_before_it_gives_up(self, new_emitter, log, until):
        log.silent = True
        emitter = new_emitter()
        running = Running(emitter, log)
        put(emitter, range(3))
        await until(lambda: emitter._spool.events == 3)
        put(emitter, range(3, 6))
        await until(lambda: emitter._spool.events == 6)
        assert log.appends == 1
        running.task.cancel()
        await asyncio.wait({running.task})
        log.silent, log.failure = False, None
        await Running(emitter, log).end()
        assert await log.ids() == ids(range(6))

    async def test_what_is_not_delivered_at_the_end_is_the_next_ones_to_deliver(self, new_emitter, log):
        first = new_emitter()
        put(first, range(600))
        running = Running(first, log)
        await asyncio.sleep(0)
        running.task.cancel()
        await asyncio.wait({running.task})
        first.put_app_outcome(app_outcome())
        first.hand_over()
        first.hand_over()
        assert first.waiting == 0
        second = new_emitter()
        put(second, range(600, 700))
        log.failure = None
        await Running(second, log).end()
        assert await log.ids() == [*ids(range(600)), "x", *ids(range(600, 700))]
        assert second._counters["events_adopted"] == 601

    async def test_in_the_middle_of_a_batch_that_is_on_the_disk_the_end_loses_nothing(self, new_emitter, log, until):
        first = new_emitter()
        running = Running(first, log)
        put(first, range(10))
        await until(lambda: first._spool.events == 10)
        put(first, range(10, 20))
        running.task.cancel()
        await asyncio.wait({running.task})
        first.hand_over()
        log.failure = None
        second = new_emitter()
        await Running(second, log).end()
        assert await log.ids() == ids(range(20))

    async def test_beyond_both_bounds_the_newest_are_dropped_and_counted(self, new_emitter, log, until, caplog):
        emitter = new_emitter(limit=50, spool_bytes=1)
        running = Running(emitter, log)
        put(emitter, range(10))  # an empty folder is below any limit, so this batch goes to the disk
        await until(lambda: emitter._spool.events == 10)
        put(emitter, range(10, 20))
        await until(lambda: len(emitter._encoded) == 10)
        put(emitter, range(20, 100))
        assert emitter._counters["events_dropped"] == 30
        settings = LearningChange(policy="default/chat", time=1.0, settings=LearningSettings(), changed_by="test")
        emitter.put(ChangeDraft(settings), even_if_full=True)  # the other events depend on them
        assert emitter._counters["events_dropped"] == 30
        log.failure = None
        await until(lambda: emitter.waiting == 0)
        await running.end()
        async with log.reader(log.topics.events) as reader:
            stored = [decode_event(message.value) for message in await reader.poll(timeout_s=0)]
        assert [event.decision_id for event in stored if event.kind == "feedback"] == ids(range(70))
        assert [event.kind for event in stored].count("settings") == 1
        assert sum("limit of 1 bytes is reached; events wait in memory" in line for line in caplog.messages) == 1

    async def test_an_unusable_folder_is_said_once_and_used_as_soon_as_it_can_be(
        self, new_emitter, log, until, caplog, tmp_path
    ):
        (tmp_path / "spool").write_text("in the way")
        emitter = new_emitter()
        running = Running(emitter, log)
        put(emitter, range(5))
        await asyncio.sleep(0.5)
        assert emitter.waiting == 5
        assert sum("events wait in memory" in message for message in caplog.messages) == 1
        (tmp_path / "spool").unlink()
        put(emitter, range(5, 10))
        await until(lambda: emitter._spool.events == 10)
        log.failure = None
        await running.end()
        assert await log.ids() == ids(range(10))

    async def test_what_can_neither_be_delivered_nor_kept_at_the_end_is_counted_and_said(
        self, new_emitter, log, caplog, tmp_path
    ):
        (tmp_path / "spool").write_text("in the way")
        emitter = new_emitter()
        running = Running(emitter, log)
        put(emitter, range(5))
        emitter.put_app_outcome(app_outcome())
        await asyncio.sleep(0.2)
        running.task.cancel()
        await asyncio.wait({running.task})
        emitter.hand_over()
        assert emitter._counters["events_dropped"] == 6 and emitter.waiting == 0
        assert "6 events are lost: they could be neither delivered to the log nor saved in a spool" in caplog.text

    async def test_a_file_that_cannot_be_read_holds_nothing_else_up(self, new_emitter, log, until, caplog, tmp_path):
        emitter = new_emitter()
        running = Running(emitter, log)
        put(emitter, range(3))
        await until(lambda: emitter._spool.events == 3)
        running.task.cancel()
        await asyncio.wait({running.task})
        emitter.hand_over()
        (left,) = (tmp_path / "spool").glob("*.spool")
        left.write_bytes(left.read_bytes()[:4096].ljust(8192, b"\xff"))
        log.failure = None
        put(emitter, range(3, 6))
        await Running(emitter, log).end()
        assert await log.ids() == ids(range(3, 6))
        assert sum("set aside" in message for message in caplog.messages) == 1
        assert left.with_name(f"{left.name}.damaged").exists()

    async def test_a_file_that_fails_while_it_is_read_does_not_let_newer_events_overtake_other_files(
        self, new_emitter, log, caplog, tmp_path
    ):
        for number in range(2):
            spool = Spool(tmp_path / "spool", PLENTY)
            spool.put([Message(b"default/chat", encode(FeedbackDraft(1.0, "p", f"left{number}", 0.5).event()))])
            spool.close()
        emitter = new_emitter()
        emitter._spool.adopt()
        broken, sound = emitter._spool._adopted
        broken._sql.execute("DROP TABLE events")
        (left,) = sound.peek(1)
        put(emitter, range(3))
        log.failure = None
        await Running(emitter, log).end()
        assert await log.ids() == [decode_event(left.value).decision_id, *ids(range(3))]
        assert sum("no such table" in message and "set aside" in message for message in caplog.messages) == 1
        assert not sound.path.exists() and broken.path.with_name(f"{broken.path.name}.damaged").exists()

    async def test_a_file_that_fails_after_its_delivery_is_set_aside(self, new_emitter, log, until, caplog):
        emitter = new_emitter()
        running = Running(emitter, log)
        put(emitter, range(3))
        await until(lambda: emitter._spool.events == 3)
        emitter._spool._own._sql.execute("DROP TABLE events")
        log.failure = None
        await running.end()
        assert await log.ids() == ids(range(3))
        assert "set aside" in caplog.text and emitter.waiting == 0

    async def test_a_long_backlog_is_delivered_while_new_events_arrive(self, new_emitter, log, until):
        emitter = new_emitter()
        running = Running(emitter, log)
        put(emitter, range(2000))
        await until(lambda: emitter._spool.events == 2000)
        log.failure = None
        for start in range(2000, 4000, 100):
            put(emitter, range(start, start + 100))
            await asyncio.sleep(0.01)
        await running.end()
        assert await log.ids() == ids(range(4000))


def test_a_limit_below_zero_is_refused_and_none_means_no_spool(new_strategy):
    with pytest.raises(ConfigurationError, match="spool_limit_bytes"):
        new_strategy(spool_limit_bytes=-1)
    assert new_strategy()._emitter._spool is None  # the embedded log is on the disk itself
    assert new_strategy(bootstrap_servers="kafka:9092", spool_limit_bytes=0)._emitter._spool is None
    kept = new_strategy(bootstrap_servers="kafka:9092", spool_path="~/there")._emitter._spool
    assert kept.folder == Path.home() / "there" / "conduit@kafka_9092"


APP = """
import sys, time
from litellm.router import Router
from conduit_litellm import ConduitRoutingStrategy
bootstrap, folder, prefix, how, count = sys.argv[1:]
strategy = ConduitRoutingStrategy(bootstrap_servers=bootstrap, log_path=folder, topic_prefix=prefix)
params = {"model": "openai/gpt-4o-mini", "api_key": "unused", "mock_response": "hello"}
router = Router(
    model_list=[
        {"model_name": group, "litellm_params": params, "model_info": {"id": group + name}}
        for group in ("chat", "code") for name in "ab"
    ]
)
strategy.install(router)
for number in range(int(count)):
    response = router.completion(model=("chat", "code")[number % 2], messages=[{"role": "user", "content": "hello"}])
    print(strategy.decision_id(response), flush=True)
while strategy.counters["outcomes_success"] < int(count):
    time.sleep(0.01)
if how == "kill":
    while strategy.events_waiting != strategy._emitter._spool.events:
        time.sleep(0.01)
    time.sleep(0.2)
    print("safe", flush=True)
    time.sleep(60)
if how == "deliver":
    while strategy.events_waiting or not strategy.counters["events_adopted"]:
        time.sleep(0.01)
strategy.close(timeout_s=1.0)
"""


class TestKafka:
    @pytest.mark.process
    async def test_a_process_delivers_what_others_left_when_they_were_killed_or_ended(
        self, kafka_broker, tmp_path, events
    ):
        prefix = f"t{secrets.token_hex(6)}"

        def start(how, count):
            command = [sys.executable, "-c", APP, kafka_broker.bootstrap, str(tmp_path), prefix, how, str(count)]
            environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

        await asyncio.to_thread(kafka_broker.kill)
        apps = [start("kill", 40), start("end", 20)]
        killed = await asyncio.to_thread(lambda: list(iter(apps[0].stdout.readline, "safe\n")))
        apps[0].kill()
        apps[0].communicate()
        ended = (await asyncio.to_thread(apps[1].communicate))[0].splitlines()
        assert apps[1].returncode == 0
        assert len(list((tmp_path / "spool").glob("*/*.spool"))) == 2
        await asyncio.to_thread(kafka_broker.start)
        last = start("deliver", 10)
        delivered = (await asyncio.to_thread(last.communicate))[0].splitlines()
        assert last.returncode == 0
        settings = LogSettings(bootstrap_servers=kafka_broker.bootstrap, prefix=prefix)
        stored = await events.stored(settings)
        for made in ([line.strip() for line in killed], ended, delivered):
            for policy, decisions in (("default/chat", made[::2]), ("default/code", made[1::2])):
                found = [event for event in stored if event.policy == policy and event.kind == "selection"]
                assert [event.decision_id for event in found if event.decision_id in made] == decisions
            assert {event.decision_id for event in stored if event.kind == "outcome"} >= set(made)
        assert sum(event.kind == "settings" for event in stored) == 6
        assert list((tmp_path / "spool").glob("*/*")) == []

    async def test_requests_go_on_while_the_broker_dies_and_comes_back(  # noqa: PLR0917 - fixtures
        self, kafka_broker, new_strategy, new_router, deployment, events, until
    ):
        strategy = new_strategy(bootstrap_servers=kafka_broker.bootstrap, topic_prefix=f"t{secrets.token_hex(6)}")
        router = new_router(strategy, [deployment(f"{g}-{n}", group=g) for g in ("chat", "code") for n in "ab"])
        made = {"chat": [], "code": []}
        finished = asyncio.Event()

        async def ask_on():
            while not finished.is_set():
                for group, decisions in made.items():
                    response = await router.acompletion(model=group, messages=[{"role": "user", "content": "hello"}])
                    decisions.append(strategy.decision_id(response))
                await asyncio.sleep(0.01)

        asking = asyncio.create_task(ask_on())  # raises if any request failed
        await until(lambda: strategy.counters["events_delivered"] > 20, 30.0)
        for _ in range(2):
            await asyncio.to_thread(kafka_broker.kill)
            spooled = strategy.counters["events_spooled"]
            await until(lambda before=spooled: strategy.counters["events_spooled"] > before + 50, 30.0)
            await asyncio.to_thread(kafka_broker.start)
            delivered = strategy.counters["events_delivered"]
            await until(lambda before=delivered: strategy.counters["events_delivered"] > before + 100, 60.0)
        finished.set()
        await asking
        asked = sum(map(len, made.values()))
        await until(lambda: strategy.counters["outcomes_success"] == asked and strategy.events_waiting == 0, 60.0)
        stored = await events.stored(strategy.log_settings)
        for group, decisions in made.items():
            of_policy = [event for event in stored if event.policy == f"default/{group}"]
            selections = dict.fromkeys(event.decision_id for event in of_policy if event.kind == "selection")
            assert list(selections) == decisions
            assert {event.decision_id for event in of_policy if event.kind == "outcome"} == set(decisions)
            assert of_policy[0].kind == "settings"
        assert strategy.counters["events_dropped"] == strategy.counters["events_refused"] == 0
        assert strategy.counters["fallback_error"] == 0
