"""create: an instance from its specification, convergent and without leftovers.

Order, and why:

1. Everything that can be checked without changing anything is checked first.
2. The machine is registered: cloned from a template, or made with a volume or no disk at all.  It bears the instance's id
   as ``instanceUuid`` and our note with the operation's id, in the same call; so whatever is made is found again.
   With a ``vmdk`` image vCenter makes it together with the disk that is sent to it (``imports``).
3. A ``raw`` image is sent to the machine's own folder, then one reconfiguration gives it processors, memory, disks, cards,
   guest setup and the stage ``built`` together; then it is started; then the stage becomes ``complete``.

A repeat of the same operation finds the machine by its id: ``complete``, nothing is done; ``built``, it is started unless
it runs; ``building``, the reconfiguration is done (again); ``importing``, it is removed and made again.  A clone that an
earlier attempt left running is waited for.

On an error the machine is removed; not when it runs already, then the outcome is unknown.  A cancel, or a deadline that has
passed, undoes in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from federation.contract.errors import (
    AlreadyExists,
    ImageUnavailable,
    InvalidRequest,
    NotFound,
    NotSupported,
    OperationError,
    OutcomeUnknown,
)
from federation.contract.instances import (
    BootImage,
    BootKernel,
    BootTemplate,
    BootVolume,
    ImageFormat,
    InstanceSpec,
    PowerState,
)
from federation.contract.requests import Create
from federation_vmware import (
    disk_images,
    extensions,
    facts,
    guest_setup,
    hardware,
    imports,
    maintenance,
    names,
    ownership,
    room,
    tasks,
    templates,
    uploads,
    volumes,
)
from federation_vmware.attempt import Attempt
from federation_vmware.connection import Session
from federation_vmware.extensions import Options
from federation_vmware.facts import Look
from federation_vmware.images import check_allowed
from federation_vmware.machine import Fleet, Machine, option_values, replaced
from federation_vmware.ownership import Ownership, Stage, Volume
from federation_vmware.places import Place
from federation_vmware.removal import remove
from federation_vmware.undoing import undone_on_error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Where the machine is made and of what; ``template`` is what it is cloned from (linked to its snapshot ``base``), ``volume`` what it starts from."""

    request: Create
    options: Options
    host: Place
    datastore: Place
    owner: Ownership
    template: Look | None = None
    base: Any = None
    volume: Volume | None = None
    cards: tuple[Any, ...] = ()

    @property
    def spec(self) -> InstanceSpec:
        return self.request.spec


def create(fleet: Fleet, attempt: Attempt, request: Create) -> Machine:
    """Make the instance, and start it when asked to.

    Raises what the contract declares for create; after any error but OutcomeUnknown and HypervisorUnreachable nothing of
    it is left.
    """
    options = _check_request(fleet, request.spec)
    with undone_on_error(attempt, lambda cause: _undo(fleet, attempt, request.instance, cause)):
        found = _found(fleet, attempt, request)
        if found is None:
            plan = _plan(fleet, attempt, request, options)
            found = _register(fleet, attempt, plan)
        machine, look = found
        if machine.owner(look).stage in {Stage.IMPORTING, Stage.BUILDING}:
            _build(fleet, attempt, _plan(fleet, attempt, request, options), machine)
        _place(fleet, attempt, machine, request.spec)
        _finish(attempt, machine, start=request.start)
    return machine


def _check_request(fleet: Fleet, spec: InstanceSpec) -> Options:
    """Everything that the request alone tells."""
    options = extensions.options(spec.extensions)
    hardware.flavour(spec.flavour, firmware=True)
    for one in spec.interfaces:
        if one.vlan is not None:
            raise NotSupported("vlan is not supported: a port group carries it", capability="vlan")
    if isinstance(spec.boot, BootKernel):
        raise NotSupported("this driver boots no kernel directly", capability="boot_kernel")
    if isinstance(spec.boot, BootImage):
        uploads.check_format(spec.boot)
        check_allowed(spec.boot.url, fleet.settings.images)
    if spec.node is None:
        raise InvalidRequest("spec.node is not set; the manager chooses it", field="spec.node")
    return options


