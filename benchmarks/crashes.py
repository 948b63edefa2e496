"""Crash test: learners are killed hundreds of times, paused, duplicated and cut off, and every snapshot must be right.

Run ``python -m benchmarks.crashes``; with ``--json`` the last line of the output is one JSON object. Real learner
processes share a log while events keep arriving: first the embedded log, then a Kafka broker started as in the tests.
Each learner is repeatedly killed with SIGKILL, at random moments and in all phases of its work. A process records
its current phase in a byte of shared memory, which determines when to kill it and shows afterwards what was hit. A
third learner, in a separate group, owns all partitions that the others own and is killed like them. On Kafka, learners
are also paused (SIGSTOP) for longer than their group's session timeout, so that they wake up and publish snapshots
older than those of the new owner, and the broker itself is killed and restarted.

Two things are checked. Every snapshot that ever reached the topic must have the hash of the snapshot that one
undisturbed learner builds from the same log at the same offset. And the plugin's policy cache, which follows the topic,
must never go back, and must end with the undisturbed learner's last snapshots.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from benchmarks.traffic import settings_event, traffic
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.worker.run import WorkerOptions, run_worker
from conduit_log import EventLog, GroupReader, LogSettings, LogUnavailableError, Message, Reader, open_log
from conduit_log.ports import OnAssigned, OnRevoked
from conduit_schemas import LearningSettings, Snapshot
from local_servers.processes import BrokerProcess

PHASES = {
    "s": "start",
    "w": "standby",
    "f": "fetch",
    "a": "apply",
    "p": "publish",
    "c": "checkpoint",
    "r": "rebalance",
}
POLICIES = 6
DIMENSION, ARMS = 16, 4
OPEN = 500
"""Number of a policy's decisions that stay open, which a recovery re-reads."""
RATE = 250.0
"""Events per second."""
SESSION_TIMEOUT_S = 6.0
"""The smallest value that a broker accepts by default."""
OPTIONS = WorkerOptions(
    snapshot_every_events=20, snapshot_every_s=0.2, checkpoint_every_events=200, checkpoint_every_s=2.0
)
_PATIENCE_S = 2.0
"""How long to wait until a learner reaches the phase in which to kill it."""
_LIMIT_S = 300.0


class Phase:
    """A learner's current phase, in a byte that outlives the process."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(b"s")
        with file.open("r+b") as opened:
            self._byte = mmap.mmap(opened.fileno(), 1)

    @property
    def now(self) -> str:
        """A key of :data:`PHASES`."""
        return chr(self._byte[0])

    @now.setter
    def now(self, phase: str) -> None:
        self._byte[0] = ord(phase)

    @contextlib.contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Mark a phase while the context is open. After the outermost one, the phase is "applying"."""
        before, self.now = self.now, phase
        try:
            yield
        finally:
            self.now = before if phase == "r" else "a"


class TellingLog:
    """A log that records its learner's phase, and puts the learner into a given group."""

    def __init__(self, log: EventLog, phase: Phase, group: str | None) -> None:
        self._log = log
        self._phase = phase
        self._group = group

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, topic: str, messages: Sequence[Message]) -> None:
        """Append messages, with a separate phase for snapshots."""
        with self._phase.of("p" if topic.endswith(".snapshots") else "c"):
            await self._log.append(topic, messages)

    def reader(self, topic: str, *, partitions: Collection[int] | None = None) -> Reader:
        """Return a reader; learners read outside the group only during a restoration."""
        return self._log.reader(topic, partitions=partitions)

    def group_reader(self, topic: str, group: str, *, on_assigned: OnAssigned, on_revoked: OnRevoked) -> GroupReader:
        """Return a reader with separate phases for polls and callbacks."""

        async def assigned(partitions: Collection[int]) -> Mapping[int, int]:
            with self._phase.of("r"):
                starts: Mapping[int, int] = await on_assigned(partitions)
                return starts

        async def revoked(partitions: Collection[int]) -> None:
            with self._phase.of("r"):
                await on_revoked(partitions)

        reader = self._log.group_reader(topic, self._group or group, on_assigned=assigned, on_revoked=revoked)
        poll = reader.poll

        async def telling(**options: Any) -> Any:
            with self._phase.of("f" if reader.owned else "w"):
                return await poll(**options)

        reader.poll = telling  # type: ignore[method-assign]  # on this one reader only
        return reader


