"""What is asked in a scenario: the request of every operation, made for a bench and an instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from federation.conformance.bench import Bench, Subject
from federation.contract.instances import BootSource

Arguments = dict[str, Any]
Ask = Callable[[Bench, Subject], Arguments]
METADATA = {"owner": "conformance", "Zweck": "Prüfung ✓ 検査"}

_ANY_CHECKSUM = "sha256:" + 64 * "0"
IMAGINED_BOOTS: dict[str, Arguments] = {
    "": {"kind": "volume", "volume": "imagined"},
    "image": {"kind": "image", "url": "https://imagined/", "checksum": _ANY_CHECKSUM, "format": "raw"},
    "template": {"kind": "template", "template": "imagined"},
    "volume": {"kind": "volume", "volume": "imagined"},
    "kernel": {
        "kind": "kernel", "kernel_url": "https://imagined/", "kernel_checksum": _ANY_CHECKSUM,
        "initrd_url": "https://imagined/", "initrd_checksum": _ANY_CHECKSUM,
    },
}  # fmt: skip
"""Sources of each kind to ask for what the driver does not have."""


def boot_of(bench: Bench, kind: str = "") -> Arguments:
    """The target's boot source of that kind, by default the first."""
    known: tuple[BootSource, ...] = bench.target.conformance.boots
    documents: list[Arguments] = [msgspec.to_builtins(boot) for boot in known]
    chosen = [one for one in documents if kind in {"", one["kind"]}]
    return bench.given(chosen[0] if chosen else None, f"boots has no source of the kind {kind}", IMAGINED_BOOTS[kind])


def spec_of(bench: Bench, subject: Subject, **more: Any) -> Arguments:
    """The smallest instance that the target can run."""
    given = bench.target.conformance
    return {
        "name": subject.name,
        "node": subject.node,
        "flavour": {"vcpus": given.vcpus, "memory_bytes": given.memory_bytes},
        "boot": boot_of(bench),
    } | more


def instance(**more: Any) -> Ask:
    """The instance, and what stands beside it."""
    return lambda _bench, subject: {"instance": subject.instance} | more


def creation(*, start: bool = True, kind: str = "", **more: Any) -> Ask:
    """A creation."""

    def ask(bench: Bench, subject: Subject) -> Arguments:
        boot = {"boot": boot_of(bench, kind)} if kind else {}
        return {"instance": subject.instance, "spec": spec_of(bench, subject, **boot, **more), "start": start}

    return ask


def with_disks(bench: Bench, subject: Subject) -> Arguments:
    """A creation with two data disks."""
    size = bench.target.conformance.disk_bytes
    return creation(start=False, data_disks=[{"size_bytes": size}, {"size_bytes": 2 * size}])(bench, subject)


def network(bench: Bench) -> str:
    """The first network of the target."""
    return bench.given(next(iter(bench.target.conformance.networks), None), "networks is empty", "imagined")


def with_interface(bench: Bench, subject: Subject) -> Arguments:
    """A creation with an interface."""
    return creation(start=False, interfaces=[{"network": network(bench)}])(bench, subject)


def with_vlan(bench: Bench, subject: Subject) -> Arguments:
    """A creation with an interface that carries a VLAN id."""
    return creation(start=False, interfaces=[{"network": network(bench), "vlan": 7}])(bench, subject)


def with_topology(bench: Bench, subject: Subject) -> Arguments:
    """A creation that says how the guest sees its processors."""
    given = bench.target.conformance
    topology = {"sockets": given.vcpus, "cores": 1, "threads": 1}
    flavour = {"vcpus": given.vcpus, "memory_bytes": given.memory_bytes, "topology": topology}
    return creation(start=False, flavour=flavour)(bench, subject)


def with_linked_template(bench: Bench, subject: Subject) -> Arguments:
    """A creation from a linked clone."""
    return creation(start=False, boot=boot_of(bench, "template") | {"linked": True})(bench, subject)


