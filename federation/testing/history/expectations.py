"""What an instance must look like after each operation that succeeded, from what it looked like before.

One row for every ordered operation of the contract; a test compares the rows with the declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from federation.contract.instances import PowerState
from federation.testing.history.records import ABSENT, Seen

_S = PowerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must be seen; ``power_state`` None: nothing of the instance is left; other None: cannot be told."""

    power_state: str | None
    vcpus: int | None = None
    memory_bytes: int | None = None
    boots: int | None = None

    def mismatch(self, seen: Seen) -> str | None:
        """What is wrong, in words, or None."""
        if self.power_state is None:
            return None if seen == ABSENT else f"nothing should be left, there is {_words(seen)}"
        for name in ("power_state", "vcpus", "memory_bytes", "boots"):
            wanted, there = getattr(self, name), getattr(seen, name)
            if wanted is not None and wanted != there:
                return f"{name} should be {wanted}, is {'none' if there is None else there}"
        return None


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
    return Expected(
        power_state=str(_S.STOPPED), vcpus=vcpus, memory_bytes=memory, boots=None if before is None else before.boots
    )


def _power_on(before: Seen | None, arguments: Arguments) -> Expected:
    from_nothing = before is not None and before.power_state in {_S.STOPPED, _S.CRASHED}
    return _after(_S.RUNNING, more_boots=int(from_nothing))(before, arguments)


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
}


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
