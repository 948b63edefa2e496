"""The alerts and the dashboard use metrics that exist, and the compose file mounts both."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
PANELS = json.loads((GRAFANA / "dashboards" / "conduit.json").read_text())["panels"]
ALERTS = [
    rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]


def described() -> set[str]:
    """The metrics that the runbook describes. Another test compares the runbook with the learner."""
    guide = (ROOT / "docs" / "operations.md").read_text()
    return set(re.findall(r"^\| `(conduit_\w+)` \|", guide, re.MULTILINE))


def asked(expression: str) -> set[str]:
    return {re.sub(r"_bucket$", "", name) for name in re.findall(r"conduit_\w+", expression)}


def test_alerts_and_panels_ask_for_metrics_that_exist() -> None:
    expressions = [rule["expr"] for rule in ALERTS]
    expressions += [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
    assert len(expressions) > 15
    for expression in expressions:
        assert asked(expression), expression
        assert asked(expression) <= described(), expression


def test_a_histogram_is_asked_by_its_buckets_and_a_counter_by_its_rate() -> None:
    for rule in ALERTS:
        for name in re.findall(r"conduit_\w+_total", rule["expr"]):
            assert re.search(rf"(increase|rate)\({name}\[", rule["expr"]), rule["alert"]
    for panel in PANELS:
        for target in panel.get("targets", ()):
            if "histogram_quantile" in target["expr"]:
                assert "_bucket[" in target["expr"]


def test_the_runbook_says_what_to_do_about_every_alert() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text()
    for rule in ALERTS:
        assert f"`{rule['alert']}`" in guide
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]


def test_prometheus_finds_the_learners_and_the_rules() -> None:
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert all((PROMETHEUS / name).is_file() for name in settings["rule_files"])
    (job,) = [job for job in settings["scrape_configs"] if job["job_name"] == "conduit-learner"]
    (found,) = job["dns_sd_configs"]
    assert set(found["names"]) <= set(SERVICES)
    command = SERVICES["learner"]["command"]
    assert command[command.index("--http") + 1].endswith(f":{found['port']}")
    assert "./deploy/prometheus:/etc/prometheus:ro" in SERVICES["prometheus"]["volumes"]


def test_grafana_is_given_its_source_and_its_dashboard() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    host, port = source["url"].removeprefix("http://").split(":")
    assert host in SERVICES
    assert SERVICES[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    for panel in PANELS:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == source["uid"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "conduit.yml").read_text())["providers"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    assert (ROOT / mounted[provider["options"]["path"]] / "conduit.json").is_file()
    assert (ROOT / mounted["/etc/grafana/provisioning"]) == GRAFANA / "provisioning"


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
