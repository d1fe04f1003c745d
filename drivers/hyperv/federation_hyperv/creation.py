"""create: an instance from its specification, convergent and without leftovers.

Order, and why:

1. Everything that can be checked without changing anything is checked first, and the image is fetched.
2. The machine is defined before anything else is made.  Its notes (stage ``building``, the operation's id) are the
   journal: whatever is made later bears the instance's id and is found from it.
3. Processors and memory, disks, drives, adapters, then the notes with what is known only now and stage ``built``, then the
   start, then stage ``complete``.

A repeat of the same operation finds the machine.  ``complete``: nothing is done.  ``built``: it is started unless it runs.
``building``: it cannot have run, so it is removed and made anew.

On an error everything is undone, the definition last; not when the machine runs, then the outcome is unknown.  A cancel, or
a deadline that has passed, undoes in any case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from federation.contract.errors import (
    AlreadyExists,
    HypervisorRefused,
    InsufficientResources,
    InvalidRequest,
    NotFound,
    NotSupported,
    OperationError,
    OutcomeUnknown,
)
from federation.contract.instances import BootImage, BootTemplate, Firmware, InstanceSpec, PowerState
from federation.contract.requests import Create
from federation_hyperv import boot_sources, extensions, facts, interfaces, maintenance, msvm, names, nocloud, notes
from federation_hyperv.attempt import Attempt
from federation_hyperv.extensions import Options
from federation_hyperv.fleet import Fleet
from federation_hyperv.host import VSMS, Host
from federation_hyperv.inventory import check_flavour
from federation_hyperv.machine import Machine, store_of
from federation_hyperv.notes import Note, Stage
from federation_hyperv.removal import remove, remove_files
from federation_hyperv.undoing import undone_on_error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be made; ``base`` is what the root disk is made of, ``switches`` are paths by name."""

    host: Host
    request: Create
    options: Options
    setup: bytes
    note: Note
    base: str = ""
    switches: dict[str, str] = field(default_factory=dict)

    @property
    def instance(self) -> str:
        return self.request.instance

    @property
    def spec(self) -> InstanceSpec:
        return self.request.spec


def create(fleet: Fleet, attempt: Attempt, request: Create) -> Machine:
    """Make the instance, and start it when asked to.

    Raises what the contract declares for create; after any error but OutcomeUnknown and HypervisorUnreachable nothing of
    it is left on the host.
    """
    options, setup = _check_request(fleet, request)
    host = _host(fleet, request.spec)
    found = _found(fleet, attempt, host, request.instance)
    undo = partial(_remove_what_was_made, fleet, attempt, host, request.instance)
    if found is None or found.note.stage is Stage.BUILDING:
        with undone_on_error(attempt, undo):
            if found is not None:
                remove(attempt, found)
            elif attempt.recovering:
                remove_files(attempt, host, request.instance)
            found = _build(fleet, attempt, host, _Asked(request, options, setup))
    if found.note.stage is not Stage.COMPLETE:
        with undone_on_error(attempt, undo):
            _finish(attempt, found, start=request.start)
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    request: Create
    options: Options
    setup: bytes


def _check_request(fleet: Fleet, request: Create) -> tuple[Options, bytes]:
    """Everything that the request alone tells; returns options and the cloud-init medium, empty when there is none."""
    spec = request.spec
    options = extensions.options(spec.extensions)
    if spec.flavour.topology is not None:
        raise NotSupported("Hyper-V shows processors as it likes", capability="cpu_topology")
    if options.secure_boot and spec.flavour.firmware is not Firmware.UEFI:
        raise InvalidRequest('extensions["hyperv"].secure_boot needs firmware uefi', field="extensions.hyperv")
    boot_sources.check(spec.boot, fleet.settings.images)
    return options, b"" if spec.guest is None else nocloud.medium(request.instance, spec.name, spec.guest)


def _host(fleet: Fleet, spec: InstanceSpec) -> Host:
    if spec.node is None:
        raise InvalidRequest("spec.node is not set; the manager chooses it", field="spec.node")
    return fleet.host(spec.node)


