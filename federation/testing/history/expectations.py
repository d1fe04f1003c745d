"""What an instance must look like after each operation that succeeded, from what it looked like before.

One row for every ordered operation of the contract; a test compares the rows with the declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from federation.contract.instances import PowerState
from federation.testing.history.records import ABSENT, Seen

_S = PowerState


ANY = "any"
"""A power state of which nothing is asked, but that there is a machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must be seen; ``power_state`` None: nothing of the instance is left; other None: cannot be told.

    ``has`` and ``lacks`` are pairs of a field of Seen that lists things and the names of one thing, any of which will do.
    """

    power_state: str | None = ANY
    vcpus: int | None = None
    memory_bytes: int | None = None
    boots: int | None = None
    node: str | None = None
    current_snapshot: str | None = None
    password_sets: int | None = None
    nmis: int | None = None
    maintenance: bool | None = None
    sizes: tuple[str, int] | None = None
    """Name of a disk, and its size in bytes."""
    counts: tuple[str, int] | None = None
    """A field of Seen that lists things, and how many there are."""
    has: tuple[str, frozenset[str]] | None = None
    lacks: tuple[str, frozenset[str]] | None = None

    def mismatch(self, seen: Seen) -> str | None:
        """What is wrong, in words, or None."""
        if self.power_state is None:
            return None if seen == ABSENT else f"nothing should be left, there is {_words(seen)}"
        if self.maintenance is None and seen.power_state is None:
            return f"there should be a machine, there is {_words(seen)}"
        for name in _FIGURES:
            wanted, there = getattr(self, name), getattr(seen, name)
            if wanted not in {None, ANY} and wanted != there:
                return f"{name} should be {wanted}, is {'none' if there is None else there}"
        return self._listed_wrong(seen)

    def _listed_wrong(self, seen: Seen) -> str | None:
        if self.counts and len(getattr(seen, self.counts[0])) != self.counts[1]:
            return f"there should be {self.counts[1]} {self.counts[0]}, there are {len(getattr(seen, self.counts[0]))}"
        if self.has and not self.has[1] & _names(seen, self.has[0]):
            return f"{self.has[0]} should have {min(self.has[1])}, has {sorted(_names(seen, self.has[0]))}"
        if self.lacks and self.lacks[1] & _names(seen, self.lacks[0]):
            return f"{self.lacks[0]} should not have {min(self.lacks[1])}"
        if self.sizes:
            there = dict(zip(seen.disks, seen.sizes, strict=False)).get(self.sizes[0])
            if there not in {None, self.sizes[1]}:
                return f"disk {self.sizes[0]} should have {self.sizes[1]} bytes, has {there}"
        return None


_FIGURES = (
    "power_state", "vcpus", "memory_bytes", "boots", "node", "current_snapshot", "password_sets", "nmis", "maintenance",
)  # fmt: skip
Arguments = Mapping[str, object]
Rule = Callable[[Seen | None, Arguments], Expected]


def _after(state: PowerState, *, more_boots: int = 0) -> Rule:
    def rule(before: Seen | None, _arguments: Arguments) -> Expected:
        if before is None:
            return Expected(power_state=str(state))
        return Expected(
            power_state=str(state),
            vcpus=before.vcpus,
            memory_bytes=before.memory_bytes,
            boots=before.boots + more_boots,
        )

    return rule


def _create(_before: Seen | None, arguments: Arguments) -> Expected:
    start = arguments.get("start", True) is True
    vcpus, memory = _flavour(_part(arguments, "spec"))
    return Expected(
        power_state=str(_S.RUNNING if start else _S.STOPPED), vcpus=vcpus, memory_bytes=memory, boots=int(start)
    )


def _resize(before: Seen | None, arguments: Arguments) -> Expected:
    vcpus, memory = _flavour(arguments)
    state = before.power_state if before is not None and arguments.get("live") else str(_S.STOPPED)
    return Expected(power_state=state, vcpus=vcpus, memory_bytes=memory, boots=None if before is None else before.boots)


def _power_on(before: Seen | None, arguments: Arguments) -> Expected:
    from_nothing = before is not None and before.power_state in {_S.STOPPED, _S.CRASHED}
    return _after(_S.RUNNING, more_boots=int(from_nothing))(before, arguments)


def _kept(before: Seen | None, **more: object) -> Expected:
    """As before, but for what is named."""
    if before is None or before.power_state is None:
        return Expected(**more)  # type: ignore[arg-type]
    known = {"power_state": before.power_state, "vcpus": before.vcpus, "memory_bytes": before.memory_bytes}
    return Expected(**(known | {"boots": before.boots} | more))  # type: ignore[arg-type]


def _attach_volume(before: Seen | None, arguments: Arguments) -> Expected:
    volume = _part(arguments, "volume")
    name, pool = volume.get("volume"), volume.get("pool")
    if not isinstance(name, str):
        return _kept(before)
    return _kept(before, has=("disks", frozenset({name, f"{pool}/{name}"})))


def _detach_volume(before: Seen | None, arguments: Arguments) -> Expected:
    disk = _disk(arguments)
    return _kept(before, lacks=("disks", frozenset({disk}))) if disk else _kept(before)


def _extend_volume(before: Seen | None, arguments: Arguments) -> Expected:
    disk, size = _disk(arguments), arguments.get("size_bytes")
    return _kept(before, sizes=(disk, size)) if disk and isinstance(size, int) else _kept(before)


def _attach_interface(before: Seen | None, arguments: Arguments) -> Expected:
    mac = _part(arguments, "interface").get("mac")
    if isinstance(mac, str):
        return _kept(before, has=("interfaces", frozenset({mac})))
    return _kept(before, counts=("interfaces", len(before.interfaces) + 1) if arguments and before else None)


def _detach_interface(before: Seen | None, arguments: Arguments) -> Expected:
    mac = arguments.get("mac")
    return _kept(before, lacks=("interfaces", frozenset({mac}))) if isinstance(mac, str) else _kept(before)


def _create_snapshot(before: Seen | None, _arguments: Arguments) -> Expected:
    return _kept(before, counts=("snapshots", len(before.snapshots) + 1) if before else None)


def _revert_snapshot(before: Seen | None, arguments: Arguments) -> Expected:
    snapshot = arguments.get("snapshot")
    if before is None or not isinstance(snapshot, str):
        return Expected()
    state = dict(before.snapshots).get(snapshot, ANY)
    return _kept(before, power_state=state, current_snapshot=snapshot)


def _delete_snapshot(before: Seen | None, arguments: Arguments) -> Expected:
    snapshot = arguments.get("snapshot")
    return _kept(before, lacks=("snapshots", frozenset({snapshot}))) if isinstance(snapshot, str) else _kept(before)


def _migrate(before: Seen | None, arguments: Arguments) -> Expected:
    node = arguments.get("node")
    return _kept(before, node=node if isinstance(node, str) else None)


def _counted(field: str) -> Rule:
    def rule(before: Seen | None, _arguments: Arguments) -> Expected:
        return _kept(before, **{field: None if before is None else getattr(before, field) + 1})

    return rule


def _maintenance(_before: Seen | None, arguments: Arguments) -> Expected:
    enabled = arguments.get("enabled")
    return Expected(maintenance=enabled if isinstance(enabled, bool) else None)


EXPECTATIONS: dict[str, Rule] = {
    "create": _create,
    "destroy": lambda _before, _arguments: Expected(power_state=None),
    "resize": _resize,
    "power_on": _power_on,
    "power_off": _after(_S.STOPPED),
    "reboot": _after(_S.RUNNING, more_boots=1),
    "pause": _after(_S.PAUSED),
    "unpause": _after(_S.RUNNING),
    "suspend": _after(_S.SUSPENDED),
    "resume": _after(_S.RUNNING),
    "adopt": lambda _before, _arguments: Expected(),
    "attach_volume": _attach_volume,
    "detach_volume": _detach_volume,
    "extend_volume": _extend_volume,
    "attach_interface": _attach_interface,
    "detach_interface": _detach_interface,
    "create_snapshot": _create_snapshot,
    "revert_snapshot": _revert_snapshot,
    "delete_snapshot": _delete_snapshot,
    "capture_image": lambda before, _arguments: _kept(before),
    "migrate": _migrate,
    "set_admin_password": _counted("password_sets"),
    "send_nmi": _counted("nmis"),
    "set_node_maintenance": _maintenance,
}


def _names(seen: Seen, field: str) -> frozenset[str]:
    return frozenset(one if isinstance(one, str) else one[0] for one in getattr(seen, field))


def _disk(arguments: Arguments) -> str | None:
    volume, pool = arguments.get("volume"), arguments.get("pool")
    if not isinstance(volume, str):
        return None
    return f"{pool}/{volume}" if pool else volume


def _part(arguments: Arguments, name: str) -> Arguments:
    part = arguments.get(name)
    return part if isinstance(part, Mapping) else {}


def _flavour(arguments: Arguments) -> tuple[int | None, int | None]:
    flavour = _part(arguments, "flavour")
    vcpus, memory = flavour.get("vcpus"), flavour.get("memory_bytes")
    return (vcpus if isinstance(vcpus, int) else None), (memory if isinstance(memory, int) else None)


def _words(seen: Seen) -> str:
    if seen.power_state is not None:
        return f"a {seen.power_state} machine"
    return f"disks {', '.join(seen.disks)}" if seen.disks else "a memory file"
