"""What deploy/ holds for Prometheus and Grafana: accepted by their own programs, and about metrics that there are."""

import json
import re
from pathlib import Path

import pytest
import yaml
from parts.processes import run

from federation.observe.catalogue import ALL, Kind

ROOT = Path(__file__).resolve().parent.parent.parent
PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/dashboards/federation.json"
RULES = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in RULES for rule in group["rules"]}
RABBITMQ = {
    "rabbitmq_detailed_queue_messages_ready",
    "rabbitmq_detailed_queue_messages_unacked",
    "rabbitmq_detailed_queue_messages_published_total",
    "rabbitmq_detailed_channel_messages_delivered_ack_total",
    "rabbitmq_detailed_channel_messages_redelivered_total",
}
"""What tests/acceptance/test_metrics.py sees a real RabbitMQ tell."""


def exported():
    for metric in ALL.values():
        yield metric.name
        if metric.kind is Kind.HISTOGRAM:
            yield from (f"{metric.name}_{end}" for end in ("bucket", "count", "sum"))


def unknown_metrics(text):
    return set(re.findall(r"\b(?:federation|rabbitmq)_\w+", text)) - set(exported()) - RABBITMQ


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def test_promtool_accepts_configuration_and_rules(prometheus):
    told = run([str(prometheus.promtool), "check", "config", str(PROMETHEUS / "prometheus.yml")])
    assert f"{len(ALERTS)} rules found" in told
    run([str(prometheus.promtool), "check", "rules", "--lint=all", "--lint-fatal", str(PROMETHEUS / "alerts.yml")])


def test_prometheus_looks_for_services_that_compose_starts_on_the_ports_that_they_listen_on():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    names = set(services)
    for service in services.values():
        networks = service.get("networks") or {}
        for network in networks.values() if isinstance(networks, dict) else ():
            names |= set((network or {}).get("aliases", ()))
    asked = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    for job in asked:
        (found,) = job["dns_sd_configs"]
        assert set(found["names"]) <= names, job["job_name"]
    told = (ROOT / "docker-compose.yml").read_text()
    for job, option in (
        ("federation-manager", "FEDERATION_MANAGER_METRICS"),
        ("federation-worker", "FEDERATION_WORKER_METRICS"),
    ):
        (port,) = (each["dns_sd_configs"][0]["port"] for each in asked if each["job_name"] == job)
        assert f"{option}: 0.0.0.0:{port}" in told


def test_alerts_fire_and_stay_quiet_as_their_own_tests_say(prometheus):
    run([str(prometheus.promtool), "test", "rules", str(PROMETHEUS / "alerts_test.yml")])


def test_every_alert_is_tried_by_promtool():
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    fired = {rule["alertname"] for test in tests for rule in test["alert_rule_test"] if rule["exp_alerts"]}
    assert fired == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_names_its_page_and_asks_for_metrics_that_there_are(alert):
    rule = ALERTS[alert]
    page = ROOT / rule["annotations"]["runbook"]
    assert page.read_text().startswith(f"# {alert}\n"), page
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert unknown_metrics(rule["expr"]) == set()


def test_there_is_no_page_without_its_alert():
    pages = {path.name for path in (ROOT / "docs/how-to/runbooks").glob("*.md")} - {"index.md"}
    assert pages == {Path(rule["annotations"]["runbook"]).name for rule in ALERTS.values()}
    index = (ROOT / "docs/how-to/runbooks/index.md").read_text()
    assert re.findall(r"\[(\w+)\]", index) == list(ALERTS)


def test_runbooks_and_pages_name_metrics_that_there_are():
    for page in [ROOT / "docs/how-to/observe.md", *(ROOT / "docs/how-to/runbooks").glob("*.md")]:
        named = re.findall(r"`((?:federation|rabbitmq)_\w+)", page.read_text())
        assert unknown_metrics(" ".join(named)) - {"rabbitmq_prometheus"} == set(), page


def test_the_dashboard_asks_for_metrics_that_there_are_and_leaves_none_of_the_estate_out():
    asked = " ".join(target["expr"] for panel in panels() for target in panel.get("targets", ()))
    assert unknown_metrics(asked) == set()
    shown = set(re.findall(r"federation_\w+", asked))
    for name in ("backlog_seconds", "waiting_operations", "running_operations", "parked", "oldest_waiting_seconds"):
        assert f"federation_cluster_{name}" in shown


def test_what_every_manager_tells_of_the_one_store_is_never_summed_on_the_dashboard():
    for panel in panels():
        for target in panel.get("targets", ()):
            for sum_of in re.findall(r"sum[^(]*\(([^()]*federation_(?:cluster|partition)_\w+)", target["expr"]):
                pytest.fail(f"{panel['title']}: {sum_of} is summed over managers")


def test_grafana_is_provisioned_with_the_dashboard_and_its_source():
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/federation.yml").read_text())["providers"]
    assert provider["type"] == "file"
    for panel in panels():
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": source["uid"]}, panel["title"]
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