def _found(fleet: Fleet, attempt: Attempt, host: Host, instance: str) -> Machine | None:
    """What an earlier attempt of this very operation has made; AlreadyExists when something else has the id."""
    machine = fleet.find_for(host, instance)
    if machine is None:
        return None
    note = machine.parts.note
    ours = note is not None and fleet.owns(machine.parts) and note.operation == attempt.operation
    if note is None or not ours or machine.host is not host:
        raise AlreadyExists(f"{machine.host.node} has a machine with the id {instance} already", instance=instance)
    machine.wait_idle(attempt)
    if note.stage is Stage.BUILDING and machine.active:
        raise OutcomeUnknown(f"{machine.name} runs, and its creation was never finished")
    return machine


def _build(fleet: Fleet, attempt: Attempt, host: Host, asked: _Asked) -> Machine:
    request, spec = asked.request, asked.request.spec
    if not attempt.recovering:
        maintenance.check_off(fleet, host)
    taken = fleet.node_of_name(spec.name, request.instance)
    if taken is not None:
        raise AlreadyExists(f"{taken} has a machine named {spec.name!r} already", name=spec.name, node=taken)
    switches = interfaces.switch_paths(host, [one.network for one in spec.interfaces])
    if asked.setup:
        store_of(host).local("")
    check_flavour(host, spec.flavour)
    _check_room(host, spec)
    boot_sources.check_there(host, spec.boot, request.instance)
    plan = _Plan(
        host=host, request=request, options=asked.options, setup=asked.setup, switches=switches,
        note=Note(
            cluster=fleet.cluster, instance=request.instance, operation=attempt.operation, stage=Stage.BUILDING,
            metadata=spec.metadata,
        ),
        base=boot_sources.base_of(attempt, host, spec.boot, request.instance, fleet.settings.images),
    )  # fmt: skip
    if isinstance(spec.boot, BootImage | BootTemplate):
        boot_sources.check_size(host, spec.boot, plan.base)
    attempt.progress(0, "defining")
    machine = _define(attempt, plan)
    attempt.progress(20, "making disks")
    sizes = _make_disks(attempt, plan)
    attempt.progress(60, "connecting devices")
    _connect_disks(attempt, machine, plan)
    wanted = [
        (one.mac or names.mac_address(request.instance, number), one) for number, one in enumerate(spec.interfaces)
    ]
    interfaces.connect(attempt, machine, wanted, switches)
    machine.read()
    shown = [slot for slot in facts.slots(machine.parts) if slot.file and not slot.dvd]
    disks = {slot.name: sizes[slot.file.casefold()] for slot in shown if slot.file.casefold() in sizes}
    machine.write_note(attempt, notes.replaced(machine.note, stage=Stage.BUILT, disks=disks))
    return machine


def _check_room(host: Host, spec: InstanceSpec) -> None:
    """InsufficientResources when a disk is larger than all of the host's storage."""
    storage, _ = store_of(host).space()
    sizes = [disk.size_bytes for disk in spec.data_disks]
    if isinstance(spec.boot, BootImage | BootTemplate) and spec.boot.size_bytes is not None:
        sizes.append(spec.boot.size_bytes)
    if storage is not None and sizes and max(sizes) > storage:
        raise InsufficientResources(f"{host.node} has {storage} bytes of storage, a disk of {max(sizes)} is asked for")


def _define(attempt: Attempt, plan: _Plan) -> Machine:
    host, spec = plan.host, plan.spec
    settings = msvm.system(
        spec.name, plan.instance, spec.flavour.firmware, notes.write(None, plan.note),
        folder=host.settings.folder, secure_boot=plan.options.secure_boot,
    )  # fmt: skip
    host.run(attempt, f"define {plan.instance}", host.service(VSMS), "DefineSystem", {"SystemSettings": settings})
    found = [one for one in host.find(plan.instance) if one.note == plan.note]
    if not found:
        raise HypervisorRefused(f"{host.node}: Hyper-V defined {plan.instance} and does not show it")
    machine = Machine(host, plan.instance, found[0])
    machine.read()
    flavour, minimum = spec.flavour, plan.options.dynamic_memory_minimum_mib
    machine.change(
        attempt, "processors and memory",
        [
            msvm.processors(str(machine.parts.processor["InstanceID"]), flavour),
            msvm.memory(str(machine.parts.memory["InstanceID"]), flavour, minimum),
        ],
    )  # fmt: skip
    return machine


