"""The throughput of one learner in events per second, compared with other packages' learners in the same run.

Run ``python -m benchmarks.learner``; with ``--json`` the last line of the output is one JSON object.

*Conduit, end to end*: the worker, in a separate process, reads a Kafka topic that was filled in advance (64 features,
8 arms, an outcome for every decision, a rating for every second one, 850 bytes per event), decodes, joins, learns four
signals, and publishes snapshots and checkpoints when they are due. *Raw*: aiokafka reads the same topic in a new
process and discards the messages. Both take turns for several rounds; the medians are reported. *Core only*: the same
events from memory, without a log and without snapshots.

An *event* is one record: a decision is a selection, an outcome and, every second time, a rating.

*river* (``LinUCBDisjoint``) and *Vowpal Wabbit* (``cb_explore_adf``) get the same events from memory, already joined
and in their own format, and learn one signal: they choose at each selection and learn at each outcome or rating.
``same_role`` is Conduit doing all of that in one thread: it decodes, joins, learns four signals, builds a snapshot
every thousand events and chooses from it at each selection. ``learn_only`` teaches the peers without ever asking for a
choice. That is less than the learner's job, which includes posteriors to choose from: river, for example, defers its
cubic work until a choice is requested, so without choices it reads a log faster than Conduit. ``same_job`` gives the
peers the learner's own input, the records, and its task: decode (with Conduit's decoder), join, convert each context to
the peer's format, and teach one model per signal. Compare its rate with *core only*.

The core's time, in microseconds of processor time per event, was measured by leaving out one part after the other (12.3
in total; 15.1 before all arms' sums shared one array): decoding 3.5, of which 2.6 is msgspec parsing about sixty
numbers and names per selection; learning 3.0, of which 1.3 are products of contexts; change detection 1.7; join and
counters 2.1; logarithms 0.8; fading 0.4; dispatch 0.6. Sizes matter little: with 16 features it is a tenth faster. End
to end, reading through aiokafka (2.2 to 3.5, the raw rate), creating messages (0.5) and writing (5 %) are added.

Half of the raw rate would leave 5 to 7 microseconds per event for everything, including reading: decoding and reading
alone take that long. Turning the garbage collector off gains nothing. Leaving predictions unparsed gains 0.4, but then
the learner would use records that the contract refuses. Two changes would reach it: predictions packed like contexts
instead of JSON numbers (a change of the contract) together with a compiled join, or decoding in a separate process that
passes on columns. Today, more partitions and a second worker make use of further processors.
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import resource
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from statistics import median
from typing import Any, NamedTuple, TypeVar

import numpy as np
from aiokafka import AIOKafkaConsumer
from numpy.typing import NDArray

from benchmarks.traffic import kafka, settings_event, traffic
from conduit_learner.core import events as quick
from conduit_learner.core.checkpoint import CheckpointWriter
from conduit_learner.core.events import decode_event as read_event
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.core.targets import targets
from conduit_learner.worker.run import run_worker
from conduit_learner.worker.status import WorkerStatus
from conduit_log import LogSettings, Message, StoredMessage, open_log
from conduit_policy import SIGNALS, Beliefs, Objective, choose, unpack_context
from conduit_schemas import FRACTION_BITS, Feedback, LearningSettings, Outcome, decode_event

DIMENSION = 64
ARMS = 8
PEER_EVENTS = 3_000
SNAPSHOT_EVERY = 1_000
GROWTH = {
    "dimension": (16, 64, 256),
    "arms": (2, 8, 32),
    "policies": (1, 10, 100),
    "open_decisions": (1_000, 10_000, 100_000),
}
GROWTH_EVENTS = 20_000
_UNIT = 2.0**-FRACTION_BITS
_T = TypeVar("_T")


def log_of(events: int, *, dimension: int, arms: int, policies: int, open_decisions: int = 10_000) -> Iterator[Message]:
    """Yield each policy's settings, then the events."""
    settings = LearningSettings(featurizer=f"bench{dimension}", dimension=dimension, max_open=open_decisions)
    for number in range(policies):
        yield settings_event(settings, f"bench/p{number}")
    yield from traffic(events, dimension=dimension, arms=arms, policies=policies)


def stored(messages: Iterator[Message]) -> list[StoredMessage]:
    """Return messages as in a partition that gets a thousand per second."""
    return [StoredMessage(0, offset, 10**12 + offset, *message) for offset, message in enumerate(messages)]


class Round(NamedTuple):
    """One end-to-end run of the worker."""

    events_per_s: float
    peak_rss_mb: float
    snapshots: int
    checkpoints: int
    writing_share: float
    """Share of the time spent on building snapshots and writing checkpoints."""


