"""docker-compose.yml and the Dockerfiles, as far as they can be read without an engine; `make test-containers` runs them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ONE_SHOTS = {name for name, service in SERVICES.items() if service.get("restart", "no") == "no"}
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("driver-federation/")}
DOCKERFILES = sorted((ROOT / "deploy/docker").glob("*.Dockerfile"))
DISTRIBUTIONS = {
    "manager": ".",
    "worker-hyperv": "drivers/hyperv",
    "worker-libvirt": "drivers/libvirt",
    "worker-vmware": "drivers/vmware",
}


def version_of(distribution):
    return tomllib.loads((ROOT / distribution / "pyproject.toml").read_text())["project"]["version"]


def test_every_distribution_has_a_dockerfile():
    assert {path.name.removesuffix(".Dockerfile") for path in DOCKERFILES} == set(DISTRIBUTIONS)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_has_a_compiler_in_its_first_stage_only_a_user_a_health_check_and_labels(path):
    _, build, final = re.split(r"^FROM ", path.read_text(), flags=re.MULTILINE)
    assert "uv pip install --require-hashes" in build
    assert re.search(r"^USER federation$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert "org.opencontainers.image.licenses" in final
    assert not re.search(r"\b(gcc|pip|python3-dev|libvirt-dev)\b", final)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_labelled_with_the_version_of_its_distribution(path):
    said = re.search(r"^ARG VERSION=(\S+)$", path.read_text(), re.MULTILINE)[1]
    assert said == version_of(DISTRIBUTIONS[path.name.removesuffix(".Dockerfile")])


def test_what_runs_on_is_started_again_whatever_ends_it():
    assert {"setup", "provision", "images", "cli", "machines"} <= ONE_SHOTS
    assert {service.get("restart") for name, service in SERVICES.items() if name not in ONE_SHOTS} == {"unless-stopped"}


def test_ports_are_published_on_loopback_only():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:${") for port in published)


def test_no_service_is_told_a_password_but_by_a_file():
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|_URL|BROKER|STORE", variable) and variable != "FEDERATION_BROKER_HOSTS":
                assert value.startswith("/run/federation/"), f"{name}: {variable}"


def test_a_worker_sees_the_broker_users_of_its_own_cluster_only():
    for name, service in SERVICES.items():
        if name.startswith("worker-"):
            secrets = [volume for volume in service["volumes"] if "/run/federation" in volume]
            assert len(secrets) == 1
            assert re.fullmatch(r"workers-\w+:/run/federation/workers:ro", secrets[0])


def test_only_managers_reach_the_database():
    assert {name for name, service in SERVICES.items() if "database" in service.get("networks", {})} == {
        "manager-1",
        "manager-2",
        "postgres",
    }


def test_our_own_processes_have_no_capability_and_write_nowhere_but_in_volumes():
    exempt = {"setup", "images", "kvm1"}  # chown, nothing to run, a hypervisor
    assert len(OURS) > len(exempt)
    for name, service in OURS.items():
        if name not in exempt:
            assert service["cap_drop"] == ["ALL"], name
            assert service["read_only"] is True, name


def test_every_service_that_a_worker_can_wait_for_in_vain_is_not_required_of_it():
    for name, service in SERVICES.items():
        own = set(service.get("profiles", []))
        for other, how in service.get("depends_on", {}).items():
            theirs = set(SERVICES[other].get("profiles", []))
            assert not theirs or own <= theirs or how.get("required") is False, f"{name} waits for {other}"


def test_what_compose_mounts_is_there():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name}: {source}"


def test_prometheus_asks_services_that_there_are():
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    names = {name for job in scraped for found in job["dns_sd_configs"] for name in found["names"]}
    aliases = {alias for service in SERVICES.values() for alias in _aliases(service)}
    assert names <= set(SERVICES) | aliases
    assert {name for name in SERVICES if name.startswith("worker-")} <= names


def _aliases(service):
    networks = service.get("networks", {})
    return networks.get("default", {}).get("aliases", []) if isinstance(networks, dict) else []
