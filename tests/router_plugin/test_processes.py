"""Across processes: nothing is lost when one ends, after a fork, or when the learner's host dies."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from conduit_litellm.runtime import background
from conduit_litellm.runtime.background import BackgroundThread
from conduit_log import LogSettings

PREAMBLE = """
import asyncio, logging, os, sys, time
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(name)s %(message)s")
logging.getLogger("conduit_learner").setLevel(logging.INFO)
from litellm.router import Router
from conduit_litellm import ConduitRoutingStrategy
strategy = ConduitRoutingStrategy(log_path=sys.argv[1], host_learner=HOST)
params = {"model": "openai/gpt-4o-mini", "api_key": "unused", "mock_response": "hello"}
router = Router(
    model_list=[{"model_name": "chat", "litellm_params": params, "model_info": {"id": name}} for name in ("a", "b")]
)
strategy.install(router)
def ask():
    return router.completion(model="chat", messages=[{"role": "user", "content": "hello"}])
"""


def start(folder, body, *, host=False):
    source = PREAMBLE.replace("HOST", str(host)) + body
    return subprocess.Popen(
        [sys.executable, "-c", source, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONUNBUFFERED": "1"},
    )


async def finished(process):
    output = await asyncio.to_thread(process.communicate, None, 60.0)
    assert process.returncode == 0, output
    return output[0]


@pytest.mark.process
async def test_a_process_that_ends_at_once_still_delivers(tmp_path, events):
    await finished(start(tmp_path, "ask()"))
    stored = await events.stored(LogSettings(path=tmp_path))
    assert [event.kind for event in stored][:3] == ["settings", "routing", "selection"]


FORK = """
ask()
while strategy.events_waiting:
    time.sleep(0.01)
child = os.fork()
ask()
strategy.close()
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    os._exit(0)
"""


@pytest.mark.process
async def test_after_a_fork_parent_and_child_each_deliver_their_own(tmp_path, events):
    await finished(start(tmp_path, FORK))
    stored = await events.stored(LogSettings(path=tmp_path))
    selections = [event.decision_id for event in stored if event.kind == "selection"]
    assert len(selections) == len(set(selections)) == 3
    prefixes = Counter(decision[:16] for decision in selections)
    assert sorted(prefixes.values()) == [1, 2]
    assert sum(event.kind == "settings" for event in stored) == 2


SERVE = """
print("serving", flush=True)
while True:
    ask()
    time.sleep(0.02)
"""


def listen(process, said):
    said.extend(iter(process.stdout.readline, ""))


@pytest.mark.process
async def test_one_process_hosts_the_learner_and_another_takes_over(tmp_path, until):
    processes = [start(tmp_path, SERVE, host=True) for _ in range(2)]
    said = {process: [] for process in processes}
    readers = [asyncio.create_task(asyncio.to_thread(listen, process, said[process])) for process in processes]

    def hosts():
        return [process for process in processes if any("learning from offset" in line for line in said[process])]

    try:
        await until(lambda: len(hosts()) >= 1, 60.0)
        await until(lambda: all(said[process] for process in processes), 60.0)
        await asyncio.sleep(2.0)
        (host,) = hosts()
        host.send_signal(signal.SIGKILL)
        await until(lambda: len(hosts()) == 2, 60.0)
        await asyncio.sleep(1.5)
        assert len(hosts()) == 2
        newcomer = next(process for process in hosts() if process is not host)
        assert "learning from offset" in " ".join(said[newcomer])
    finally:
        for process in processes:
            process.kill()
            process.wait()
        await asyncio.gather(*readers)


FORK_AND_DIE = """
while True:
    ask()
    time.sleep(0.02)
    if strategy.counters["snapshots"]:
        break
child = os.fork()
if child:
    print("child", child, flush=True)
    os.kill(os.getpid(), 9)
while True:
    ask()
    time.sleep(0.02)
