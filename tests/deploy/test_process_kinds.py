"""Which processes of the containers count as one kind, of which the smoke test kills one."""

from __future__ import annotations

import pytest
from containers.stack import Container, Process


def kind(command, service="rabbitmq"):
    return Process(service, "c0ffee", 1, command).kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "postgres: federation federation 172.18.0.4(41312) idle",
            "postgres: federation federation 172.18.0.5(4) SELECT",
        ),
        ("erl_child_setup 1024", "erl_child_setup 65536"),
        ("/opt/federation/bin/python /opt/federation/bin/federation manager", "python federation manager"),
    ],
)
def test_processes_that_do_the_same_are_one_kind(one, other):
    assert kind(one) == kind(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("postgres: checkpointer", "postgres: walwriter"),
        ("postgres: checkpointer", "postgres: federation federation 172.18.0.4(41312) idle"),
        ("virtlogd --pid-file /run/virtlogd.pid", "libvirtd --pid-file /run/libvirtd.pid"),
    ],
)
def test_processes_that_do_different_things_are_two_kinds(one, other):
    assert kind(one) != kind(other)


def test_the_same_program_in_two_services_is_two_kinds():
    assert kind("python federation manager", "manager-1") != kind("python federation manager", "manager-2")


@pytest.mark.parametrize(
    ("service", "state", "health", "code", "well"),
    [
        ("manager-1", "running", "healthy", 0, True),
        ("manager-1", "running", "starting", 0, False),
        ("manager-1", "restarting", "", 137, False),
        ("setup", "exited", "", 0, True),
        ("setup", "exited", "", 1, False),
        ("worker-libvirt", "exited", "", 0, False),
    ],
)
def test_a_container_is_well_when_it_does_what_its_service_is_for(service, state, health, code, well):
    assert Container("c0ffee", service, state, health, code).is_well is well
