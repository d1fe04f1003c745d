"""What the hypervisor can do with a machine's owner, guest and node; rules as in ``changes``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from federation.contract.instances import PowerState
from federation.testing.hypervisor.expecting import expect
from federation.testing.hypervisor.records import Machine

_S = PowerState


def _adopt(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    expect(machine.defined, machine, "adopt: there is no such machine")
    expect(not machine.owned, machine, "adopt: the machine is owned already")
    return msgspec.structs.replace(
        machine,
        owned=True,
        native_name=machine.name,
        name=arguments["name"],
        metadata=dict(arguments["metadata"]),
        created_by=arguments["made_by"],
    )


def _set_password(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    expect(machine.power_state is _S.RUNNING, machine, f"set_password: the machine is {machine.power_state}")
    expect(machine.agent, machine, "set_password: no agent answers in the guest")
    passwords = machine.passwords | {arguments["user"]: arguments["digest"]}
    return msgspec.structs.replace(machine, passwords=passwords, password_sets=machine.password_sets + 1)


def _inject_nmi(machine: Machine, _arguments: Mapping[str, Any]) -> Machine:
    expect(machine.power_state is _S.RUNNING, machine, f"inject_nmi: the machine is {machine.power_state}")
    return msgspec.structs.replace(machine, nmis=machine.nmis + 1)


def _prepare_target(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    expect(machine.defined, machine, "prepare_target: there is no such machine")
    return msgspec.structs.replace(machine, incoming=(arguments["node_to"], arguments["made_by"]))


def _drop_target(machine: Machine, _arguments: Mapping[str, Any]) -> Machine:
    expect(machine.incoming is not None, machine, "drop_target: nothing is coming in")
    return msgspec.structs.replace(machine, incoming=None)


def _migrate_live(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    return _move_over(machine, arguments, "migrate_live", _S.RUNNING)


def _migrate_cold(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    return _move_over(machine, arguments, "migrate_cold", _S.STOPPED)


def _move_over(machine: Machine, arguments: Mapping[str, Any], kind: str, state: PowerState) -> Machine:
    expect(machine.power_state is state and machine.defined, machine, f"{kind}: the machine is {machine.power_state}")
    expect(
        machine.incoming == (arguments["node_to"], arguments["made_by"]),
        machine,
        f"{kind}: node {arguments['node_to']} is not prepared",
    )
    return msgspec.structs.replace(machine, node=arguments["node_to"], incoming=None)


def _as_it_is(machine: Machine, _arguments: Mapping[str, Any]) -> Machine:
    expect(machine.defined, machine, "there is no such machine")
    return machine


def _write_guest(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    disk = machine.disk(arguments["name"])
    expect(disk is not None, machine, f"write_guest: there is no disk {arguments['name']}")
    disks = tuple(
        msgspec.structs.replace(d, generation=d.generation + 1, content=arguments["content"]) if d is disk else d
        for d in machine.disks
    )
    return msgspec.structs.replace(machine, disks=disks)


OWNER_CHANGES: dict[str, Callable[[Machine, Mapping[str, Any]], Machine]] = {
    "adopt": _adopt,
    "set_password": _set_password,
    "inject_nmi": _inject_nmi,
    "prepare_target": _prepare_target,
    "drop_target": _drop_target,
    "migrate_live": _migrate_live,
    "migrate_cold": _migrate_cold,
    "make_volume": _as_it_is,
    "write_template": _as_it_is,
    "publish_template": _as_it_is,
    "delete_template": _as_it_is,
    "upload_image": _as_it_is,
    "delete_image": _as_it_is,
    "write_guest": _write_guest,
}
"""Kind of call: what it makes of the machine; those that leave it as it is make something in ``storage``."""
