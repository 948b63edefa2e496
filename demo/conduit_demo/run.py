"""One run of the demo: Conduit and LiteLLM's simple-shuffle on real requests, and fixed policies on the same table."""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np

from conduit_demo import metrics
from conduit_demo.metrics import Served
from conduit_demo.server import open_world
from conduit_demo.traffic import FinishedRequest, Traffic, model_server, new_router, take_calls, time_selections
from conduit_demo.world import Table
from conduit_litellm import ConduitRoutingStrategy
from conduit_log import Address, LogSettings, open_log
from conduit_policy import Objective
from conduit_schemas import ConduitError

__all__ = ["LearnerFailedError", "Result", "Settings", "Watch", "demonstrate"]


class LearnerFailedError(ConduitError):
    """Raised when the separate learner process ends before the demo does."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run."""

    requests: int = 2000
    seed: int = 1
    concurrency: int = 16
    speed: float = 25.0
    """How many times faster than in reality the models answer."""
    data: Path | None = None
    """Folder of recorded outcomes; without it, the simulated models."""
    log: str | None = None
    """Address of the log; by default the embedded one in a temporary folder."""

    @property
    def address(self) -> Address:
        """The log's address, without a folder if that is a temporary one."""
        return Address.parse(self.log or "file:")

    @property
    def hosts_learner(self) -> bool:
        """Whether the learner runs in the demo's own process."""
        return open_log(LogSettings(log=self.log or "file:")).capabilities.hosts_learner


class Watch(Protocol):
    """Receives the progress of a run."""

    def begin(self, policy: str, requests: int, models: tuple[str, ...]) -> None:
        """Called when a policy starts to serve requests."""
        ...

    def answered(self, answer: FinishedRequest) -> None:
        """Called after each finished request."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """The results of a run."""

    settings: Settings
    objective: Objective
    table: Table
    served: dict[str, Served]
    """Results by policy."""
    fixed: dict[str, str]
    """The model of each policy that uses a single one."""
    snapshots: int
    """Number of snapshots that the plugin received while serving."""
    feedbacks: int
    selection_us: dict[str, list[float]] = field(repr=False)
    """Durations of selections on an idle router after the run, in microseconds, by policy that actually ran."""
    seconds: float
    """Wall-clock time of the whole run."""

    def as_json(self) -> dict[str, Any]:
        """Return all figures as one JSON object; ``after_1000`` is null if the run is too short."""
        policies: dict[str, Any] = {}
        long_enough = len(self.table) > metrics.WARM_UP
        for name, served in self.served.items():
            entry = metrics.figures(served, self.table.models)
            if name in self.fixed:
                entry["model"] = self.fixed[name]
            entry["after_1000"] = metrics.figures(served, self.table.models, metrics.WARM_UP) if long_enough else None
            for part, start in ((entry, 0), (entry["after_1000"], metrics.WARM_UP)):
                if part is not None:
                    part["mix_quality"] = metrics.mixed_quality(self.table, part["cost_usd"], start)
            policies[name] = entry
        selection_us = {
            name: dict(zip(("p50", "p99"), np.quantile(times, (0.5, 0.99)).tolist(), strict=True))
            for name, times in self.selection_us.items()
        }
        return {
            "requests": len(self.table),
            "policies": policies,
            "snapshots": self.snapshots,
            "selection_us": selection_us["conduit"],
            "simple_shuffle_selection_us": selection_us["simple_shuffle"],
            "feedbacks": self.feedbacks,
            "objective": self.objective.weights(),
            "log": self.settings.address.scheme,
            "seed": self.settings.seed,
            "seconds": self.seconds,
        }


async def demonstrate(settings: Settings, watch: Watch) -> Result:
    """Run the demo once.

    Raises
    ------
    ConduitError
        When recorded data, the broker, the learner or the model server cannot be used; the message says what to do.
    """
    start = time.monotonic()
    world = open_world(settings.data, settings.requests, settings.seed)
    requests = len(world.texts)
    table = world.table
    objective = Objective.preset("balanced")
    times_us: dict[str, list[float]] = {}
    async with model_server(settings.data, settings.requests, settings.seed, settings.speed) as url:
        async with _strategy(settings, objective) as strategy:
            router = new_router(world, url, settings.speed)
            strategy.install(router)

            async def feedback(answer: FinishedRequest) -> None:
                await strategy.record_feedback(
                    str(answer.model), quality_score=answer.quality, decision_id=strategy.decision_id(answer.response)
                )

            watch.begin("conduit", requests, world.models)
            traffic = Traffic(world, router, settings.concurrency, seed=settings.seed)
            await traffic.run(watch.answered, feedback)
            snapshots, feedbacks = strategy.counters["snapshots"], strategy.counters["feedbacks"]
            idle = new_router(world, url, settings.speed)
            strategy.install(idle)
            times_us["conduit"] = await time_selections(idle, world)
        conduit = metrics.replayed(table, await take_calls(url))
        watch.begin("simple_shuffle", requests, world.models)
        router = new_router(world, url, settings.speed)
        await Traffic(world, router, settings.concurrency).run(watch.answered)
        times_us["simple_shuffle"] = await time_selections(new_router(world, url, settings.speed), world)
        shuffle = metrics.replayed(table, await take_calls(url))
    fixed = {
        "best_fixed": metrics.best_by_objective(table, objective),
        "best_quality": metrics.best_by_quality(table),
        "most_expensive": metrics.most_expensive(table),
    }
    return Result(
        settings=settings,
        objective=objective,
        table=table,
        served={
            "conduit": conduit,
            "simple_shuffle": shuffle,
            "random": metrics.at_random(table, settings.seed),
            **{name: metrics.always(table, model) for name, model in fixed.items()},
        },
        fixed={name: table.models[model] for name, model in fixed.items()},
        snapshots=snapshots,
        feedbacks=feedbacks,
        selection_us=times_us,
        seconds=time.monotonic() - start,
    )


@asynccontextmanager
async def _strategy(settings: Settings, objective: Objective) -> AsyncIterator[ConduitRoutingStrategy]:
    """Run a strategy on the requested log, with a learner in this process or in a separate one."""
    with tempfile.TemporaryDirectory(prefix="conduit-demo-") as folder:
        address = settings.log or f"file:{folder}"
        if settings.hosts_learner:
            strategy = ConduitRoutingStrategy(log=address, objective=objective)
            try:
                yield strategy
            finally:
                await strategy.aclose()
            return
        prefix = f"conduit-demo-{uuid4().hex[:12]}"
        # One policy needs only one partition. Creating the topics here reports an unreachable broker early.
        async with open_log(LogSettings.resolve(log=address, prefix=prefix, partitions=1)) as log:
            await log.create_topics()
        async with _learner(address, prefix):
            strategy = ConduitRoutingStrategy(log=address, topic_prefix=prefix, objective=objective)
            try:
                yield strategy
            finally:
                await strategy.aclose()


@asynccontextmanager
async def _learner(address: str, prefix: str) -> AsyncIterator[None]:
    """Run ``conduit learner`` in a separate process."""
    arguments = ["--log", address, "--prefix", prefix]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "conduit_learner", "learner", *arguments)
    try:
        yield
        if process.returncode is not None:
            raise LearnerFailedError(
                f"the learner ended with exit code {process.returncode} during the demo; see its messages above"
            )
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10.0)
        except TimeoutError:
            process.kill()
            await process.wait()
