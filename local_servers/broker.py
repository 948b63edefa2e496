"""Apache Kafka brokers that tests can start, stop and kill.

There are three sources, tried in this order: the broker that ``CONDUIT_TEST_KAFKA=host:port`` names; a container, if a
Docker engine is running; and Kafka's own jars, run with the local Java. Maven downloads the jars, which are kept in
``.cache/kafka`` between runs.
"""

import asyncio
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import docker  # type: ignore[import-untyped]  # ships no types
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from filelock import FileLock
from testcontainers.core.container import DockerContainer

__all__ = ["Broker", "NoBrokerError", "answers", "private_broker", "secured_broker", "shared_broker"]

POM = Path(__file__).parent / "kafka-broker" / "pom.xml"
CACHE = Path(__file__).parents[1] / ".cache" / "kafka"
IMAGE = "apache/kafka:4.3.1"
START_S = 90.0
STOP_S = 30.0

HELP = """There is no Kafka broker for the tests. Provide one of these:
  - Java 17 or newer and Maven (Debian: apt install openjdk-17-jre-headless maven), or
  - a running Docker engine, or
  - CONDUIT_TEST_KAFKA=host:port, the address of a broker that tests may write to."""

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.backoff.ms": "500",
    # A restarted broker is accepted only after the session of the killed one has expired.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
}


class NoBrokerError(Exception):
    """Raised when no broker is available. The message says what to install."""


class Broker(Protocol):
    """A broker that belongs to the tests. Its methods block, so call them through ``asyncio.to_thread``."""

    bootstrap: str
    """``host:port``, which does not change when it is restarted."""

    def start(self) -> None:
        """Start the broker, and return when it answers. Does nothing if it is running."""
        ...

    def stop(self) -> None:
        """Shut the broker down cleanly, and keep its data."""
        ...

    def kill(self) -> None:
        """Kill the broker with SIGKILL, and keep its data."""
        ...

    def pause(self) -> None:
        """Freeze the broker: its connections stay open, but it does not answer."""
        ...

    def resume(self) -> None:
        """Let a frozen broker continue."""
        ...

    def close(self) -> None:
        """Stop the broker and delete its data."""
        ...


class JavaBroker:
    """Kafka's jars, run with the local Java in one process.

    Parameters
    ----------
    folder
        Where the broker keeps its files.
    secured
        Further properties, for a second listener named SECURED. By default there is only one listener.
    """

    def __init__(self, folder: Path, secured: Mapping[str, str] | None = None) -> None:
        self.log = folder / "broker.log"
        self._libraries = _libraries()
        self._data = folder / "data"
        self._properties = folder / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        port, controller, second = _free_ports(3)
        self.bootstrap = f"127.0.0.1:{port}"
        self.secured = f"127.0.0.1:{second}"
        folder.mkdir(parents=True, exist_ok=True)
        properties = PROPERTIES | {
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller}",
            "log.dir": str(self._data),
        }
        if secured is not None:
            properties |= {"listeners": f"{properties['listeners']},SECURED://{self.secured}", **secured}
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        self._run("kafka.tools.StorageTool", "format", "--standalone", "-t", str(uuid.uuid4()), "-c").wait()

    def start(self) -> None:
        if self._process is None:
            self._process = self._run("kafka.Kafka")
            # The guard kills the broker when this process ends for whatever reason, which closes the guard's input.
            self._guard = subprocess.Popen(
                ["sh", "-c", 'read _; kill -9 "$0"', str(self._process.pid)],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            self._wait_until_it_answers(self._process)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._data, ignore_errors=True)

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        java = ["java", "-Xms256m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        logging = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*java, *logging, "-cp", f"{self._libraries}/*", *arguments, str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A session of its own, so that Ctrl-C reaches only the tests, which then stop the broker cleanly.
                start_new_session=True,
            )

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.communicate()
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while not answers(self.bootstrap):
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                last = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
                raise NoBrokerError(f"Kafka did not start; the end of {self.log}:\n{last}")
            time.sleep(0.2)


class DockerBroker:
    """Kafka's own image, run by testcontainers."""

    def __init__(self) -> None:
        (port,) = _free_ports(1)
        self.bootstrap = f"127.0.0.1:{port}"
        properties = PROPERTIES | {
            "controller.quorum.voters": "1@localhost:9093",
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
        }
        self._container = DockerContainer(IMAGE).with_bind_ports(9092, port)
        for name, value in properties.items():
            self._container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
        self._created = False

    def start(self) -> None:
        if not self._created:
            self._container.start()
            self._created = True
        else:
            self._container.get_wrapped_container().start()
        deadline = time.monotonic() + START_S
        while not answers(self.bootstrap):
            if time.monotonic() > deadline:
                raise NoBrokerError(f"{IMAGE} did not start: {self._container.get_logs()[1].decode()[-2000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=int(STOP_S))

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        self._container.get_wrapped_container().unpause()

    def close(self) -> None:
        if self._created:
            self._container.stop()


@contextmanager
def shared_broker(folder: Path) -> Iterator[str]:
    """Yield the address of a broker for a whole test session."""
    if named := os.environ.get("CONDUIT_TEST_KAFKA"):
        if not answers(named):
            raise NoBrokerError(f"CONDUIT_TEST_KAFKA={named} does not answer.\n{HELP}")
        yield named
        return
    with _running(_docker() or _java(folder)) as broker:
        yield broker.bootstrap


@contextmanager
def private_broker(folder: Path) -> Iterator[Broker]:
    """Yield a broker that the caller may stop, kill and restart."""
    with _running(_java(folder) or _docker()) as broker:
        yield broker


@contextmanager
def secured_broker(folder: Path, properties: Mapping[str, str]) -> Iterator[JavaBroker]:
    """Yield a broker with a second listener named SECURED, which the properties configure."""
    if _java(folder) is None:
        raise NoBrokerError(HELP)
    broker = JavaBroker(folder, properties)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@contextmanager
def _running(make: Callable[[], Broker] | None) -> Iterator[Broker]:
    if make is None:
        raise NoBrokerError(HELP)
    broker = make()
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


def _docker() -> Callable[[], Broker] | None:
    try:
        docker.from_env(timeout=3).ping()
    except docker.errors.DockerException:
        return None
    return DockerBroker


def _java(folder: Path) -> Callable[[], Broker] | None:
    if shutil.which("java") is None:
        return None
    version = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    major = re.search(r'version "(\d+)', version)
    if major is None or int(major[1]) < 17:
        return None
    return lambda: JavaBroker(folder)


def _libraries() -> Path:
    """Return the folder with Kafka's jars. If it does not exist, Maven fills it."""
    folder = CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "maven.lock"):
        if not folder.exists():
            if shutil.which("mvn") is None:
                raise NoBrokerError(HELP)
            partial = folder.with_suffix(".partial")
            command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
            command += [f"-DoutputDirectory={partial}", "-DincludeScope=runtime"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise NoBrokerError(f"Maven could not fetch Kafka:\n{done.stdout[-2000:]}{done.stderr[-500:]}")
            partial.rename(folder)
    return folder


def answers(bootstrap: str) -> bool:
    """Return whether a broker with a working controller answers at an address."""

    async def ask() -> bool:
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2000)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
            return bool(cluster["brokers"]) and cluster["controller_id"] >= 0
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await admin.close()

    host, _, port = bootstrap.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return asyncio.run(ask())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()
