"""What has to be true after a scenario: of its result, and of what the driver shows then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from federation.conformance.asking import METADATA, flavour, mac_of, network, other_node, stored_volume
from federation.conformance.bench import Bench, Subject

Expect = Callable[[Bench, Subject, Mapping[str, Any]], None]


def seen_by_driver(bench: Bench, subject: Subject) -> dict[str, Any]:
    """The instance as get_instance shows it."""
    return bench.succeed("get_instance", {"instance": subject.instance})


def shows(**fields: Any) -> Expect:
    """Result and get_instance both say so."""

    def expect(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
        wanted = {"id": subject.instance, "owned": True} | fields
        for where, found in (("the result", result), ("get_instance", seen_by_driver(bench, subject))):
            assert {name: found[name] for name in wanted} == wanted, f"{where} is {found}"

    return expect


def created(state: str, **counts: int) -> Expect:
    """It is in that state, as it was asked for, with at least so many of what is counted."""

    def expect(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
        given = bench.target.conformance
        size = {"vcpus": given.vcpus, "memory_bytes": given.memory_bytes}
        shows(name=subject.name, node=subject.node, power_state=state, **size)(bench, subject, result)
        for what, least in counts.items():
            assert len(result[what]) >= least, f"{what} are {result[what]}, expected at least {least}"

    return expect


def created_disks(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """It has both data disks, in bytes."""
    created("stopped", disks=2)(bench, subject, result)
    sizes = [disk["size_bytes"] for disk in result["disks"]]
    size = bench.target.conformance.disk_bytes
    assert {size, 2 * size} <= set(sizes), f"disks are {sizes} bytes, asked was for {size} and {2 * size}"


def created_metadata(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """It has its metadata to the letter."""
    created("stopped")(bench, subject, result)
    assert seen_by_driver(bench, subject)["metadata"] == METADATA


def gone(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """Nothing is left of it."""
    assert result == {}, f"destroy answered {result}"
    left = bench.observer.look(subject.instance)
    assert left is None, f"destroy left something behind: {left}"
    assert bench.do("get_instance", {"instance": subject.instance}).code == "not_found"


def resized(power_state: str) -> Expect:
    """It has the other flavour, and is in this state."""

    def check(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
        shows(power_state=power_state, **flavour(bench))(bench, subject, result)

    return check


def volumes_of(bench: Bench, subject: Subject) -> dict[str, Any]:
    """The instance's volumes by name."""
    return {disk["volume"]: disk for disk in seen_by_driver(bench, subject)["disks"] if disk["volume"] is not None}


def attached(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """The volume is among its disks."""
    there = volumes_of(bench, subject)
    name = subject.kept.get("stored volume") or stored_volume(bench)
    assert name in there, f"{name} is not among the disks: {there}"
    assert result == there[name]


def attached_new(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """The new volume is among its disks, in bytes."""
    attached(bench, subject, result)
    assert result["size_bytes"] == bench.target.conformance.disk_bytes


def extended(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """The volume has twice its size."""
    attached(bench, subject, result)
    assert result["size_bytes"] == 2 * bench.target.conformance.disk_bytes


def detached(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """The volume is not among its disks."""
    assert result == {}
    assert subject.stored("volume") not in volumes_of(bench, subject)


def connected(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """The interface is there."""
    facts = seen_by_driver(bench, subject)["interfaces"]
    macs = [interface["mac"] for interface in facts]
    assert result["mac"] in macs, f"{result} is not among {facts}"
    assert result["network"] == network(bench)


def disconnected(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """The interface is not there."""
    assert result == {}
    assert mac_of(subject) not in [one["mac"] for one in seen_by_driver(bench, subject)["interfaces"]]


def snapshots_of(bench: Bench, subject: Subject) -> dict[str, Any]:
    """The instance's snapshots by id."""
    listed = bench.succeed("list_snapshots", {"instance": subject.instance})["snapshots"]
    return {snapshot["id"]: snapshot for snapshot in listed}


def kept(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """There is one snapshot, named after its operation."""
    assert result["id"] == subject.operation, f"the snapshot is called {result['id']}, not after its operation"
    assert snapshots_of(bench, subject) == {subject.operation: dict(result)}


def reverted(state: str) -> Expect:
    """It is in that state, on the snapshot."""

    def expect(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
        shows(power_state=state)(bench, subject, result)
        assert snapshots_of(bench, subject)[subject.id_of("snapshot")]["current"]

    return expect


def no_snapshot(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """The snapshot is not there."""
    assert result == {}
    assert subject.id_of("snapshot") not in snapshots_of(bench, subject)


def captured(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
    """There is an image, and the instance stays as it is."""
    shows(power_state="stopped")(bench, subject, seen_by_driver(bench, subject))
    assert result["virtual_size_bytes"] > 0
    assert (result["template"] is None) != (result["url"] is None), f"neither or both: {result}"


def moved(state: str) -> Expect:
    """It is on the other node, in that state."""

    def expect(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
        shows(power_state=state, node=other_node(bench, subject))(bench, subject, result)

    return expect


def unchanged_state(state: str) -> Expect:
    """It is still in that state."""

    def expect(bench: Bench, subject: Subject, result: Mapping[str, Any]) -> None:
        assert result == {}
        assert seen_by_driver(bench, subject)["power_state"] == state

    return expect
