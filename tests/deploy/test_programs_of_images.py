"""The small programs that the images add: who takes which broker user, and whether a process is well."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "deploy/docker/worker.sh"
PROGRAM = (
    '#!/bin/sh\necho "$FEDERATION_WORKER_ID $FEDERATION_WORKER_CONFINED $FEDERATION_BROKER_FILE $*"\nexec sleep 60\n'
)


def health():
    specification = importlib.util.spec_from_file_location("health", ROOT / "deploy/docker/health.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def replicas(tmp_path):
    """Start replicas of a worker whose `federation` says what it was given and runs on."""
    users, programs = tmp_path / "users", tmp_path / "bin"
    users.mkdir()
    programs.mkdir()
    for name in ("kvm-1", "kvm-2"):
        (users / f"{name}.url").write_text("federation://user:password@rabbitmq:5672/federation\n")
    (programs / "federation").write_text(PROGRAM)
    (programs / "federation").chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "FEDERATION_WORKER_USERS": str(users)}
    running = []

    def start():
        command = ["sh", str(WORKER), "--driver", "libvirt"]
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate(timeout=10)


def said(process):
    return process.stdout.readline().split()


def test_each_replica_takes_a_broker_user_of_its_own_and_is_confined_to_it(replicas):
    first, second = said(replicas()), said(replicas())
    assert [first[0], second[0]] == ["kvm-1", "kvm-2"]
    assert first[1] == "true"
    assert first[2].endswith("users/kvm-1.url")
    assert first[3:] == ["worker", "--driver", "libvirt"]


def test_the_user_of_a_killed_replica_is_free_for_the_one_that_takes_its_place(replicas):
    victim = replicas()
    assert said(victim)[0] == "kvm-1"
    assert said(replicas())[0] == "kvm-2"
    victim.send_signal(signal.SIGKILL)
    victim.wait(10)
    assert said(replicas())[0] == "kvm-1"


def test_a_replica_too_many_says_so_and_ends(replicas):
    for _ in range(2):
        said(replicas())
    third = replicas()
    _, told = third.communicate(timeout=10)
    assert third.returncode == 69
    assert "grant more" in told


@given(ports=st.lists(st.integers(1, 65535), min_size=1, max_size=3), options=st.sampled_from(["", "?ssl=1"]))
def test_the_ports_of_a_broker_are_read_from_any_url(ports, options):
    hosts = ",".join(f"rabbitmq-{number}:{port}" for number, port in enumerate(ports))
    assert health().broker_ports(f"federation://worker.kvm.kvm-1:a%3A5@{hosts}/federation{options}") == set(ports)


def test_a_url_without_a_port_means_rabbitmqs_own():
    assert health().broker_ports("federation://user:password@rabbitmq/federation") == {5671, 5672}


def test_the_url_is_that_of_the_process_with_this_environment(tmp_path):
    file = tmp_path / "url"
    file.write_text("federation://from@file/\n")
    look = health().broker_url
    assert look(f"A=b\0FEDERATION_BROKER_FILE={file}\0") == "federation://from@file/"
    assert look(f"FEDERATION_BROKER=federation://x/\0FEDERATION_BROKER_FILE={file}\0") == "federation://x/"


def test_a_manager_without_an_api_that_answers_is_not_well():
    began = time.monotonic()
    assert "not ready" in health().manager_is_ready("0.0.0.0:1")
    assert time.monotonic() - began < 10
