"""resize: other processors and memory for a stopped instance, or more of them for one that runs.

What a machine can take while it runs, vSphere says of each one: ``cpuHotAddEnabled`` and ``memoryHotAddEnabled`` (set while it was off),
``hotPlugMemoryLimit`` and ``hotPlugMemoryIncrementSize`` (while it runs, in MiB).  Processors come in whole sockets.
Source: vSphere Web Services API, VirtualMachineConfigInfo.
"""

from __future__ import annotations

from collections.abc import Mapping

from federation.contract.errors import InvalidRequest, InvalidState
from federation.contract.instances import Firmware, PowerState
from federation.contract.requests import Resize
from federation_vmware import hardware, room
from federation_vmware.attempt import Attempt
from federation_vmware.facts import Look
from federation_vmware.machine import Fleet, Machine

_NAMES = {"numCPUs": "numCPU", "memoryMB": "memoryMB", "numCoresPerSocket": "numCoresPerSocket"}


def resize(fleet: Fleet, attempt: Attempt, request: Resize) -> Machine:
    """Give it the flavour; one that has it already is left, whatever its state.

    Raises InvalidState when it is neither stopped nor, with ``live``, running and able to take what is asked for.
    """
    machine = fleet.find(request.instance)
    look = machine.settled(attempt)
    shape = hardware.flavour(request.flavour, firmware=False)
    present = Firmware.UEFI if look.found.get("config.firmware") == "efi" else Firmware.BIOS
    if request.flavour.firmware is not present:
        raise InvalidRequest(
            f"{request.instance} has firmware {present}; resize cannot change it", field="flavour.firmware"
        )
    if has(look, shape):
        return machine
    _check_state(look, request)
    if look.power_state is PowerState.RUNNING:
        check_growth(look, shape)
        shape = {name: value for name, value in shape.items() if value != _present(look, name)}
    room.check_host(fleet.places.host(fleet.places.node_of(look.host) or ""), request.flavour)
    machine.reconfigure(attempt, look, "resize", **shape)
    return machine


def has(look: Look, shape: Mapping[str, int]) -> bool:
    """Whether it has that shape already."""
    return all(_present(look, name) == wanted for name, wanted in shape.items())


def check_growth(look: Look, shape: Mapping[str, int]) -> None:
    """InvalidState says what of the shape a running machine cannot be given."""
    processors, memory = shape["numCPUs"] - _present(look, "numCPUs"), shape["memoryMB"] - _present(look, "memoryMB")
    if processors < 0 or memory < 0:
        raise _cannot(look, "can only grow while it runs")
    cores = _present(look, "numCoresPerSocket") or 1
    if shape.get("numCoresPerSocket", cores) != cores:
        raise _cannot(look, f"has {cores} cores for each socket, which cannot change while it runs")
    if processors and not look.takes_processors:
        raise _cannot(look, "takes no processors while it runs (cpuHotAddEnabled is not set)")
    if processors % cores:
        raise _cannot(look, f"takes processors in sockets of {cores} cores while it runs")
    if memory and not look.takes_memory:
        raise _cannot(look, "takes no memory while it runs (memoryHotAddEnabled is not set)")
    limit, step = (look.found.get(f"config.hotPlugMemory{name}") or 0 for name in ("Limit", "IncrementSize"))
    if memory and limit and shape["memoryMB"] > limit:
        raise _cannot(look, f"takes up to {limit} MiB of memory while it runs")
    if memory and step and memory % step:
        raise _cannot(look, f"takes memory in steps of {step} MiB while it runs")


def _cannot(look: Look, why: str) -> InvalidState:
    return InvalidState(
        f"{look.id} {why}; stop it first", power_state=look.power_state, expected=PowerState.STOPPED
    )  # fmt: skip


def _present(look: Look, name: str) -> int:
    return int(look.found.get(f"config.hardware.{_NAMES[name]}") or 0)


def _check_state(look: Look, request: Resize) -> None:
    allowed = [PowerState.STOPPED, PowerState.RUNNING] if request.live else [PowerState.STOPPED]
    if look.power_state not in allowed:
        wanted = " or ".join(allowed)
        raise InvalidState(
            f"{request.instance} is {look.power_state}, resize needs it {wanted}",
            power_state=look.power_state,
            expected=wanted,
        )