def _make_disks(attempt: Attempt, plan: _Plan) -> dict[str, int]:
    """Make the files; returns sizes in bytes by path, without regard to case."""
    store = store_of(plan.host)
    sizes = {}
    root = boot_sources.make_root(attempt, plan.host, plan.spec.boot, plan.base, plan.instance)
    path = boot_sources.root_file(plan.host, plan.spec.boot, plan.instance)
    sizes[path.casefold()] = store.size(path) if root is None else root
    for number, disk in enumerate(plan.spec.data_disks):
        path = store.path(names.data_disk(plan.instance, number))
        store.make(attempt, f"make data disk {number}", msvm.blank_disk(path, disk.size_bytes))
        sizes[path.casefold()] = disk.size_bytes
    if plan.setup:
        store.put(attempt, names.guest_setup(plan.instance), plan.setup)
    return sizes


def _connect_disks(attempt: Attempt, machine: Machine, plan: _Plan) -> None:
    """Root and cloud-init on IDE for generation 1, which starts from IDE only; everything else on one SCSI controller."""
    store, second = store_of(plan.host), plan.spec.flavour.firmware is Firmware.UEFI
    if not any(one.name == "scsi0" for one in facts.controllers(machine.devices())):
        machine.add(attempt, "a SCSI controller", [msvm.scsi_controller()])
        machine.read()
    by_name = {one.name: one.identity for one in facts.controllers(machine.parts)}
    scsi = msvm.setting_path("Msvm_ResourceAllocationSettingData", by_name["scsi0"])
    first = scsi if second else msvm.setting_path("Msvm_ResourceAllocationSettingData", by_name["ide0"])
    wanted = [(first, 0, boot_sources.root_file(plan.host, plan.spec.boot, plan.instance), False)]
    for number in range(len(plan.spec.data_disks)):
        slot = number + 1 if second else number
        wanted.append((scsi, slot, store.path(names.data_disk(plan.instance, number)), False))
    if plan.setup:
        other = scsi if second else msvm.setting_path("Msvm_ResourceAllocationSettingData", by_name["ide1"])
        slot = msvm.SCSI_SLOTS - 1 if second else 0
        wanted.append((other, slot, store.path(names.guest_setup(plan.instance)), True))
    machine.add(attempt, "drives", [msvm.drive(path, slot, dvd=dvd) for path, slot, _, dvd in wanted])
    machine.read()
    media = []
    for controller, number, file, dvd in wanted:
        drive = _drive(machine, msvm.instance_id(controller), number)
        media.append(msvm.medium(msvm.setting_path("Msvm_ResourceAllocationSettingData", drive), file, dvd=dvd))
    machine.add(attempt, "disks", media)


def _drive(machine: Machine, controller: str, number: int) -> str:
    for slot in facts.slots(machine.parts):
        if slot.controller == controller and slot.number == number:
            return slot.drive
    raise HypervisorRefused(f"{machine.name}: Hyper-V took a drive and does not show it")


def _finish(attempt: Attempt, machine: Machine, *, start: bool) -> None:
    state = machine.wait_idle(attempt)
    if start and state is PowerState.STOPPED:
        attempt.progress(90, "starting")
        machine.start(attempt)
        machine.look()
    machine.write_note(attempt, notes.replaced(machine.note, stage=Stage.COMPLETE))


def _remove_what_was_made(fleet: Fleet, attempt: Attempt, host: Host, instance: str, cause: OperationError) -> None:
    machine = fleet.on(host, instance)
    if machine is None:
        remove_files(attempt, host, instance)
        return
    note = machine.parts.note
    if note is None or note.operation != attempt.operation or not fleet.owns(machine.parts):
        return  # somebody else's: the error was that it is there
    if cause is not attempt.interruption and machine.active:
        raise OutcomeUnknown(f"it runs already and is left as it is (power state {machine.power_state})")
    try:
        remove(attempt, machine)
    except NotFound:
        remove_files(attempt, host, instance)
