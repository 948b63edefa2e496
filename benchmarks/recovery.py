"""Recovery time of a killed learner, by length of the log and number of open decisions.

Run ``python -m benchmarks.recovery``; with ``--json`` the last line of the output is one JSON object. A worker in a
separate process learns from a log, is killed with SIGKILL while events keep arriving, and is restarted. The benchmark
measures the time from the start of the new process to its first poll after the restoration, split into loading the
program and restoring, and the time until it has caught up with the log.

First the log grows with a constant number of open decisions: the time must not grow. Then, with the full log, the
number of open decisions grows, which are re-read. Without ``--kafka`` the log is the embedded one (SQLite), which is
filled much faster. On Kafka, a killed worker's partitions are reassigned only after the group's session timeout (10 s
by default, less here). This adds a constant, which the report states.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.traffic import settings_event, traffic
from conduit_log import EventLog, LogSettings, Message, open_log
from conduit_schemas import LearningSettings

STEPS = (0.1, 0.3, 1.0)
"""Fractions of the history after which the worker is killed."""
OPEN = 10_000
WINDOWS = (1_000, 100_000)
"""Further numbers of open decisions, measured with the full history."""
TAIL = 3_000
"""Events that arrive while no worker runs."""
ARMS, DIMENSION = 8, 64
SESSION_TIMEOUT_S = 6.0
_LIMIT_S = 900.0


class Worker:
    """A worker in a separate process, which reports its progress as lines of JSON."""

    def __init__(self, options: Sequence[str]) -> None:
        self.began = time.time()
        command = [sys.executable, "-m", "benchmarks.recovery", "--worker", *options]
        root = Path(__file__).parents[1]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)

    def reports(self) -> Iterator[dict[str, Any]]:
        """Yield its reports; times are seconds since its start."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            yield said | {"after_s": said["at"] - self.began}
        raise SystemExit("the worker ended unexpectedly: see above")

    def until(self, offset: int) -> dict[str, Any]:
        """Return the worker's first report at or after an offset."""
        return next(said for said in self.reports() if said["offset"] >= offset)

    def kill(self) -> None:
        """Kill the worker with SIGKILL."""
        self._process.kill()
        self._process.communicate()


async def work(settings: LogSettings) -> None:
    """Be that process."""
    # Imported only in the worker's process.
    from conduit_learner.worker.run import run_worker  # noqa: PLC0415
    from conduit_learner.worker.status import WorkerStatus  # noqa: PLC0415

    status = WorkerStatus()
    loaded = time.time()
    async with open_log(settings) as log:
        worker = asyncio.create_task(run_worker(log, topics=settings.topics, stop=asyncio.Event(), status=status))
        said = -1
        while not worker.done():
            # The worker counts as working from the first successful poll after a restoration.
            offset = sum(partition.learner.offset for partition in status.partitions.values())
            if status.working_since is not None and status.partitions and offset != said:
                said = offset
                kept = sum(
                    len(policy.open)
                    for partition in status.partitions.values()
                    for policy in partition.learner.policies.values()
                )
                report = {"at": time.time(), "offset": offset, "learned": status.events, "open": kept}
                report |= {"loaded_at": loaded, "restore_s": status.restores.total_s}
                report |= {"checkpoints": status.checkpoints.count}
                print(json.dumps(report), flush=True)
            await asyncio.sleep(0.002)
        await worker


class Bench:
    """A log, its contents, and the workers that run on it."""

    def __init__(self, log: EventLog, settings: LogSettings, options: Sequence[str], events: int) -> None:
        self._log = log
        self._topic = settings.topics.events
        self._options = options
        self._traffic = traffic(2 * events + 10**6, dimension=DIMENSION, arms=ARMS)
        self.length = 0

    async def append(self, messages: Sequence[Message]) -> None:
        """Append messages."""
        for start in range(0, len(messages), 5_000):
            await self._log.append(self._topic, messages[start : start + 5_000])
        self.length += len(messages)

    async def grow(self, count: int) -> None:
        """Append traffic."""
        while count > 0:
            block = [message for _, message in zip(range(min(count, 50_000)), self._traffic, strict=False)]
            await self.append(block)
            count -= len(block)

    async def open_at_most(self, decisions: int) -> None:
        """Change the number of open decisions."""
        learning = LearningSettings(featurizer=f"bench{DIMENSION}", dimension=DIMENSION, max_open=decisions)
        await self.append([settings_event(learning)])

    async def measure(self) -> dict[str, float]:
        """Let a worker catch up, kill it while events arrive, and time the next one."""
        worker = Worker(self._options)
        try:
            await asyncio.to_thread(worker.until, self.length)
            await self.grow(TAIL)  # it learns some of this, or none
        finally:
            worker.kill()
        history = self.length
        again = Worker(self._options)
        try:
            first = await asyncio.to_thread(next, again.reports())
            last = first if first["offset"] >= history else await asyncio.to_thread(again.until, history)
        finally:
            again.kill()
        return {
            "events": history,
            "open_decisions": last["open"],
            "serving_s": round(first["after_s"], 3),
            "loading_s": round(first["loaded_at"] - again.began, 3),
            "restoring_s": round(first["restore_s"], 3),
            "caught_up_s": round(last["after_s"], 3),
            "learned_again": last["learned"],
        }


async def measure(settings: LogSettings, options: Sequence[str], events: int) -> Mapping[str, Any]:
    """Return the report."""
    async with open_log(settings) as log:
        await log.create_topics()
        bench = Bench(log, settings, options, events)
        await bench.open_at_most(OPEN)
        by_history = []
        for part in STEPS:
            await bench.grow(round(part * events) - bench.length)
            by_history.append(await bench.measure())
            _tell(by_history[-1])
        by_window = [by_history[-1]]
        for window in WINDOWS:
            await bench.open_at_most(window)
            await bench.grow(window * 3)  # of five events two are selections
            by_window.append(await bench.measure())
            _tell(by_window[-1])
    return {
        "recovery_s": by_history[-1]["serving_s"],
        "by_history": by_history,
        "by_open_window": sorted(by_window, key=lambda row: row["open_decisions"]),
        "log": "kafka" if settings.bootstrap_servers else "embedded",
        "session_timeout_s": SESSION_TIMEOUT_S if settings.bootstrap_servers else None,
        "settings": {"dimension": DIMENSION, "arms": ARMS, "policies": 1, "partitions": 1},
    }


def _tell(row: Mapping[str, Any]) -> None:
    print(
        f"{row['events']:>12,} events {row['open_decisions']:>9,} open: serving after {row['serving_s']:.2f} s "
        f"(loading {row['loading_s']:.2f}, restoring {row['restoring_s']:.2f}), caught up after "
        f"{row['caught_up_s']:.2f} s, {row['learned_again']:,} events learned again",
        file=sys.stderr,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="a broker to write to [the embedded log]")
    parser.add_argument("--events", type=int, default=1_000_000, help="length of the history [1000000]")
    parser.add_argument("--worker", metavar="PREFIX", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        prefix, folder = options.worker or f"bench-{uuid.uuid4().hex[:8]}", options.folder or Path(temporary)
        settings = LogSettings(
            bootstrap_servers=options.kafka,
            path=folder,
            prefix=prefix,
            partitions=1,
            session_timeout_s=SESSION_TIMEOUT_S,
        )
        if options.worker:
            asyncio.run(work(settings))
            return
        again = [prefix, "--folder", os.fspath(folder)] + (["--kafka", options.kafka] if options.kafka else [])
        report = asyncio.run(measure(settings, again, options.events))
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
