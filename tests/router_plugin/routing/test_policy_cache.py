"""The policy cache follows the snapshot topic: the newest wins, invalid ones are counted, silence makes stale."""

import asyncio
import logging

from conduit_litellm.events.connectivity import LogState
from conduit_litellm.events.counters import Counters
from conduit_litellm.routing.policy_cache import PolicyCache
from conduit_log import LogUnavailableError, Message
from conduit_log.memory import MemoryLog
from conduit_schemas import encode

POLICY = "default/chat"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def new_cache(clock=None):
    return PolicyCache(max_age_s=10.0, counters=Counters(), state=LogState(), clock=clock or Clock())


async def test_it_reads_what_is_there_and_what_comes_and_ignores_garbage(snapshot, until, caplog):
    cache, log = new_cache(), MemoryLog()
    topic = log.topics.snapshots
    await log.append(topic, [Message(b"p", encode(snapshot({"a": 0.5}, offset=5)))])
    following = asyncio.create_task(cache.run(log, topic))
    await until(lambda: cache.get(POLICY) is not None)
    assert cache.get(POLICY).snapshot.offset == 5
    older, newer = snapshot({"a": 0.1}, offset=4), snapshot({"a": 0.9}, offset=6)
    forged = newer.model_copy(update={"offset": 99})
    other = snapshot({"a": 0.9}, offset=1, policy="default/other")
    records = [b"not json", encode(older), encode(newer), encode(forged), encode(other)]
    await log.append(topic, [Message(str(number).encode(), record) for number, record in enumerate(records)])
    await until(lambda: cache.get("default/other") is not None)
    assert cache.get(POLICY).snapshot.hash == newer.hash
    assert cache._counters["snapshots"] == 3 and cache._counters["snapshots_refused"] == 2
    assert sum("cannot be used" in record.message for record in caplog.records) == 1
    following.cancel()


async def test_it_goes_on_after_the_log_was_away(snapshot, until, caplog, monkeypatch):
    from conduit_litellm.routing import policy_cache  # noqa: PLC0415 - to shorten its pauses

    monkeypatch.setattr(policy_cache, "_POLL_S", 0.02)

    class AwayLog(MemoryLog):
        away = True

        def reader(self, topic, *, partitions=None):
            log, reader = self, super().reader(topic, partitions=partitions)
            poll = reader.poll

            async def sometimes(**options):
                if log.away:
                    raise LogUnavailableError("no broker")
                return await poll(**options)

            reader.poll = sometimes
            return reader

    cache, log = new_cache(), AwayLog()
    caplog.set_level(logging.INFO, logger="conduit")
    following = asyncio.create_task(cache.run(log, log.topics.snapshots))
    await asyncio.sleep(0.1)
    await log.append(log.topics.snapshots, [Message(b"p", encode(snapshot({"a": 0.5})))])
    assert cache.get(POLICY) is None
    log.away = False
    await until(lambda: cache.get(POLICY) is not None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]
    following.cancel()


def test_silence_of_the_log_makes_stale_but_absence_of_traffic_does_not(snapshot):
    clock = Clock()
    cache = new_cache(clock)
    cache.update(snapshot({"a": 0.5}, offset=1))
    clock.now += 1000.0
    assert cache.is_stale(POLICY)  # the log was not read for 1000 s
    cache._last_read = clock.now
    assert not cache.is_stale(POLICY)  # read again, and no delivered event waits for a snapshot


def test_events_without_a_newer_snapshot_make_stale(snapshot):
    clock = Clock()
    cache = new_cache(clock)
    cache.update(snapshot({"a": 0.5}, offset=1))
    cache.delivered({POLICY})
    clock.now += 9.0
    cache._last_read = clock.now
    cache.delivered({POLICY})  # does not restart the first one's wait
    assert not cache.is_stale(POLICY)
    clock.now += 2.0
    cache._last_read = clock.now
    assert cache.is_stale(POLICY) and not cache.is_stale("default/other")
    cache.update(snapshot({"a": 0.5}, offset=1))  # a repetition is not a sign of life
    assert cache.is_stale(POLICY)
    cache.update(snapshot({"a": 0.5}, offset=2))
    assert not cache.is_stale(POLICY)
