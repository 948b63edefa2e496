"""Opens each kind of log in the same way, so that one suite can check all of them."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from folder_log import FolderLog

from conduit_log import EventLog, LogSettings
from conduit_log.embedded import EmbeddedLog
from conduit_log.kafka import KafkaLog
from conduit_log.memory import MemoryLog
from conduit_schemas import Topics

Opening = Callable[[], EventLog]

TOPICS = Topics("contract")
PARTITIONS = 3


@pytest.fixture
def unique_prefix() -> str:
    """A topic prefix that no other test uses, and no other run on the same broker."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["memory", "embedded", "folder", "kafka"])
def opening(request: pytest.FixtureRequest, tmp_path: Path, unique_prefix: str) -> Opening:
    """Return a function that opens the same log each time, as another process would."""
    if request.param == "memory":
        log = MemoryLog(TOPICS, PARTITIONS)
        return lambda: log
    if request.param == "embedded":
        return lambda: EmbeddedLog(tmp_path / "log", topics=TOPICS)
    if request.param == "folder":
        return lambda: FolderLog(LogSettings(log=f"folder:{tmp_path}/log", prefix=TOPICS.prefix))
    settings = LogSettings(
        bootstrap_servers=request.getfixturevalue("kafka_bootstrap"),
        prefix=unique_prefix,
        partitions=PARTITIONS,
        timeout_s=20.0,
        session_timeout_s=6.0,
    )
    return lambda: KafkaLog(settings)
