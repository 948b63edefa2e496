"""The compose file is right, as far as can be checked without a container engine."""

import dataclasses
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from conduit_learner.cli import main
from conduit_litellm import ConduitRoutingStrategy
from conduit_litellm.proxy.proxy_handler import ProxyHandler
from conduit_litellm.proxy.settings import read_settings
from conduit_log import LogSettings
from local_servers.broker import IMAGE, POM

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = ("learner", "proxy")


def kafka_properties() -> dict[str, str]:
    """The broker's properties, as the image derives them from its environment."""
    environment = SERVICES["kafka"]["environment"]
    return {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in environment.items()}


def addresses(listeners: str) -> dict[str, str]:
    """Return name to host:port of 'NAME://host:port,...'."""
    return dict(entry.split("://") for entry in listeners.split(","))


def test_the_services_are_there_and_come_back_after_a_crash() -> None:
    assert set(SERVICES) == {"kafka", "learner", "proxy", "prometheus", "grafana"}
    assert {service["restart"] for service in SERVICES.values()} == {"unless-stopped"}


def test_images_are_pinned() -> None:
    assert re.fullmatch(r"apache/kafka:4\.\d+\.\d+", SERVICES["kafka"]["image"])
    # The same version as in the tests, however those run it.
    version = SERVICES["kafka"]["image"].partition(":")[2]
    assert f"<version>{version}</version>" in POM.read_text()
    assert SERVICES["kafka"]["image"] == IMAGE
    for name in ("prometheus", "grafana"):
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert bases
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base) for base in bases)
    assert all(SERVICES[name]["build"] == "." for name in OURS)


def test_ours_reach_the_broker_where_it_says_it_is() -> None:
    properties = kafka_properties()
    advertised = addresses(properties["advertised.listeners"])
    listening = addresses(properties["listeners"])
    protocols = dict(entry.split(":") for entry in properties["listener.security.protocol.map"].split(","))
    assert set(listening) == set(protocols)
    assert set(advertised) == set(listening) - {properties["controller.listener.names"]}
    for name, address in advertised.items():
        assert address.rpartition(":")[2] == listening[name].rpartition(":")[2]
    for name in OURS:
        assert SERVICES[name]["environment"]["CONDUIT_BOOTSTRAP_SERVERS"] in advertised.values()
    published = {port.rpartition(":")[2] for port in SERVICES["kafka"]["ports"]}
    assert published == {advertised["MACHINE"].rpartition(":")[2]}
    voter = properties["controller.quorum.voters"]
    assert voter == f"{properties['node.id']}@kafka:{listening['CONTROLLER'].rpartition(':')[2]}"
    assert any(volume.endswith(f":{properties['log.dirs']}") for volume in SERVICES["kafka"]["volumes"])


def test_every_conduit_variable_is_one_that_the_settings_read(monkeypatch: pytest.MonkeyPatch) -> None:
    untouched = dataclasses.asdict(LogSettings.resolve())
    for name in OURS:
        variables = {
            variable: value
            for variable, value in SERVICES[name]["environment"].items()
            if variable.startswith("CONDUIT_")
        }
        assert "CONDUIT_BOOTSTRAP_SERVERS" in variables
        for variable in variables:
            with monkeypatch.context() as patch:
                patch.setenv(variable, "probe")
                assert dataclasses.asdict(LogSettings.resolve()) != untouched, variable


def test_nothing_is_published_beyond_this_machine() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_services_wait_for_a_healthy_broker_and_say_how_they_are() -> None:
    for name in OURS:
        assert SERVICES[name]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    for service in SERVICES.values():
        check = service["healthcheck"]
        assert check["test"][0] == "CMD"
        assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@pytest.mark.process
def test_the_learner_runs_as_told_and_is_asked_where_it_answers(tmp_path: Path) -> None:
    learner = SERVICES["learner"]
    assert learner["command"][0] == "conduit"
    done = CliRunner().invoke(main, [*learner["command"][1:], "--help"])
    assert done.exit_code == 0, done.output
    address = learner["command"][learner["command"].index("--http") + 1]
    port = address.rpartition(":")[2]
    [question] = [part for part in learner["healthcheck"]["test"] if "urlopen" in part]
    assert f"http://127.0.0.1:{port}/readyz" in question
    # The health check passes while a learner answers, and fails when it no longer does.
    executable, *arguments = [sys.executable, *learner["healthcheck"]["test"][2:]]
    command = [sys.executable, "-m", "conduit_learner", *learner["command"][1:]]
    command[command.index(address)] = "127.0.0.1:0"
    with subprocess.Popen([*command, "--path", str(tmp_path)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "serving health and metrics on" in line)
        free = said.strip().rpartition(":")[2]
        arguments = [part.replace(f":{port}/", f":{free}/") for part in arguments]
        for _ in range(50):
            asked = subprocess.run([executable, *arguments], capture_output=True, check=False)
            if asked.returncode == 0:
                break
        process.terminate()
    assert asked.returncode == 0, asked.stderr
    assert process.returncode == 0
    assert subprocess.run([executable, *arguments], capture_output=True, check=False).returncode != 0


def test_the_proxys_configuration_names_what_the_container_has() -> None:
    command = SERVICES["proxy"]["command"]
    inside = command[command.index("--config") + 1]
    copied = dict(re.findall(r"^COPY (deploy/\S+) (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    source = next(path for path, target in copied.items() if target == inside)
    text = (ROOT / source).read_text()
    configuration = yaml.safe_load(text)
    groups = [deployment["model_name"] for deployment in configuration["model_list"]]
    assert len(groups) > len(set(groups))  # some group has several deployments to choose from
    for variable in re.findall(r"os\.environ/(\w+)", text):
        assert variable in SERVICES["proxy"]["environment"]
    port = command[command.index("--port") + 1]
    assert SERVICES["proxy"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f":{port}/" in SERVICES["proxy"]["healthcheck"]["test"][-1]


def test_the_proxy_has_conduit_choose_with_settings_it_accepts(tmp_path: Path) -> None:
    configuration = yaml.safe_load((ROOT / "deploy" / "litellm-config.yaml").read_text())
    (callback,) = configuration["litellm_settings"]["callbacks"]
    module, _, name = callback.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), ProxyHandler)
    settings = read_settings(configuration["conduit"], "deploy/litellm-config.yaml", SERVICES["proxy"]["environment"])
    strategy = ConduitRoutingStrategy(**settings, log_path=tmp_path)
    assert strategy.settings.algorithm == configuration["conduit"]["bandit_algorithm"]
    assert not {"bootstrap_servers", "topic_prefix"} & set(configuration["conduit"])  # these come from the environment


def test_the_image_runs_as_nobody_in_particular_and_gets_every_room() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    final = dockerfile.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!root)\w+$", final, re.MULTILINE)
    packages = re.search(r"^packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert packages is not None
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for room in re.findall(r'"(\w+)/\w+"', packages[1]):
        assert f"COPY {room} {room}" in dockerfile
        assert f"!{room}" in allowed
    for source in re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile, re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path
            assert f"!{path.partition('/')[0]}" in allowed


def _docker_compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "compose", "-f", str(COMPOSE), *arguments], capture_output=True, text=True, check=False
    )


# The client checks a file without an engine, but it is not installed everywhere.
if shutil.which("docker") and _docker_compose("version").returncode == 0:

    @pytest.mark.process
    def test_docker_itself_accepts_the_file() -> None:
        done = _docker_compose("config", "--format", "json")
        assert done.returncode == 0, done.stderr
        assert set(json.loads(done.stdout)["services"]) == set(SERVICES)
