"""What all rooms' tests share: their tiers, and a real Kafka broker, or a clear word why there is none.

A test is fast unless it carries a mark that says what makes it slow: ``kafka`` (a broker), ``browser`` (Chromium),
``process`` (starts processes) or ``campaign`` (many runs, for statistics or exactness). ``make test-fast`` runs what
has no mark. Whoever uses a broker or the browser is marked here. A test that starts a process without a mark fails,
so the fast tier stays fast without anybody having to think of it.
"""

import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from local_servers.broker import Broker, NoBrokerError, private_broker, shared_broker

settings.register_profile("conduit", deadline=None)  # a busy machine is no defect
settings.load_profile("conduit")

MARK_OF_FIXTURE = {"kafka_bootstrap": "kafka", "kafka_broker": "kafka", "secured": "kafka", "browser": "browser"}
SLOW = {"kafka", "browser", "process", "campaign"}

BRIEF = {"bash", "uname"}
"""What Python's platform module and click ask; they answer at once."""

_started: list[str] = []
"""The commands of the processes that the running test has started, its fixtures' included."""


def _record_processes(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and Path(str(arguments[0])).name not in BRIEF:
        _started.append(str(arguments[0]))
    elif event == "os.fork":
        _started.append("a fork")


sys.addaudithook(_record_processes)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whoever uses a broker or the browser; this comes before ``-m`` is obeyed."""
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
    """Fail a test that starts processes and does not say so."""
    result = yield
    if _started and not SLOW & {mark.name for mark in item.iter_markers()}:
        pytest.fail(f"starts {', '.join(_started)}: mark it with @pytest.mark.process", pytrace=False)
    return result


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of a broker that every test may write to, with topic names of its own."""
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
    """A running broker that the test may stop, kill, pause and start; its address stays the same."""
    _private_broker.start()
    return _private_broker