def flavour(bench: Bench, **more: Any) -> Arguments:
    """Another flavour than that of creations."""
    given = bench.target.conformance
    return {"vcpus": given.vcpus + 1, "memory_bytes": given.resized_memory_bytes} | more


def resize(bench: Bench, subject: Subject) -> Arguments:
    """The other flavour."""
    return {"instance": subject.instance, "flavour": flavour(bench)}


def resize_live(bench: Bench, subject: Subject) -> Arguments:
    """The other flavour, while it runs."""
    return {"instance": subject.instance, "flavour": flavour(bench), "live": True}


def stored_volume(bench: Bench) -> str:
    """The first volume of the target."""
    return bench.given(next(iter(bench.target.conformance.volumes), None), "volumes is empty", "imagined")


def attach_new(bench: Bench, subject: Subject) -> Arguments:
    """A new volume."""
    volume = {"kind": "new", "volume": subject.stored("volume"), "size_bytes": bench.target.conformance.disk_bytes}
    return {"instance": subject.instance, "volume": volume}


def attach_stored(bench: Bench, subject: Subject) -> Arguments:
    """The target's volume."""
    return {"instance": subject.instance, "volume": {"kind": "stored", "volume": stored_volume(bench)}}


def attach_read_only(bench: Bench, subject: Subject) -> Arguments:
    """The target's volume, for reading."""
    return attach_stored(bench, subject) | {"read_only": True}


def detach(**more: Any) -> Ask:
    """The new volume, and what stands beside it."""
    return lambda _bench, subject: {"instance": subject.instance, "volume": subject.stored("volume")} | more


def extend(bench: Bench, subject: Subject) -> Arguments:
    """The new volume at twice its size."""
    size = 2 * bench.target.conformance.disk_bytes
    return {"instance": subject.instance, "volume": subject.stored("volume"), "size_bytes": size}


def attach_interface(bench: Bench, subject: Subject) -> Arguments:
    """An interface without a given MAC."""
    return {"instance": subject.instance, "interface": {"network": network(bench)}}


def attach_known_interface(bench: Bench, subject: Subject) -> Arguments:
    """An interface with the subject's MAC."""
    return {"instance": subject.instance, "interface": {"network": network(bench), "mac": mac_of(subject)}}


def mac_of(subject: Subject) -> str:
    """A MAC address that belongs to this subject only."""
    digits = subject.instance.replace("-", "")
    return "52:54:00:" + ":".join(digits[at : at + 2] for at in (0, 2, 4))


def detach_interface(_bench: Bench, subject: Subject) -> Arguments:
    """The interface with the subject's MAC."""
    return {"instance": subject.instance, "mac": mac_of(subject)}


def snapshot(**more: Any) -> Ask:
    """A snapshot, and what stands beside it."""
    return instance(name="before the change", **more)


def of_snapshot(_bench: Bench, subject: Subject) -> Arguments:
    """The snapshot of the set-up."""
    return {"instance": subject.instance, "snapshot": subject.id_of("snapshot")}


def capture_template(_bench: Bench, subject: Subject) -> Arguments:
    """A capture as a template."""
    return {"instance": subject.instance, "target": {"kind": "template", "template": subject.stored("template")}}


def capture_upload(bench: Bench, subject: Subject) -> Arguments:
    """A capture as a file."""
    given = bench.target.conformance
    folder = bench.given(given.capture_url or None, "capture_url is empty", "https://imagined/")
    url = f"{folder.rstrip('/')}/{subject.stored('upload')}"
    return {"instance": subject.instance, "target": {"kind": "upload", "url": url, "format": str(given.capture_format)}}


def other_node(bench: Bench, subject: Subject) -> str:
    """Another node of the cluster."""
    others = [node for node in bench.nodes if node != subject.node]
    return bench.given(next(iter(others), None), "nodes names one node, but the driver migrates", "imagined")


def migrate(mode: str) -> Ask:
    """A migration to another node."""
    return lambda bench, subject: {
        "instance": subject.instance,
        "node": other_node(bench, subject),
        "mode": mode,
    }
