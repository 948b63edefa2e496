"""What all rooms' tests share: a real Kafka broker, or a clear word why there is none."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from local_servers.broker import Broker, NoBrokerError, private_broker, shared_broker

settings.register_profile("conduit", deadline=None)  # a busy machine is no defect
settings.load_profile("conduit")


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