async def work(settings: LogSettings, phase: Phase, group: str | None) -> None:
    """Run a learner process until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_log(settings) as log:
        telling: Any = TellingLog(log, phase, group)
        await run_worker(telling, topics=settings.topics, stop=stop, options=OPTIONS)


class Learner:
    """A learner process that is killed and restarted under the same name."""

    def __init__(self, name: str, folder: Path, arguments: Sequence[str]) -> None:
        self._file = folder / f"{name}.phase"
        self._journal = folder / f"{name}.log"
        self._arguments = [*arguments, "--phase", os.fspath(self._file)]
        self.process: asyncio.subprocess.Process
        self.phase: Phase

    async def start(self) -> None:
        """Start the process; it appends to its existing journal."""
        self._file.unlink(missing_ok=True)
        self.phase = Phase(self._file)
        with self._journal.open("ab") as journal:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.crashes", *self._arguments),
                cwd=Path(__file__).parents[1],
                stderr=journal,
            )

    async def until_in(self, phases: str, patience_s: float = _PATIENCE_S) -> None:
        """Wait until the process is in one of the phases, with a timeout."""
        deadline = time.monotonic() + patience_s
        while self.phase.now not in phases and time.monotonic() < deadline:
            self.check()
            await asyncio.sleep(0.0005)

    def check(self) -> None:
        """Check that the process has not ended on its own.

        Raises
        ------
        SystemExit
            When it has, which is a failure of the test.
        """
        if self.process.returncode is not None:
            raise SystemExit(f"a learner ended with {self.process.returncode}: {self._journal.read_text()[-2000:]}")

    async def kill(self) -> str:
        """Kill the process with SIGKILL, and return the phase in which it died."""
        self.check()
        self.process.kill()
        await self.process.wait()
        return PHASES[self.phase.now]

    async def end(self) -> int:
        """Ask the process to stop once it has started, and return its exit code."""
        await self.until_in("wfapcr", _LIMIT_S)
        self.check()
        self.process.terminate()
        return await self.process.wait()


class Seen(NamedTuple):
    """A record of the snapshot topic."""

    partition: int
    offset: int
    policy: str
    hash: str


class Plugin:
    """An application's view of the snapshot topic: the real policy cache, observed."""

    def __init__(self) -> None:
        from conduit_litellm.events.connectivity import LogState  # noqa: PLC0415 - as above
        from conduit_litellm.events.counters import Counters  # noqa: PLC0415 - learner processes do not load LiteLLM
        from conduit_litellm.routing.policy_cache import PolicyCache  # noqa: PLC0415 - as above

        self.seen: set[Seen] = set()
        self.records = 0
        self.regressed_records = 0
        """Number of records older than earlier ones on the topic, written by a paused or duplicated learner."""
        self.went_back = 0
        """How often the cache went back to an older snapshot."""
        self._counters = Counters()
        self.cache = PolicyCache(max_age_s=_LIMIT_S, counters=self._counters, state=LogState())
        self._update = self.cache.update
        self.cache.update = self._watch  # type: ignore[method-assign]  # on this one cache only

    @property
    def refused(self) -> int:
        """Number of records that were not snapshots."""
        return self._counters["snapshots_refused"]

    def offset(self, policy: str) -> int:
        """Return the offset of the cache's snapshot of a policy."""
        beliefs = self.cache.get(policy)
        return 0 if beliefs is None else beliefs.snapshot.offset

    def _watch(self, snapshot: Snapshot) -> bool:
        before = self.offset(snapshot.policy)
        self.records += 1
        self.regressed_records += snapshot.offset < before
        self.seen.add(Seen(snapshot.partition, snapshot.offset, snapshot.policy, snapshot.hash))
        taken = self._update(snapshot)
        self.went_back += self.offset(snapshot.policy) < before
        return taken


