"""The settings, the description, and the rule against locks."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

import federation_libvirt
from federation.contract.operations import DECLARED
from federation.contract.release import CURRENT, LOWEST
from federation_libvirt.driver import LibvirtDriver
from federation_libvirt.settings import DomainType, Settings

MINIMAL = {"hosts": {"kvm1": "qemu+tls://kvm1.example.org/system"}}


def test_a_host_is_enough():
    settings = msgspec.convert(MINIMAL, Settings)
    assert settings.domain_type is DomainType.AUTO
    assert settings.pool_directory("kvm1") == "/var/lib/libvirt/federation"
    assert not settings.images.hosts


def test_paths_may_name_the_node():
    settings = msgspec.convert(MINIMAL | {"pool_path": "/srv/{node}/disks"}, Settings)
    assert settings.pool_directory("kvm1") == "/srv/kvm1/disks"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"hosts": {}},
        {"hosts": {"a": "xen:///system"}},
        {"hosts": {"": "qemu:///system"}},
        MINIMAL | {"surprise": 1},
        MINIMAL | {"domain_type": "xen"},
        MINIMAL | {"pool": "../etc"},
        MINIMAL | {"pool_path": "relative"},
        MINIMAL | {"images": {"surprise": 1}},
        MINIMAL | {"timeouts": {"connect_seconds": 0}},
        MINIMAL | {"machine": "q35 -drive"},
    ],
)
def test_settings_that_are_wrong_are_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Settings)


def test_the_driver_refuses_settings_of_another_driver():
    with pytest.raises(TypeError, match="expected Settings"):
        LibvirtDriver.open(msgspec.defstruct("Other", [])(), "c")


def test_the_driver_has_a_method_for_every_operation_that_its_description_promises():
    driver = LibvirtDriver.open(msgspec.convert(MINIMAL, Settings), "c")
    said = driver.description()
    assert (said.driver, said.releases) == ("libvirt", (str(LOWEST), str(CURRENT)))
    for operation in DECLARED:
        if operation.capability is None or operation.capability in said.capabilities.flags:
            assert callable(getattr(driver, operation.name)), operation.name


def test_the_driver_holds_no_lock():
    """Claim C7: order and exclusion come from the broker and the manager."""
    forbidden = {
        "Lock",
        "RLock",
        "Condition",
        "Semaphore",
        "BoundedSemaphore",
        "Barrier",
        "Event",
        "fcntl",
        "flock",
        "lockf",
    }
    for path in Path(federation_libvirt.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = {getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "module", "")}
            names |= {alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)}
            assert not names & forbidden, f"{path.name}:{node.lineno}"


def test_only_the_connection_and_the_kits_observer_import_libvirt():
    for path in Path(federation_libvirt.__file__).parent.rglob("*.py"):
        imported = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert ("libvirt" in imported) == (path.name in {"connection.py", "observer.py"}), path.name