def run_conduit(settings: LogSettings, events: int) -> Round:
    """Let a worker learn a whole topic."""
    gc.freeze()  # as ``conduit learner`` does

    async def learn() -> Round:
        status, stop = WorkerStatus(), asyncio.Event()
        async with open_log(settings) as log:
            worker = asyncio.create_task(run_worker(log, topics=settings.topics, stop=stop, status=status))
            first, began = await _events(status, 1, worker)
            last, ended = await _events(status, events, worker)
            writing_s = status.snapshots.total_s + status.checkpoints.total_s
            counts = status.snapshots.count, status.checkpoints.count
            stop.set()
            await worker
        seconds = ended - began
        return Round((last - first) / seconds, _peak_rss_mb(), *counts, writing_s / seconds)

    return asyncio.run(learn())


async def _events(status: WorkerStatus, count: int, worker: asyncio.Task[None]) -> tuple[int, float]:
    """Wait until the worker has applied that many events; return their number and the time."""
    while status.events < count:
        await asyncio.sleep(0.001)  # runs between two batches
        if worker.done():
            await worker
    return status.events, time.perf_counter()


def run_raw(settings: LogSettings, events: int) -> float:
    """Read a whole topic as the worker does, and discard the messages."""

    async def read() -> float:
        consumer: Any = AIOKafkaConsumer(
            settings.topics.events,
            bootstrap_servers=settings.bootstrap_servers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_bytes=32 << 20,
            max_partition_fetch_bytes=4 << 20,
        )
        await consumer.start()
        try:
            first = count = 0
            began = 0.0
            while count < events:
                found = await consumer.getmany(timeout_ms=1_000, max_records=1_000)
                count += sum(map(len, found.values()))
                if not first and count:
                    first, began = count, time.perf_counter()
            return (count - first) / (time.perf_counter() - began)
        finally:
            await consumer.stop()

    return asyncio.run(read())


def run_core(log: Sequence[StoredMessage]) -> tuple[float, PartitionLearner]:
    """Apply a log from memory; return events per second."""
    learner = PartitionLearner(0)
    began = time.perf_counter()
    for message in log:
        learner.apply(message)
    return len(log) / (time.perf_counter() - began), learner


class Step(NamedTuple):
    """What one event requires of a bandit: to choose an arm (no reward yet), or to learn."""

    arm: int
    context: NDArray[np.int16]
    propensity: float
    reward: float | None


def steps(log: Sequence[StoredMessage]) -> list[Step]:
    """Return one step per event, after the join."""
    decisions: dict[str, Step] = {}
    found = []
    for message in log:
        event = decode_event(message.value)
        if event.kind == "selection":
            context = unpack_context(event.context)
            decisions[event.decision_id] = step = Step(event.chosen, context, event.propensity or 1.0, None)
            found.append(step)
        elif isinstance(event, Outcome | Feedback):
            reward = event.quality if isinstance(event, Feedback) else float(event.status == "success")
            found.append(decisions[event.decision_id]._replace(reward=reward))
    return found


def run_in_role(log: Sequence[StoredMessage]) -> float:
    """Let Conduit do the peers' work in one thread: learn from the records and choose at each selection."""
    arms = [f"deployment-{number}" for number in range(ARMS)]
    contexts = [step.context if step.reward is None else None for step in steps(log)]
    learner, objective = PartitionLearner(0), Objective()
    beliefs = None
    learner.apply(log[0])
    began = time.perf_counter()
    for message, context in zip(log[1:], contexts, strict=True):
        if context is not None and beliefs is not None:
            choose(beliefs, context, arms, objective=objective, decision_id=str(message.offset))
        learner.apply(message)
        if beliefs is None or message.offset % SNAPSHOT_EVERY == 0:
            beliefs = Beliefs(learner.snapshot("bench/p0"))
    return len(contexts) / (time.perf_counter() - began)


def run_river(log: Sequence[StoredMessage], *, chooses: bool) -> float:
    """Let river choose and learn; return events per second."""
    from river import bandit  # noqa: PLC0415 - one peer's import must not be another one's

    todo = [(step.arm, dict(enumerate((step.context * _UNIT).tolist())), step.reward) for step in steps(log)]
    arms: list[int | str] = list(range(ARMS))
    policy = bandit.LinUCBDisjoint(alpha=1.0, seed=1)
    began = time.perf_counter()
    for arm, context, reward in todo:
        if reward is not None:
            policy.update(arm, context, reward)  # type: ignore[no-untyped-call]  # river's
        elif chooses:
            policy.pull(arms, context=context)
    return len(todo) / (time.perf_counter() - began)


Teacher = Callable[[int, NDArray[np.int16], float, float], object]
"""Takes an arm, a context, a propensity and a number to learn."""