class Feed:
    """Events that keep arriving, some of them twice."""

    def __init__(self, log: EventLog, topic: str) -> None:
        self._log = log
        self._topic = topic
        self._rng = random.Random(5)
        self.events = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Append until told to stop; unconfirmed messages are sent again, as applications do."""
        learning = LearningSettings(featurizer=f"bench{DIMENSION}", dimension=DIMENSION, max_open=OPEN)
        await self._append([settings_event(learning, f"bench/p{number}") for number in range(POLICIES)])
        events = traffic(10**9, dimension=DIMENSION, arms=ARMS, policies=POLICIES)
        began, due = time.monotonic(), 0.0
        while not stop.is_set():
            await asyncio.sleep(0.05)
            due = min(RATE * (time.monotonic() - began), due + 10.0 * RATE)
            batch = [next(events) for _ in range(int(due - self.events))]
            batch += self._rng.sample(batch, len(batch) // 50)
            if batch:
                await self._append(batch)

    async def _append(self, messages: Sequence[Message]) -> None:
        while True:
            try:
                await self._log.append(self._topic, messages)
            except LogUnavailableError as error:
                logging.getLogger(__name__).info("the log does not take events: %s", error)
                await asyncio.sleep(0.2)
            else:
                self.events += len(messages)
                return


async def campaign(
    settings: LogSettings,
    folder: Path,
    *,
    kills: int,
    pauses: int = 0,
    restarts: int = 0,
    broker: Callable[[str], Awaitable[None]] | None = None,
) -> dict[str, Any]:
    """Disturb learners on one log, and return the results."""
    rng = random.Random(11)
    arguments = ["--worker", settings.prefix, "--folder", os.fspath(folder)]
    if settings.bootstrap_servers:
        arguments += ["--kafka", settings.bootstrap_servers]
    learners = [Learner(f"learner-{number}", folder, arguments) for number in range(2)]
    double = Learner("double", folder, [*arguments, "--group", "double"])
    phases: Counter[str] = Counter()
    plugin = Plugin()
    stop = asyncio.Event()
    try:
        async with open_log(settings) as log:
            await log.create_topics()
            feed = Feed(log, settings.topics.events)
            feeding = asyncio.create_task(feed.run(stop))
            following = asyncio.create_task(plugin.cache.run(log, settings.topics.snapshots))
            await asyncio.gather(*(learner.start() for learner in [*learners, double]))

            async def shoot(learner: Learner, times: int) -> None:
                for number in range(times):
                    target = "fapcr"[number % 5]
                    if number % 17 != 16:  # now and then while it still starts
                        await learner.until_in("wfapcr", _LIMIT_S)
                    if target == "r":
                        await learner.until_in("rfapc", 2.0 * SESSION_TIMEOUT_S)
                    else:
                        await learner.until_in("fapc", 2.0 * SESSION_TIMEOUT_S)
                        await asyncio.sleep(rng.uniform(0.0, 1.5))
                        await learner.until_in(target)
                    await asyncio.sleep(rng.choice((0.0, 0.0, rng.uniform(0.0, 0.01))))
                    phases[await learner.kill()] += 1
                    await learner.start()
                    _tell(f"{sum(phases.values())} kills", phases)

            shares = [kills - 2 * (kills // 3), kills // 3, kills // 3]
            await asyncio.gather(*map(shoot, [*learners, double], shares))
            for number in range(pauses):
                await _pause(learners[number % 2], settings.session_timeout_s)
            for _ in range(restarts if broker else 0):
                assert broker is not None
                await broker("kill")
                await asyncio.sleep(rng.uniform(0.5, 3.0))
                await broker("start")
                await asyncio.sleep(rng.uniform(2.0, 5.0))
            stop.set()
            await feeding
            last = await _last_offsets(log, settings.topics.events)
            await _until(
                lambda: all(plugin.offset(policy) >= offset for policy, (_, offset) in last.items()),
                f"the last snapshots: { {policy: (plugin.offset(policy), last[policy]) for policy in last} }",
            )
            codes = [await learner.end() for learner in [*learners, double]]
            following.cancel()
            wrong = await different(log, settings.topics.events, plugin)
    finally:
        for learner in [*learners, double]:
            if hasattr(learner, "process") and learner.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    learner.process.kill()
                    await learner.process.wait()
    return {
        "kills": sum(phases.values()),
        "killed_in": dict(sorted(phases.items())),
        "pauses": pauses,
        "broker_restarts": restarts if broker else 0,
        "events": sum(offset for _, offset in (await _ends(settings)).items()),
        "policies": len(last),
        "snapshot_records": plugin.records,
        "positions_checked": len(plugin.seen),
        "different_hashes": wrong,
        "regressed_records": plugin.regressed_records,
        "cache_went_back": plugin.went_back,
        "records_refused": plugin.refused,
        "exit_codes": codes,
    }


async def _pause(learner: Learner, session_timeout_s: float) -> None:
    """Pause a working learner for longer than its group's session timeout."""
    await learner.until_in("f")
    await learner.until_in("p")
    learner.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(1.5 * session_timeout_s)
    learner.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(0.5 * session_timeout_s)


