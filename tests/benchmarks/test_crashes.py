"""A small crash campaign on each log, and proof that it detects what it looks for."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from benchmarks import crashes
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import LogSettings, StoredMessage
from conduit_log.memory import MemoryLog
from conduit_schemas import Snapshot


@pytest.fixture(params=["embedded", "kafka"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> LogSettings:
    return LogSettings(
        bootstrap_servers=request.getfixturevalue("kafka_bootstrap") if request.param == "kafka" else None,
        path=tmp_path,
        prefix=f"crash-{uuid.uuid4().hex[:8]}",
        partitions=3,
        session_timeout_s=crashes.SESSION_TIMEOUT_S,
    )


@pytest.mark.process
async def test_learners_killed_doubled_and_paused_publish_what_an_undisturbed_one_does(
    settings: LogSettings, tmp_path: Path
) -> None:
    pauses = int(settings.bootstrap_servers is not None)
    found = await crashes.campaign(settings, tmp_path, kills=3, pauses=pauses)
    assert (found["kills"], found["pauses"], sum(found["killed_in"].values())) == (3, pauses, 3)
    assert found["exit_codes"] == [0, 0, 0]
    assert found["positions_checked"] >= crashes.POLICIES
    assert (found["different_hashes"], found["cache_went_back"], found["records_refused"]) == (0, 0, 0)


def snapshots(tmp: list[StoredMessage]) -> list[Snapshot]:
    learner = PartitionLearner(0)
    made = []
    for message in tmp:
        learner.apply(message)
        made.append(learner.snapshot("bench/p0"))
    return made


async def filled() -> tuple[MemoryLog, list[StoredMessage]]:
    log = MemoryLog()
    topic = log.topics.events
    await log.append(topic, list(crashes.traffic(20, dimension=4, arms=2)))
    async with log.reader(topic) as reader:
        return log, await reader.poll(timeout_s=1.0)


async def test_a_snapshot_that_does_not_follow_from_the_log_is_counted() -> None:
    log, stored = await filled()
    honest = snapshots(stored)
    plugin = crashes.Plugin()
    for snapshot in honest:
        plugin.cache.update(snapshot)
    assert await crashes.different(log, log.topics.events, plugin) == 0
    forged = honest[7].model_copy(update={"selections": 99, "hash": ""}).sealed()
    beyond = honest[9].model_copy(update={"offset": 21, "hash": ""}).sealed()
    plugin.cache.update(forged)
    plugin.cache.update(beyond)
    assert await crashes.different(log, log.topics.events, plugin) == 2


async def test_a_cache_that_goes_back_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stored = await filled()
    older, newer = snapshots(stored)[3:5]
    plugin = crashes.Plugin()
    for snapshot in (newer, older, newer):
        plugin.cache.update(snapshot)
    assert (plugin.records, plugin.regressed_records, plugin.went_back) == (3, 1, 0)

    careless = crashes.Plugin()

    def take(snapshot: Snapshot) -> bool:
        careless.cache._beliefs.pop(snapshot.policy, None)
        return keep(snapshot)

    keep: Any = careless._update
    monkeypatch.setattr(careless, "_update", take)
    for snapshot in (newer, older):
        careless.cache.update(snapshot)
    assert careless.went_back == 1


@pytest.mark.process
async def test_a_learner_that_ends_by_itself_is_a_failure(tmp_path: Path) -> None:
    learner = crashes.Learner("broken", tmp_path, ["--no-such-option"])
    await learner.start()
    await learner.process.wait()
    with pytest.raises(SystemExit, match=r"(?s)ended with 2.*unrecognized arguments"):
        learner.check()


def test_the_phase_outlives_its_process(tmp_path: Path) -> None:
    phase = crashes.Phase(tmp_path / "phase")
    assert phase.now == "s"
    with phase.of("f"):
        with phase.of("r"):
            assert crashes.Phase(tmp_path / "phase").now == "r"
        assert phase.now == "f"
    assert crashes.Phase(tmp_path / "phase").now == "a"