def river_teacher() -> Teacher:
    """Return one signal's model."""
    from river import bandit  # noqa: PLC0415 - one peer's import must not be another one's

    policy: Any = bandit.LinUCBDisjoint(alpha=1.0, seed=1)
    return lambda arm, context, _, value: policy.update(arm, dict(enumerate((context * _UNIT).tolist())), value)


def vw_teacher() -> Teacher:
    """Return one signal's model."""
    import vowpalwabbit  # noqa: PLC0415 - optional

    workspace = vowpalwabbit.Workspace("--cb_explore_adf --epsilon 0.1 -q SA --quiet")

    def teach(arm: int, context: NDArray[np.int16], propensity: float, value: float) -> None:
        workspace.learn(_vw_example(arm, context, propensity, 1.0 - value))

    return teach


def _vw_example(arm: int, context: NDArray[np.int16], propensity: float, cost: float | None) -> list[str]:
    shared = "shared |S " + " ".join(f"{index}:{value:.6g}" for index, value in enumerate(context * _UNIT))
    actions = [f"|A a{number}" for number in range(ARMS)]
    if cost is not None:
        actions[arm] = f"0:{cost:.6f}:{propensity:.6f} {actions[arm]}"
    return [shared, *actions]


def run_same_job(log: Sequence[StoredMessage], teacher: Callable[[], Teacher]) -> float:
    """Let a peer do the work of Conduit's core, from the same records; return events per second."""
    teachers = {signal: teacher() for signal in SIGNALS}
    decisions: dict[str, tuple[int, NDArray[np.int16], float]] = {}
    began = time.perf_counter()
    for message in log:
        event = read_event(message.value)
        if isinstance(event, quick.SelectionEvent):
            decisions[event.decision_id] = (
                event.chosen,
                unpack_context(event.context),
                event.propensity or 1.0,
            )
        elif isinstance(event, quick.OutcomeEvent | quick.FeedbackEvent):
            for signal, value in targets(event).items():
                teachers[signal](*decisions[event.decision_id], value)
    return len(log) / (time.perf_counter() - began)


def run_vw(log: Sequence[StoredMessage], *, chooses: bool) -> float | None:
    """Let Vowpal Wabbit choose and learn; return events per second, or None if it is not installed."""
    if find_spec("vowpalwabbit") is None:
        return None
    import vowpalwabbit  # noqa: PLC0415 - optional

    todo = []
    for arm, context, propensity, reward in steps(log):
        cost = None if reward is None else 1.0 - reward
        todo.append((_vw_example(arm, context, propensity, cost), reward is not None))
    workspace = vowpalwabbit.Workspace("--cb_explore_adf --epsilon 0.1 -q SA --quiet")
    began = time.perf_counter()
    for example, is_taught in todo:
        if is_taught:
            workspace.learn(example)
        elif chooses:
            workspace.predict(example)
    return len(todo) / (time.perf_counter() - began)


def growth() -> list[dict[str, float]]:
    """Return the core's speed and the cost of writing, changing one size at a time."""
    usual = {"dimension": DIMENSION, "arms": ARMS, "policies": 1, "open_decisions": 10_000}
    sizes = [usual] + [
        {**usual, name: value} for name, values in GROWTH.items() for value in values if value != usual[name]
    ]
    return [_grown(**size) for size in sizes]