async def _everything(log: EventLog, topic: str) -> AsyncIterator[Any]:
    async with log.reader(topic) as reader:
        left = {number: end for number, end in (await reader.end_offsets()).items() if end}
        while left:
            for message in await reader.poll(timeout_s=5.0):
                yield message
                if message.offset >= left.get(message.partition, 0) - 1:
                    left.pop(message.partition, None)


async def _last_offsets(log: EventLog, topic: str) -> dict[str, tuple[int, int]]:
    """Return the offset after each policy's last event."""
    return {m.key.decode(): (m.partition, m.offset + 1) async for m in _everything(log, topic)}


async def _ends(settings: LogSettings) -> Mapping[int, int]:
    async with open_log(settings) as log, log.reader(settings.topics.events) as reader:
        return await reader.end_offsets()


async def different(log: EventLog, topic: str, plugin: Plugin) -> int:
    """Count the snapshots that differ from those an undisturbed learner builds from the same events."""
    wanted: dict[tuple[int, int], list[Seen]] = defaultdict(list)
    for seen in plugin.seen:
        wanted[seen.partition, seen.offset].append(seen)
    learners: dict[int, PartitionLearner] = {}
    wrong = 0
    async for message in _everything(log, topic):
        learner = learners.setdefault(message.partition, PartitionLearner(message.partition, topic))
        learner.apply(message)
        for seen in wanted.pop((message.partition, learner.offset), ()):
            wrong += learner.snapshot(seen.policy).hash != seen.hash
    return wrong + sum(map(len, wanted.values()))


async def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {_LIMIT_S:g} s for {what}")
        await asyncio.sleep(0.05)


def _tell(what: str, phases: Mapping[str, int]) -> None:
    print(f"{what}: {', '.join(f'{phase} {count}' for phase, count in sorted(phases.items()))}", file=sys.stderr)


async def measure(kills: int, pauses: int, restarts: int) -> dict[str, Any]:
    """Return both logs' reports."""
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("embedded", "kafka"):
            (folder / name).mkdir()
        prefix = f"bench-{uuid.uuid4().hex[:8]}"
        report["embedded"] = await campaign(
            LogSettings(path=folder / "embedded", prefix=prefix), folder / "embedded", kills=kills
        )
        async with BrokerProcess(folder / "broker") as broker:
            settings = LogSettings(
                bootstrap_servers=broker.bootstrap, prefix=prefix, partitions=4, session_timeout_s=SESSION_TIMEOUT_S
            )
            report["kafka"] = await campaign(
                settings, folder / "kafka", kills=kills, pauses=pauses, restarts=restarts, broker=broker.tell
            )
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs on each log [200]")
    parser.add_argument("--pauses", type=int, default=6, help="learners paused past the session timeout [6]")
    parser.add_argument("--restarts", type=int, default=5, help="deaths of the broker [5]")
    for hidden in ("--worker", "--kafka", "--group"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--folder", "--phase"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        settings = LogSettings(
            bootstrap_servers=options.kafka,
            path=options.folder,
            prefix=options.worker,
            session_timeout_s=SESSION_TIMEOUT_S,
        )
        asyncio.run(work(settings, Phase(options.phase), options.group))
        return
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs every attempt to connect
    report = asyncio.run(measure(options.kills, options.pauses, options.restarts))
    if options.json:
        print(json.dumps(report))
        return
    for log, found in report.items():
        print(log)
        for name, value in found.items():
            print(f"    {name.replace('_', ' '):24}{value}")


if __name__ == "__main__":
    main()