"""


@pytest.mark.process
async def test_a_forked_child_can_learn_when_its_parent_is_gone(tmp_path, until):
    process = start(tmp_path, FORK_AND_DIE, host=True)
    said = []
    reader = asyncio.create_task(asyncio.to_thread(listen, process, said))
    try:
        await until(lambda: sum("learning from offset" in line for line in said) == 2, 60.0)
    finally:
        process.kill()
        process.wait()
        for line in said:
            if line.startswith("child "):
                os.kill(int(line.split()[1]), signal.SIGKILL)
        await reader


async def test_without_the_learner_installed_events_are_logged_all_the_same(
    new_strategy, new_router, events, monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, "conduit_learner.worker.run", None)  # importing it now fails
    strategy = new_strategy(host_learner=True)
    router = new_router(strategy)
    await router.acompletion(model="chat", messages=[{"role": "user", "content": "hello"}])
    assert len(await events(strategy, "selection")) == 1
    await asyncio.sleep(0.2)
    (warning,) = [one for one in caplog.records if one.levelname == "WARNING" and one.name.startswith("conduit")]
    assert "pip install 'conduit-litellm[learner]'" in warning.message


async def test_a_learner_that_fails_is_started_again(new_strategy, new_router, until, monkeypatch, caplog):
    from conduit_learner.worker import run as worker  # noqa: PLC0415 - replaced for this test only
    from conduit_litellm.runtime import embedded_learner  # noqa: PLC0415 - as above

    starts = []

    async def fail(log, **options):
        starts.append(options["topics"].prefix)
        raise RuntimeError("a bug in the learner")

    monkeypatch.setattr(worker, "run_worker", fail)
    monkeypatch.setattr(embedded_learner, "_RETRY_S", 0.02)
    strategy = new_strategy(host_learner=True)
    await new_router(strategy).acompletion(model="chat", messages=[{"role": "user", "content": "hello"}])
    await until(lambda: len(starts) >= 3)
    assert sum("a bug in the learner" in str(record.exc_info) for record in caplog.records) == 1


async def test_a_log_that_cannot_be_opened_is_tried_again(  # noqa: PLR0917 - fixtures
    new_strategy, new_router, events, tmp_path, monkeypatch, caplog
):
    from conduit_litellm.runtime import log_service  # noqa: PLC0415 - to shorten its pauses

    monkeypatch.setattr(log_service, "_RETRY_S", 0.05)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    strategy = new_strategy(log_path=blocked)
    router = new_router(strategy)
    for _ in range(3):
        await router.acompletion(model="chat", messages=[{"role": "user", "content": "hello"}])
    await asyncio.sleep(0.3)
    assert strategy.events_waiting >= 4
    blocked.unlink()
    assert len(await events(strategy, "selection")) == 3
    assert sum("cannot be used" in record.message for record in caplog.records) == 1


async def test_closing_keeps_serving_and_is_harmless_twice(strategy, new_router, events):
    router = new_router(strategy)
    ask = [{"role": "user", "content": "hello"}]
    await router.acompletion(model="chat", messages=ask)
    await strategy.aclose()
    await strategy.aclose()
    assert strategy.events_waiting == 0
    await router.acompletion(model="chat", messages=ask)
    assert strategy.counters["events_dropped"] >= 1
    assert len(await events(strategy, "selection")) == 1


class TestBackgroundThread:
    def test_it_is_insisted_on_the_end_of_one_that_does_not_listen(self):
        ended = []

        async def deaf(stop):
            try:
                await asyncio.sleep(60.0)
            finally:
                ended.append(True)

        thread = BackgroundThread("deaf", deaf)
        thread.start()
        thread.start()
        time.sleep(0.1)
        thread.close(timeout_s=0.1)
        assert ended == [True]
        thread.start()  # closed permanently
        thread.close()

    def test_one_that_was_told_to_stop_before_it_ran_still_gets_its_turn(self):
        seen = []

        async def main(stop):
            seen.append(stop.is_set())

        thread = BackgroundThread("late", main)
        thread.start()
        thread.tell_to_stop()
        thread.close()
        assert len(seen) == 1

    def test_an_error_is_reported(self, caplog):
        async def broken(stop):
            raise RuntimeError("a bug")

        thread = BackgroundThread("broken", broken)
        thread.start()
        thread.close()
        assert "thread broken ended with an error" in caplog.text and "a bug" in caplog.text

    def test_a_fork_leaves_it_behind(self):
        runs, forks = [], []

        async def main(stop):
            runs.append(True)

        thread = BackgroundThread("forked", main, forked=lambda: forks.append(True))
        thread.start()
        thread._thread.join()
        background._after_fork()
        assert forks == [True]
        thread.start()
        thread._thread.join()
        assert runs == [True, True]

    def test_the_end_of_the_process_ends_it(self):
        stopped = []

        async def main(stop):
            await stop.wait()
            stopped.append(True)

        thread = BackgroundThread("exit", main)
        thread.start()
        background._at_exit()
        assert stopped == [True]