def _found(fleet: Fleet, attempt: Attempt, request: Create) -> tuple[Machine, Look] | None:
    """What an earlier attempt of this very operation has made; AlreadyExists when something else has the id."""
    if attempt.recovering:
        tasks.settle_creations(fleet.connection, attempt)
        if _is_imported(request.spec):
            imports.settle(fleet, attempt, request.instance)
    found = fleet.find_any(request.instance)
    if found is None:
        return None
    machine, look = found
    owner = look.owner(fleet.cluster)
    if owner is None or owner.operation != attempt.operation:
        raise AlreadyExists(f"a machine with the id {request.instance} is there already", instance=request.instance)
    if owner.stage is Stage.IMPORTING:
        imports.clear(fleet, attempt, machine, owner)
        return None
    look = machine.settled(attempt)
    if owner.stage is Stage.BUILDING and look.power_state is PowerState.RUNNING:
        raise OutcomeUnknown(f"{request.instance} runs, and its creation was never finished")
    return machine, look


def _plan(fleet: Fleet, attempt: Attempt, request: Create, options: Options) -> _Plan:
    spec = request.spec
    host = fleet.places.host(str(spec.node))
    if not attempt.recovering:
        maintenance.check_off(fleet, host)
    node = fleet.node_of_name(spec.name, request.instance)
    if node is not None:
        raise AlreadyExists(f"{node} has a machine named {spec.name!r} already", name=spec.name, node=node)
    if options.datastore_cluster:
        datastore = fleet.places.datastores(options.datastore_cluster)[0]
    else:
        datastore = fleet.places.datastore(options.datastore)
    room.check_host(host, spec.flavour)
    room.check_datastore(datastore, spec)
    cards = tuple(
        hardware.card(
            -200 - number,
            fleet.places.network(one.network),
            one.mac or names.mac_address(request.instance, number),
        )
        for number, one in enumerate(spec.interfaces)
    )
    volume = volumes.free_volume(fleet, spec.boot, request.instance) if isinstance(spec.boot, BootVolume) else None
    template, base = _template(fleet, spec)
    return _Plan(
        request=request,
        options=options,
        host=host,
        datastore=datastore,
        template=template,
        base=base,
        volume=volume,
        cards=cards,
        owner=Ownership(
            cluster=fleet.cluster,
            instance=request.instance,
            operation=attempt.operation,
            stage=Stage.BUILDING,
            metadata=spec.metadata,
            volumes=(volume,) if volume else (),
        ),
    )


def _template(fleet: Fleet, spec: InstanceSpec) -> tuple[Look | None, Any]:
    """What it is cloned from, and the snapshot that a linked clone hangs on."""
    if not isinstance(spec.boot, BootTemplate):
        return None, None
    template = templates.find(fleet, spec.boot.template)
    templates.check(template, spec.boot)
    return template, templates.snapshot(fleet, template) if spec.boot.linked else None


def _register(fleet: Fleet, attempt: Attempt, plan: _Plan) -> tuple[Machine, Look]:
    attempt.progress(0, "registering")
    folder = fleet.places.folder(plan.options.folder)
    pool = fleet.places.resource_pool(plan.options.resource_pool)

    def clone(session: Session) -> Any:
        return session.bound(plan.template.reference).CloneVM_Task(  # type: ignore[union-attr]  # only with a template
            session.bound(folder), plan.spec.name, _clone_spec(session, plan, pool)
        )

    def make(session: Session) -> Any:
        return session.bound(folder).CreateVM_Task(
            _new_machine(fleet, plan, plan.owner), session.bound(pool), session.bound(plan.host.reference)
        )

    if _is_imported(plan.spec):
        _import(fleet, attempt, plan, (folder, pool))
    else:
        start = make if plan.template is None else clone
        tasks.run(fleet.connection, attempt, f"make {plan.request.instance}", start, percent=(0, 40))
    found = fleet.find_any(plan.request.instance)
    if found is None:
        raise OutcomeUnknown(
            f"vCenter made {plan.spec.name} and does not know it by the id {plan.request.instance}", name=plan.spec.name
        )
    return found