def _grown(*, dimension: int, arms: int, policies: int, open_decisions: int) -> dict[str, float]:
    # Two of five events are selections. Start with as many events as it takes to have that many decisions open.
    warm_up = open_decisions * 5 // 2
    size = {"dimension": dimension, "arms": arms, "policies": policies}
    log = stored(log_of(warm_up + GROWTH_EVENTS, open_decisions=max(1, open_decisions // policies), **size))
    _, learner = run_core(log[:warm_up])
    began = time.perf_counter()
    for message in log[warm_up:]:
        learner.apply(message)
    seconds = time.perf_counter() - began
    return {
        **size,
        "open_decisions": sum(len(policy.open) for policy in learner.policies.values()),
        "events_per_s": round((len(log) - warm_up) / seconds),
        "snapshot_ms": round(1e3 * median(_seconds(lambda: learner.snapshot("bench/p0")) for _ in range(3)), 2),
        "checkpoint_ms": round(1e3 * _seconds(lambda: list(CheckpointWriter().records(learner))), 2),
    }


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


async def fill(settings: LogSettings, events: int) -> int:
    """Fill a topic; return how many events it holds."""
    messages = list(log_of(events, dimension=DIMENSION, arms=ARMS, policies=1))
    async with open_log(settings) as log:
        await log.create_topics()
        for start in range(0, len(messages), 2_000):
            await log.append(settings.topics.events, messages[start : start + 2_000])
    return len(messages)


def measure(address: str, *, events: int, rounds: int) -> Mapping[str, Any]:
    """Return the report."""
    raw, worked = [], []
    for _ in range(rounds):
        settings = LogSettings(bootstrap_servers=address, prefix=f"bench-{uuid.uuid4().hex[:8]}", partitions=1)
        filled = asyncio.run(fill(settings, events))
        raw.append(_in_a_fresh_process(run_raw, settings, filled))
        worked.append(_in_a_fresh_process(run_conduit, settings, filled))
    log = stored(log_of(GROWTH_EVENTS, dimension=DIMENSION, arms=ARMS, policies=1))
    short = log[:PEER_EVENTS]
    contestants: dict[str, Callable[[], float | None]] = {
        "core_only": lambda: run_core(log)[0],
        "same_role": lambda: run_in_role(short),
        "river": lambda: run_river(short, chooses=True),
        "vw": lambda: run_vw(short, chooses=True),
        "river_learn_only": lambda: run_river(short, chooses=False),
        "vw_learn_only": lambda: run_vw(short, chooses=False),
        "river_same_job": lambda: run_same_job(short, river_teacher),
        "vw_same_job": lambda: run_same_job(short, vw_teacher) if find_spec("vowpalwabbit") else None,
    }
    rates: dict[str, list[float | None]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            rates[name].append(contestant())
    conduit, consumed = median(one.events_per_s for one in worked), median(raw)
    medians = {name: _median(values) for name, values in rates.items()}
    against = {"raw_consume": consumed, **medians}
    return {
        "events_per_s": round(conduit),
        "raw_consume_per_s": round(consumed),
        **{f"{name}_events_per_s": rate if rate is None else round(rate) for name, rate in medians.items()},
        "ratios": {name: None if rate is None else round(conduit / rate, 3) for name, rate in against.items()},
        "growth": growth(),
        "peak_rss_mb": round(max(one.peak_rss_mb for one in worked), 1),
        "rounds": [{key: round(value, 3) for key, value in one._asdict().items()} for one in worked],
        "raw_rounds": [round(rate) for rate in raw],
        "settings": {"events": events, "dimension": DIMENSION, "arms": ARMS, "policies": 1},
        "left_out": {} if medians["vw"] else {"vw": "vowpalwabbit"},
    }


def _in_a_fresh_process(run: Callable[[LogSettings, int], _T], settings: LogSettings, events: int) -> _T:
    # A new pool each time: one that replaces its process after every task may wait for it forever (gh-115634).
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(run, settings, events).result()


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _print(report: Mapping[str, Any]) -> None:
    settings = report["settings"]
    print(f"{settings['events']:,} events, {settings['dimension']} features, {settings['arms']} arms\n")
    print(f"{'':28}{'events/s':>12}{'Conduit is x':>14}")
    for name, key in (
        ("Conduit, end to end", "events_per_s"),
        ("Conduit, core only", "core_only_events_per_s"),
        ("aiokafka, read and drop", "raw_consume_per_s"),
        ("Conduit in the peers' role", "same_role_events_per_s"),
        ("river LinUCBDisjoint", "river_events_per_s"),
        ("VW cb_explore_adf", "vw_events_per_s"),
        ("river, never asked", "river_learn_only_events_per_s"),
        ("VW, never asked", "vw_learn_only_events_per_s"),
        ("river, the core's job", "river_same_job_events_per_s"),
        ("VW, the core's job", "vw_same_job_events_per_s"),
    ):
        rate = report[key]
        shown = f"{rate:12,}{report['events_per_s'] / rate:14.2f}" if rate else f"{'left out':>12}"
        print(f"{name:28}{shown}")
    print(f"\npeak memory of the worker: {report['peak_rss_mb']} MB\n\nthe core as it grows:")
    heads = ("features", 10), ("arms", 6), ("policies", 10), ("open", 9), ("events/s", 10), ("snapshot ms", 13)
    print("".join(f"{name:>{width}}" for name, width in (*heads, ("checkpoint ms", 15))))
    for row in report["growth"]:
        print(
            f"{row['dimension']:10}{row['arms']:6}{row['policies']:10}{row['open_decisions']:9}"
            f"{row['events_per_s']:10,}{row['snapshot_ms']:13}{row['checkpoint_ms']:15}"
        )
    for package in report["left_out"].values():
        print(f"\nleft out: {package} is not installed (pip install 'conduit-litellm[bench]')")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="a broker to write to [one is started]")
    parser.add_argument("--events", type=int, default=100_000, help="events in the topic [100000]")
    parser.add_argument("--rounds", type=int, default=3, help="number of runs; the median is reported [3]")
    options = parser.parse_args(arguments)
    with kafka(options.kafka) as address:
        report = measure(address, events=options.events, rounds=options.rounds)
    if options.json:
        print(json.dumps(report))
    else:
        _print(report)


if __name__ == "__main__":
    main()
