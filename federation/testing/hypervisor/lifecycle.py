"""create, destroy and resize of the simulated driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from federation.contract import requests as r
from federation.contract.errors import AlreadyExists, InvalidRequest, InvalidState
from federation.contract.instances import Flavour, Instance, InstanceSpec, InterfaceFacts, PowerState
from federation.contract.results import Destroyed
from federation.testing.hypervisor import node_rows, world
from federation.testing.hypervisor.changes import Definition
from federation.testing.hypervisor.interfaces import derive_mac
from federation.testing.hypervisor.records import Disk, Machine, facts
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.sources import root_disk
from federation.testing.hypervisor.steps import require, require_owned, require_state, step, undoing

SEED_BYTES = 1 << 20
EXTENSIONS = frozenset({"ignores_power_button", "keeps_devices", "agent"})

Found = Callable[[Machine | None], bool]


def create(session: Session, request: r.Create) -> Instance:
    """Several calls: each disk, the definition, the start; everything bears the instance's id and the operation's."""
    operation = session.call.operation
    with undoing(session, _remove_made):
        _check_nothing_else(session, request.spec)
        root = root_disk(session, request.spec.boot)
        disks = tuple(_disks(session, request, root))
        for number, disk in enumerate(disks):
            session.call.progress(80.0 * number / len(disks), f"allocating {disk.name}")
            arguments = msgspec.to_builtins(disk)
            step(session, "allocate_disk", _has(disk.name), target=disk.name, node=request.spec.node, **arguments)
        session.call.progress(80.0, "defining")
        step(session, "define", _defined_by(operation), node=request.spec.node, **_definition(session, request, root))
        if request.start:
            session.call.progress(90.0, "starting")
            step(session, "start", lambda machine: machine is not None and machine.boots > 0)
        return facts(require(session))


def destroy(session: Session, _request: r.Destroy) -> Destroyed:
    """Stop, undefine, delete each disk; from the first call on there is no way back, only on."""
    session.irreversible = session.call.recovering  # what an earlier attempt has taken away cannot be given back
    with undoing(session):
        machine = session.read()
        if machine is None:
            return Destroyed()
        require_owned(machine)
        if machine.active:
            step(session, "stop", lambda m: m is None or not m.active)
            session.irreversible = True
        if machine.defined:
            step(session, "undefine", lambda m: m is None or not m.defined)
            session.irreversible = True
        for disk in machine.disks:
            if not disk.kept:
                step(session, "delete_disk", _lacks(disk.name), target=disk.name, name=disk.name)
                session.irreversible = True
        return Destroyed()


def resize(session: Session, request: r.Resize) -> Instance:
    """Two calls, processors and memory; the first leaves a note of what was, until the second has been made."""
    with undoing(session, _restore_processors):
        machine = require(session)
        flavour = request.flavour
        _require_resizable(machine, request)
        if flavour.firmware != machine.firmware:
            message = f"resize: firmware of {machine.id} is {machine.firmware} and cannot become {flavour.firmware}"
            raise InvalidRequest(message, field="flavour.firmware", value=flavour.firmware)
        topology = _topology(flavour)
        if (machine.vcpus, machine.topology) != (flavour.vcpus, topology):
            before = msgspec.json.encode((session.call.operation, machine.vcpus, machine.topology)).decode()
            step(
                session, "set_processors", lambda m: m is not None and (m.vcpus, m.topology) == (flavour.vcpus, topology),
                vcpus=flavour.vcpus, topology=topology, note=before,
            )  # fmt: skip
        step(session, "set_memory", _resized(flavour), memory_bytes=flavour.memory_bytes)
        return facts(require(session))


def _require_resizable(machine: Machine, request: r.Resize) -> None:
    """Raise InvalidState unless it is stopped, or runs and is to grow; what this operation has begun may go on."""
    allowed = (PowerState.STOPPED, PowerState.RUNNING) if request.live else (PowerState.STOPPED,)
    require_state(machine, "resize", *allowed)
    less = request.flavour.vcpus < machine.vcpus or request.flavour.memory_bytes < machine.memory_bytes
    if machine.power_state is PowerState.RUNNING and less:
        message = (
            f"resize: instance {machine.id} runs with {machine.vcpus} vCPUs and {machine.memory_bytes} bytes of memory "
            "and can only grow; stop it first"
        )
        raise InvalidState(message, instance=machine.id, power_state=machine.power_state, expected=PowerState.STOPPED)


def _check_nothing_else(session: Session, spec: InstanceSpec) -> None:
    operation = session.call.operation
    if spec.node is None:
        raise InvalidRequest("create: spec.node is not set; the manager chooses it before it sends", field="spec.node")
    unknown = set(spec.extensions.get("simulated", {})) - EXTENSIONS
    if unknown:
        message = f"create: extensions.simulated.{min(unknown)} is unknown; known are {', '.join(sorted(EXTENSIONS))}"
        raise InvalidRequest(message, field="spec.extensions.simulated", value=min(unknown))
    machine = session.read()
    if machine is not None and machine.defined and machine.created_by != operation:
        message = f"machine {machine.id} ({machine.name}) exists already on {machine.node}"
        raise AlreadyExists(message, instance=machine.id, name=machine.name)
    strange = next((disk.name for disk in machine.disks if disk.made_by != operation), None) if machine else None
    if machine is not None and not machine.defined and strange is not None:
        message = f"disk {strange} of an earlier machine {machine.id} is still there; destroy it first"
        raise AlreadyExists(message, instance=machine.id, disk=strange)
    other = session.look("read_names", lambda connection: world.named(connection, spec.name))
    if other is not None and other != session.machine_id:
        raise AlreadyExists(f"the name {spec.name} belongs to machine {other}", name=spec.name, instance=other)
    session.look("read_nodes", lambda connection: node_rows.require_open(connection, spec.node or "", spec.name))


def _disks(session: Session, request: r.Create, root: Disk | None) -> Iterator[Disk]:
    operation, instance, spec = session.call.operation, session.machine_id, request.spec
    if root is not None and not root.kept:
        yield root
    for number, disk in enumerate(spec.data_disks):
        yield Disk(name=f"{instance}-data{number}", size_bytes=disk.size_bytes, made_by=operation)
    if spec.guest is not None:
        yield Disk(name=f"{instance}-seed", size_bytes=SEED_BYTES, source="NoCloud", made_by=operation)


def _definition(session: Session, request: r.Create, root: Disk | None) -> dict[str, object]:
    spec = request.spec
    extensions = spec.extensions.get("simulated", {})
    definition = Definition(
        name=spec.name,
        vcpus=spec.flavour.vcpus,
        memory_bytes=spec.flavour.memory_bytes,
        firmware=str(spec.flavour.firmware),
        topology=_topology(spec.flavour),
        interfaces=tuple(
            InterfaceFacts(
                mac=interface.mac or derive_mac(f"{session.machine_id}:{number}"),
                network=interface.network,
                vlan=interface.vlan,
            )
            for number, interface in enumerate(spec.interfaces)
        ),
        metadata=dict(spec.metadata),
        volumes=(root,) if root is not None and root.kept else (),
        created_by=session.call.operation,
        ignores_power_button=bool(extensions.get("ignores_power_button", False)),
        keeps_devices=bool(extensions.get("keeps_devices", False)),
        agent=bool(extensions.get("agent", session.hypervisor.settings.agents)),
    )
    return dict(msgspec.to_builtins(definition))


def _topology(flavour: Flavour) -> tuple[int, int, int] | None:
    topology = flavour.topology
    return (topology.sockets, topology.cores, topology.threads) if topology else None


def _remove_made(session: Session) -> None:
    machine = session.read()
    if machine is None:
        return
    operation = session.call.operation
    if machine.defined and machine.created_by == operation:
        if machine.active:
            session.change("stop")
        session.change("undefine")
    for disk in machine.disks:
        if disk.made_by == operation and not disk.kept:
            session.change("delete_disk", target=disk.name, name=disk.name)


def _restore_processors(session: Session) -> None:
    machine = session.read()
    note = machine and machine.notes.get("resize")
    if not note:
        return
    operation, vcpus, topology = msgspec.json.decode(note, type=tuple[str, int, tuple[int, int, int] | None])
    if operation == session.call.operation:
        session.change("restore_processors", vcpus=vcpus, topology=topology, note="")


def _has(disk: str) -> Found:
    return lambda machine: machine is not None and machine.disk(disk) is not None


def _lacks(disk: str) -> Found:
    return lambda machine: machine is None or machine.disk(disk) is None


def _defined_by(operation: str) -> Found:
    return lambda machine: machine is not None and machine.defined and machine.created_by == operation


def _resized(flavour: Flavour) -> Found:
    return lambda machine: (
        machine is not None and machine.memory_bytes == flavour.memory_bytes and "resize" not in machine.notes
    )