def _is_imported(spec: InstanceSpec) -> bool:
    return isinstance(spec.boot, BootImage) and spec.boot.format is ImageFormat.VMDK


def _import(fleet: Fleet, attempt: Attempt, plan: _Plan, where: tuple[Any, Any]) -> None:
    """Made by vCenter together with the disk that it is sent; the image is looked at before anything is made."""
    boot = plan.spec.boot
    if not isinstance(boot, BootImage):
        raise TypeError(f"boot is {type(boot).__name__}, expected {BootImage.__name__}")
    with disk_images.opened(boot, fleet.settings.images, attempt) as image:
        owner = replaced(plan.owner, stage=Stage.IMPORTING)
        spec = _new_machine(fleet, plan, owner, image.capacity_bytes)

        def begin(session: Session) -> Any:
            folder, pool = (session.bound(one) for one in where)
            wanted = vim.vm.VmImportSpec(configSpec=spec)
            return pool.ImportVApp(wanted, folder, session.bound(plan.host.reference))

        imports.run(fleet, attempt, f"import {plan.request.instance}", begin, image)


def _clone_spec(session: Session, plan: _Plan, pool: Any) -> Any:
    location = vim.vm.RelocateSpec(
        datastore=session.bound(plan.datastore.reference),
        pool=session.bound(pool),
        host=session.bound(plan.host.reference),
    )
    snapshot = None
    if plan.base is not None:
        location.diskMoveType = "createNewChildDiskBacking"
        snapshot = session.bound(plan.base)
    present = plan.template.notes if plan.template is not None else {}
    notes = ownership.cleared(present, ownership.options(plan.owner))
    config = vim.vm.ConfigSpec(instanceUuid=plan.request.instance, extraConfig=option_values(notes))
    return vim.vm.CloneSpec(location=location, template=False, powerOn=False, config=config, snapshot=snapshot)


def _new_machine(fleet: Fleet, plan: _Plan, owner: Ownership, imported_bytes: int = 0) -> Any:
    """A machine without a template: with the volume that it starts from, the disk that it is sent, or no disk yet."""
    devices = [hardware.controller(fleet.settings.disk_controller)]
    if plan.volume is not None:
        size = volumes.size_of(fleet, plan.volume) or 0
        devices.append(hardware.existing_disk(-300, (hardware.NEW_CONTROLLER, 0), size, plan.volume.path))
    if imported_bytes:
        place = (hardware.NEW_CONTROLLER, 0)
        devices.append(hardware.new_disk(-300, place, imported_bytes, f"[{plan.datastore.name}]"))
    return vim.vm.ConfigSpec(
        name=plan.spec.name,
        instanceUuid=plan.request.instance,
        guestId=plan.options.guest_id or fleet.settings.guest_id,
        files=vim.vm.FileInfo(vmPathName=f"[{plan.datastore.name}]"),
        extraConfig=option_values(ownership.options(owner)),
        deviceChange=devices,
        **hardware.flavour(plan.spec.flavour, firmware=True),
    )


def _build(fleet: Fleet, attempt: Attempt, plan: _Plan, machine: Machine) -> None:
    """Everything else, in one reconfiguration."""
    look = machine.look()
    image = None
    if isinstance(plan.spec.boot, BootImage) and not _is_imported(plan.spec):
        image = uploads.send(fleet, attempt, machine, plan.spec.boot)
        look = machine.look()
    stage = Stage.BUILT if plan.request.start else Stage.COMPLETE
    owner = replaced(machine.owner(look), stage=stage, upload="")
    attempt.progress(80, "building")
    machine.reconfigure(
        attempt,
        look,
        "build",
        owner=owner,
        devices=[*_disk_changes(plan, look, image), *_card_changes(plan, look)],
        notes=guest_setup.notes(plan.request.instance, plan.spec.name, plan.spec.guest),
        **hardware.flavour(plan.spec.flavour, firmware=True),
        **hardware.hot_add(fleet.settings.hot_add if plan.options.hot_add is None else plan.options.hot_add),
    )


