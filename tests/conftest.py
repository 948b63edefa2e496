"""What the tests of all rooms share: the marks that sort them into tiers, and a real Kafka broker.

A test is fast unless it carries a mark that says what makes it slow: ``kafka`` (a broker), ``browser`` (Chromium),
``process`` (starts processes) or ``campaign`` (many runs, for statistics or exactness). ``make test-fast`` runs what
has no mark. Tests that use a broker or the browser are marked here. A test that starts a process without a mark fails,
so the fast tier stays fast.
"""

import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from local_servers.broker import Broker, NoBrokerError, private_broker, shared_broker

settings.register_profile("conduit", deadline=None)  # tests may be slow on a busy machine
settings.load_profile("conduit")

MARK_OF_FIXTURE = {"kafka_bootstrap": "kafka", "kafka_broker": "kafka", "secured": "kafka", "browser": "browser"}
SLOW = {"kafka", "browser", "process", "campaign"}

BRIEF = {"bash", "uname"}
"""Commands that Python's platform module and click run. They end at once."""

_started: list[str] = []
"""The commands of the processes that the running test and its fixtures have started."""


def _record_processes(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and Path(str(arguments[0])).name not in BRIEF:
        _started.append(str(arguments[0]))
    elif event == "os.fork":
        _started.append("a fork")


sys.addaudithook(_record_processes)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a broker or the browser, before ``-m`` selects by marks."""
    for item in items:
        marks = {MARK_OF_FIXTURE[name] for name in getattr(item, "fixturenames", ()) if name in MARK_OF_FIXTURE}
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(isinstance(value, str) and value == "kafka" for value in parameters):
            marks.add("kafka")
        for mark in sorted(marks):
            item.add_marker(mark)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    _started.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that starts processes without a mark."""
    result = yield
    if _started and not SLOW & {mark.name for mark in item.iter_markers()}:
        pytest.fail(f"starts {', '.join(_started)}: mark it with @pytest.mark.process", pytrace=False)
    return result


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of a broker that all tests share. Each uses topic names of its own."""
    try:
        with shared_broker(tmp_path_factory.mktemp("kafka")) as address:
            yield address
    except NoBrokerError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def _private_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    try:
        with private_broker(tmp_path_factory.mktemp("private-kafka")) as broker:
            yield broker
    except NoBrokerError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def kafka_broker(_private_broker: Broker) -> Broker:
    """A running broker that the test may stop, kill, pause and restart. Its address stays the same."""
    _private_broker.start()
    return _private_broker
