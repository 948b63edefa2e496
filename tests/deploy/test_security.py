"""The rights that docs/security.md gives each role suffice for its work, but not for another role's; over TLS."""

import asyncio
import datetime
import ipaddress
import os
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from litellm.router import Router

from conduit_learner.cli import main
from conduit_learner.worker.run import WorkerOptions, run_worker
from conduit_litellm import ConduitRoutingStrategy
from conduit_log import LogSettings, LogUnavailableError, Message, open_log
from local_servers.broker import NoBrokerError, secured_broker

GUIDE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
ROLES = ("operator", "learner", "application", "auditor", "nobody")
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
TOPICS = ("conduit.events", "conduit.snapshots", "conduit.checkpoints", "conduit.dead-letters")


class Grant(NamedTuple):
    role: str
    kind: int
    name: str
    operation: int


def grants() -> list[Grant]:
    """The table of the guide, as Kafka's access rules."""
    found: list[Grant] = []
    role = ""
    for first, resource, operations in re.findall(r"^\| (.*?) ?\| (.*?) \| (.*?) \|$", GUIDE, re.MULTILINE):
        known = [name for name in ROLES if first.startswith(name)]
        role = known[0] if known else ("" if first else role)
        if not role:
            continue
        names = TOPICS if resource == "all four" else re.findall(r"`(.+?)`", resource)
        kind = 3 if resource.startswith("group") else 2
        found += [Grant(role, kind, name, OPERATIONS[op]) for name in names for op in operations.split(", ")]
    return found


def certificates(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 with its key, and the certificate alone for the clients that trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (both := folder / "broker.pem").write_bytes(secret + certificate)
    (public := folder / "trusted.pem").write_bytes(certificate)
    return both, public


class Secured(NamedTuple):
    address: str
    trusted: Path

    def settings(self, role: str, **changed: Any) -> LogSettings:
        return LogSettings(
            bootstrap_servers=self.address, partitions=2, timeout_s=20.0, kafka={**self.options(role), **changed}
        )

    def options(self, role: str) -> dict[str, Any]:
        return {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": role,
            "sasl_plain_password": f"secret-of-{role}",
            "ssl_cafile": str(self.trusted),
        }


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    keystore, trusted = certificates(folder)
    users = " ".join(f'user_{role}="secret-of-{role}"' for role in ROLES)
    properties = {
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL",
        "listener.name.secured.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secured.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule "
        f"required {users};",
        "listener.name.secured.ssl.keystore.type": "PEM",
        "listener.name.secured.ssl.keystore.location": str(keystore),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # clients of the plain listener: the tests, which grant the rights
    }
    try:
        with secured_broker(folder / "broker", properties) as broker:
            asyncio.run(_grant(broker.bootstrap))
            yield Secured(broker.secured, trusted)
    except NoBrokerError as error:
        pytest.fail(str(error), pytrace=False)


async def _grant(bootstrap: str) -> None:
    literal, allow = 3, 3
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for grant in grants():
            request = CreateAclsRequest(
                grant.kind, grant.name, literal, f"User:{grant.role}", "*", grant.operation, allow
            )
            answer = await admin._send_request(request)
            assert [error for error, _ in answer.creation_responses] == [0], grant
    finally:
        await admin.close()


def test_the_guide_names_every_role_but_nobody() -> None:
    assert {grant.role for grant in grants()} == set(ROLES) - {"nobody"}
    assert {grant.name for grant in grants() if grant.kind == 2} == set(TOPICS)


def test_an_operator_creates_and_describes_the_topics(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUIT_BOOTSTRAP_SERVERS", secured.address)

    def run(role: str, command: str) -> tuple[int, str]:
        for option, value in secured.options(role).items():
            monkeypatch.setenv(f"CONDUIT_KAFKA_{option.upper()}", value)
        done = CliRunner().invoke(main, ["topics", command])
        assert "secret-of" not in done.output
        return done.exit_code, done.output

    code, said = run("nobody", "create")
    assert code != 0 and "uthoriz" in said
    assert run("operator", "create")[0] == 0
    code, said = run("operator", "describe")
    assert code == 0 and all(topic in said for topic in TOPICS) and "does not exist" not in said
    assert "conduit.events: does not exist" in run("nobody", "describe")[1]  # Kafka does not even reveal that it exists


async def test_the_loop_closes_with_each_role_having_its_own_rights_alone(secured: Secured) -> None:
    async with open_log(secured.settings("operator")) as log:
        await log.create_topics()
    strategy = ConduitRoutingStrategy(
        bootstrap_servers=secured.address, kafka_options=secured.options("application"), spool_limit_bytes=0
    )
    router = Router(
        model_list=[
            {
                "model_name": "chat",
                "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "unused", "mock_response": "yes"},
                "model_info": {"id": name},
            }
            for name in ("a", "b")
        ]
    )
    strategy.install(router)
    stop = asyncio.Event()
    learner = asyncio.create_task(_learn(secured.settings("learner"), stop))
    try:
        deadline = time.monotonic() + 240.0
        while strategy.counters["fallbacks"] == strategy.counters["selections"]:
            assert time.monotonic() < deadline, dict(strategy.counters)
            assert not learner.done(), learner
            await router.acompletion(model="chat", messages=[{"role": "user", "content": "Are you there?"}])
            await asyncio.sleep(0.2)
    finally:
        stop.set()
        await learner
        await strategy.aclose()
        litellm.logging_callback_manager._reset_all_callbacks()
    assert strategy.counters["events_dropped"] == 0


@pytest.mark.parametrize(
    ("role", "topic"),
    [("application", "conduit.snapshots"), ("learner", "conduit.events"), ("auditor", "conduit.checkpoints")],
)
async def test_a_role_may_not_do_another_ones_work(secured: Secured, role: str, topic: str) -> None:
    async with open_log(secured.settings("operator")) as log:
        await log.create_topics()
    async with open_log(secured.settings(role)) as log:
        with pytest.raises(LogUnavailableError, match=r"(?i)authoriz"):
            await log.append(topic, [Message(b"k", b"v")])


async def test_a_wrong_password_and_an_unknown_certificate_are_said(
    secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LogUnavailableError, match="check the address, the security settings"):
        async with open_log(secured.settings("learner", sasl_plain_password="guessed")) as log:
            await log.append("conduit.events", [Message(b"k", b"v")])
    assert "Authentication failed" in caplog.text and "guessed" not in caplog.text
    stranger = secured.settings("learner")
    del stranger.kafka["ssl_cafile"]
    assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(LogUnavailableError):
        async with open_log(stranger) as log:
            await log.append("conduit.events", [Message(b"k", b"v")])


async def _learn(settings: LogSettings, stop: asyncio.Event) -> None:
    async with open_log(settings) as log:
        await run_worker(log, topics=settings.topics, stop=stop, options=WorkerOptions(snapshot_every_s=0.2))