def _disk_changes(plan: _Plan, look: Look, image: uploads.Uploaded | None) -> list[Any]:
    changes = []
    has_controller = any(isinstance(one, vim.vm.device.VirtualSCSIController) for one in look.devices)
    if not has_controller and (plan.spec.data_disks or image):
        raise ImageUnavailable("the template has no SCSI controller for further disks")
    if image is not None:
        key, free = hardware.disk_place(look.devices, new_controller=False)
        changes.append(hardware.existing_disk(-300, (key, free.pop(0)), image.size_bytes, image.path))
    root = hardware.root_disk(look.devices)
    boot = plan.spec.boot
    if (
        isinstance(boot, BootTemplate | BootImage)
        and boot.size_bytes
        and root is not None
        and boot.size_bytes != facts.disk_bytes(root)
    ):
        changes.append(hardware.resized_disk(root, boot.size_bytes))
    if plan.spec.data_disks:
        key, free = hardware.disk_place(look.devices, new_controller=False)
        units = [unit for unit in free if not (image is not None and unit == free[0])]
        if len(units) < len(plan.spec.data_disks):
            raise InvalidRequest(
                f"the template has room for {len(units)} more disks, the request has {len(plan.spec.data_disks)}",
                field="data_disks",
                limit=len(units),
            )
        for number, (disk, unit) in enumerate(zip(plan.spec.data_disks, units, strict=False)):
            changes.append(hardware.new_disk(-310 - number, (key, unit), disk.size_bytes, f"[{look.datastore}]"))
    return changes


def _card_changes(plan: _Plan, look: Look) -> list[Any]:
    """The cards of the request instead of those that a template brought along."""
    return [*(hardware.removed(one) for one in facts.cards(look.devices)), *plan.cards]


def _place(fleet: Fleet, attempt: Attempt, machine: Machine, spec: InstanceSpec) -> None:
    """To the node that was asked for, where vCenter has put it elsewhere (its simulator leaves a clone on its template's)."""
    look = machine.look()
    if machine.owner(look).stage is Stage.COMPLETE and look.power_state is not PowerState.STOPPED:
        return
    wanted = fleet.places.host(str(spec.node))
    if machine.owner(look).operation == attempt.operation and look.host != facts.object_id(wanted.reference):
        machine.relocate(attempt, wanted.reference, wanted.name)


def _finish(attempt: Attempt, machine: Machine, *, start: bool) -> None:
    look = machine.look()
    owner = machine.owner(look)
    if owner.stage is not Stage.BUILT:
        return
    if start and look.power_state is PowerState.STOPPED:
        attempt.progress(90, "starting")
        machine.power_on(attempt)
        look = machine.look()
    machine.reconfigure(attempt, look, "complete", owner=replaced(owner, stage=Stage.COMPLETE))


def _undo(fleet: Fleet, attempt: Attempt, instance: str, cause: OperationError) -> None:
    found = fleet.find_any(instance)
    if found is None:
        return
    machine, look = found
    owner = look.owner(fleet.cluster)
    if owner is None or owner.operation != attempt.operation:
        return  # somebody else's: the error was that it is there
    if cause is not attempt.interruption and look.power_state is not PowerState.STOPPED:
        raise OutcomeUnknown(f"it runs already and is left as it is (power state {look.power_state})")
    if owner.stage is Stage.IMPORTING:
        imports.clear(fleet, attempt, machine, owner)
        return
    try:
        remove(fleet, attempt, machine, owner)
    except NotFound:
        return
