"""Events reach the log in order, whatever the log does, and no more wait than fit."""

import asyncio
import logging

import numpy as np
import pytest

from conduit_litellm.decisions.drafts import FeedbackDraft, OutcomeDraft, SelectionDraft
from conduit_litellm.decisions.facts import Facts
from conduit_litellm.decisions.ledger import Decision, Ledger
from conduit_litellm.events.connectivity import LogState
from conduit_litellm.events.counters import Counters
from conduit_litellm.events.emitter import Emitter
from conduit_log import LogUnavailableError
from conduit_log.memory import MemoryLog
from conduit_schemas import ConfigurationError, RecordTooLargeError, decode_event


class UnreliableLog(MemoryLog):
    """Fails on demand, before or after it has accepted the messages."""

    def __init__(self):
        super().__init__()
        self.failures = []
        self.appends = 0

    async def append(self, topic, messages):
        self.appends += 1
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        if any(b"poison" in message.value for message in messages):
            raise RecordTooLargeError("a broker with a smaller limit")
        await super().append(topic, messages)

    async def ids(self):
        async with self.reader(self.topics.events) as reader:
            return [decode_event(message.value).decision_id for message in await reader.poll(timeout_s=0)]


@pytest.fixture
def log():
    return UnreliableLog()


@pytest.fixture
def delivered():
    return []


@pytest.fixture
def new_emitter(delivered):
    def make(limit=1000):
        return Emitter(ledger=Ledger(), counters=Counters(), state=LogState(), limit=limit, delivered=delivered.append)

    return make


def feedback(number, name=None):
    return FeedbackDraft(1.0, "default/chat", name or f"d{number}", 0.5)


async def run_to_the_end(emitter, log):
    stop = asyncio.Event()
    stop.set()
    await asyncio.wait_for(emitter.run(log, log.topics.events, stop), 20.0)


async def test_events_arrive_in_order_and_in_batches(new_emitter, log, delivered):
    emitter = new_emitter()
    for number in range(700):
        emitter.put(feedback(number))
    assert emitter.waiting == 700
    await run_to_the_end(emitter, log)
    assert await log.ids() == [f"d{number}" for number in range(700)]
    assert log.appends == 2 and emitter.waiting == 0
    assert emitter._counters["events_delivered"] == 700
    assert delivered == [{"default/chat"}] * 2


async def test_a_log_that_is_away_is_tried_again_and_said_once(new_emitter, log, caplog):
    caplog.set_level(logging.INFO, logger="conduit")
    emitter = new_emitter()
    log.failures = [LogUnavailableError("no broker")] * 3 + [ConfigurationError("no permission")]
    for number in range(3):
        emitter.put(feedback(number))
    await run_to_the_end(emitter, log)
    assert await log.ids() == ["d0", "d1", "d2"]
    said = [(record.levelname, record.message) for record in caplog.records]
    assert [level for level, _ in said] == ["WARNING", "INFO"]
    assert "no broker" in said[0][1] and "is back" in said[1][1]


async def test_beyond_the_limit_new_events_are_dropped_and_counted(new_emitter, log):
    emitter = new_emitter(limit=3)
    for number in range(5):
        emitter.put(feedback(number))
    held = OutcomeDraft(0.0, Decision("x", "default/chat", "a", 0.0), Facts("success"), "app")
    for _ in range(5):
        emitter.put_app_outcome(held)
    assert emitter._counters["events_dropped"] == 4
    emitter.close()
    emitter.put(feedback(9))
    emitter.put_app_outcome(held)
    assert emitter._counters["events_dropped"] == 6
    await run_to_the_end(emitter, log)
    assert await log.ids() == ["d0", "d1", "d2", "x"]


async def test_one_event_that_the_log_refuses_does_not_hold_up_the_others(new_emitter, log, caplog):
    emitter = new_emitter()
    for number in range(20):
        emitter.put(feedback(number, name="poison" if number in {7, 12} else None))
    await run_to_the_end(emitter, log)
    assert await log.ids() == [f"d{number}" for number in range(20) if number not in {7, 12}]
    assert emitter._counters["events_refused"] == 2
    assert sum("is left out" in record.message for record in caplog.records) == 1


async def test_an_event_that_breaks_the_contract_is_left_out(new_emitter, log):
    emitter = new_emitter()
    for name in ("good-1", "bad\nid", "good-2"):
        emitter.put(feedback(0, name=name))
    emitter.put(feedback(0)._replace(quality=7.0))
    await run_to_the_end(emitter, log)
    assert await log.ids() == ["good-1", "good-2"]
    assert emitter._counters["events_refused"] == 2


async def test_a_run_that_is_cancelled_in_the_middle_loses_nothing(new_emitter, log):
    emitter = new_emitter()
    emitter.put(feedback(0))
    log.failures = [LogUnavailableError("away")] * 100
    running = asyncio.create_task(emitter.run(log, log.topics.events, asyncio.Event()))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    emitter.put(feedback(1))
    log.failures = []
    await run_to_the_end(emitter, log)
    assert await log.ids() == ["d0", "d1"]


async def test_after_a_reset_nothing_waits(new_emitter, log):
    emitter = new_emitter()
    emitter.put(feedback(0))
    emitter.reset()
    await run_to_the_end(emitter, log)
    assert emitter.waiting == 0 and await log.ids() == []


def test_a_selections_request_id_is_kept_only_where_the_contract_allows_it():
    pending = SelectionDraft(
        time=0.0,
        policy="default/chat",
        decision_id="d1",
        request_id="trace-1",
        arms=("a", "b"),
        models=("m", "m"),
        chosen=1,
        context=np.array([1024, -3], np.int16),
        featurizer="f",
        choice=None,
        beliefs=None,
        fallback="no_snapshot",
    )
    event = pending.event()
    assert event.request_id == "trace-1" and event.context == b"\x00\x04\xfd\xff" and event.arm == "b"
    for bad in ("", "x" * 257, "line\nbreak", 7, None):
        assert pending._replace(request_id=bad).event().request_id is None
