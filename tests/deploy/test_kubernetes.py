"""The Kubernetes manifests match their schemas, each other, and the options of the programs that they run."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from conduit_learner.cli import main

DEPLOY = Path(__file__).parents[2] / "deploy"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
RESOURCES: list[dict[str, Any]] = [
    document for name in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((DEPLOY / name).read_text())
]
DEPLOYMENTS = {r["metadata"]["name"]: r["spec"]["template"]["spec"] for r in RESOURCES if r["kind"] == "Deployment"}


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: f"{r['kind']}-{r['metadata']['name']}")
def test_a_resource_fits_the_schema_of_its_kind(resource: dict[str, Any]) -> None:
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(resource, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**resource, "spek": {}}, version, strict=True)


def test_every_manifest_is_applied() -> None:
    assert {f"kubernetes/{path.name}" for path in (DEPLOY / "kubernetes").glob("*.yaml")} == set(
        KUSTOMIZATION["resources"]
    )


def test_settings_and_configuration_come_from_what_is_made() -> None:
    made = {entry["name"]: entry for entry in KUSTOMIZATION["configMapGenerator"]}
    for entry in made.values():
        for source in entry.get("envs", []) + [file.partition("=")[2] for file in entry.get("files", [])]:
            assert (DEPLOY / source).is_file()
    for pod in DEPLOYMENTS.values():
        (container,) = pod["containers"]
        named = {source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source}
        named |= {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
        assert named <= set(made)
    mounts = {mount["name"]: mount["mountPath"] for mount in DEPLOYMENTS["proxy"]["containers"][0]["volumeMounts"]}
    arguments = DEPLOYMENTS["proxy"]["containers"][0]["args"]
    key = made["litellm-config"]["files"][0].partition("=")[0]
    assert arguments[arguments.index("--config") + 1] == f"{mounts['config']}/{key}"


def test_selectors_match_labels_and_ports_have_names_that_exist() -> None:
    pods = {r["metadata"]["name"]: r["spec"]["template"] for r in RESOURCES if r["kind"] == "Deployment"}
    for resource in RESOURCES:
        if resource["kind"] not in {"Service", "PodDisruptionBudget", "Deployment"}:
            continue
        selector = resource["spec"]["selector"]
        labels = pods[resource["metadata"]["name"]]["metadata"]["labels"]
        assert labels.items() >= selector.get("matchLabels", selector).items()
        for port in resource["spec"].get("ports", ()):
            named = pods[resource["metadata"]["name"]]["spec"]["containers"][0]["ports"]
            assert {"name": port["targetPort"], "containerPort": port["port"]} in named


def test_nobody_is_root_and_nobody_gains_anything() -> None:
    for pod in DEPLOYMENTS.values():
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    dockerfile = (DEPLOY.parent / "Dockerfile").read_text()
    user = re.search(r"useradd .*--uid (\d+)", dockerfile)
    assert user is not None
    assert {pod["securityContext"]["runAsUser"] for pod in DEPLOYMENTS.values()} == {int(user[1])}


def test_the_learner_takes_its_arguments_and_answers_where_it_is_asked() -> None:
    (container,) = DEPLOYMENTS["learner"]["containers"]
    assert container["args"][0] == "conduit"
    done = CliRunner().invoke(main, [*container["args"][1:], "--help"])
    assert done.exit_code == 0, done.output
    port = {entry["name"]: entry["containerPort"] for entry in container["ports"]}["metrics"]
    assert container["args"][container["args"].index("--http") + 1].endswith(f":{port}")
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_image_is_the_version_that_is_built() -> None:
    version = re.search(r'^version = "(.+)"$', (DEPLOY.parent / "pyproject.toml").read_text(), re.MULTILINE)
    (image,) = KUSTOMIZATION["images"]
    assert version is not None and image["newTag"] == version[1]
    assert {pod["containers"][0]["image"] for pod in DEPLOYMENTS.values()} == {image["name"]}
