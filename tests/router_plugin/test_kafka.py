"""With Kafka: the broker may be missing, disappear and return. Every request is served, and no event is lost."""

import asyncio
import logging
import secrets

from conduit_log import Message, open_log
from conduit_schemas import encode

ASK = [{"role": "user", "content": "hello"}]


async def serve(router, times):
    return [(await router.acompletion(model="chat", messages=ASK))._hidden_params["model_id"] for _ in range(times)]


async def test_snapshots_come_and_events_go_through_a_broker(  # noqa: PLR0917 - fixtures
    kafka_bootstrap, new_strategy, new_router, snapshot, until, events
):
    strategy = new_strategy(bootstrap_servers=kafka_bootstrap, topic_prefix=f"t{secrets.token_hex(6)}")
    assert strategy._learner is None
    router = new_router(strategy)
    await serve(router, 5)
    settings = strategy.log_settings
    async with open_log(settings) as log:
        newest = encode(snapshot({"a": 0.1, "b": 0.9}))
        await log.append(settings.topics.snapshots, [Message(b"default/chat", newest)])
    await until(lambda: strategy._policies.get("default/chat") is not None, 30.0)
    assert set(await serve(router, 5)) == {"b"}
    await until(lambda: strategy.counters["outcomes_success"] == 10)
    stored = await events(strategy)
    assert [event.kind for event in stored].count("selection") == 10
    assert [event.kind for event in stored].count("outcome") == 10


async def test_a_broker_that_is_absent_and_then_lost_costs_no_request_and_no_event(  # noqa: PLR0917 - fixtures
    kafka_broker, new_strategy, new_router, until, events, caplog
):
    caplog.set_level(logging.INFO, logger="conduit")
    await asyncio.to_thread(kafka_broker.stop)
    strategy = new_strategy(bootstrap_servers=kafka_broker.bootstrap, topic_prefix=f"t{secrets.token_hex(6)}")
    router = new_router(strategy)
    served = await serve(router, 20)
    await until(lambda: any("is unavailable" in record.message for record in caplog.records), 30.0)
    assert strategy.counters["events_delivered"] == 0 and strategy.events_waiting >= 21
    await asyncio.to_thread(kafka_broker.start)
    await until(lambda: strategy.events_waiting == 0, 60.0)
    await until(lambda: any("event log is back" in record.message for record in caplog.records), 30.0)
    await asyncio.to_thread(kafka_broker.kill)
    served += await serve(router, 20)
    await until(lambda: sum("is unavailable" in record.message for record in caplog.records) == 2, 60.0)
    await asyncio.to_thread(kafka_broker.start)
    await until(lambda: strategy.counters["outcomes_success"] == 40 and strategy.events_waiting == 0, 90.0)
    stored = await events.stored(strategy.log_settings)
    selections = {event.decision_id: event.arm for event in stored if event.kind == "selection"}
    assert list(selections.values()) == served
    assert len({event.decision_id for event in stored if event.kind == "outcome"}) == 40
    await until(lambda: sum("event log is back" in record.message for record in caplog.records) == 2, 30.0)
    assert sum("is unavailable" in record.message for record in caplog.records) == 2
