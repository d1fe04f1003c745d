"""create: an instance from its specification, convergent and without leftovers.

Order, and why:

1. Everything that can be checked without changing anything is checked first.
2. The domain is defined before anything else is made.  Its metadata (stage ``building``, the operation's id) is the
   journal: whatever is made later bears the instance's id and is found from it.
3. Files into the cache, then the volumes, then the definition again with what is known only now and stage ``built``,
   then the start, then stage ``complete``.

A repeat of the same operation finds the domain.  ``complete``: nothing is done.  ``built``: it is started unless it runs
or has run and was stopped by its guest or by somebody.  ``building``: it cannot have run, so whatever volumes there are get made anew.

On an error everything is undone, the definition last; not when the domain runs or has run, then the outcome is unknown.
A cancel, or a deadline that has passed, undoes in any case.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, replace
from functools import partial

from federation.contract.errors import (
    AlreadyExists,
    HypervisorRefused,
    InvalidRequest,
    NotFound,
    NotSupported,
    OperationError,
    OutcomeUnknown,
)
from federation.contract.instances import BootImage, BootKernel, BootTemplate, Firmware, InstanceSpec
from federation.contract.requests import Create
from federation_libvirt import boot_sources, cache, domain_xml, maintenance, names, nocloud, ownership
from federation_libvirt.attempt import Attempt
from federation_libvirt.boot_sources import Base
from federation_libvirt.cache import Cached
from federation_libvirt.device_xml import Disk, disk_target
from federation_libvirt.domain_xml import Places, Screen
from federation_libvirt.fleet import Fleet
from federation_libvirt.host import Host
from federation_libvirt.images import Expected
from federation_libvirt.interfaces import check_no_vlan
from federation_libvirt.machine import Machine, replaced
from federation_libvirt.ownership import Ownership, Stage
from federation_libvirt.removal import remove, remove_files
from federation_libvirt.undoing import undone_on_error

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be made; ``base`` is what the root disk is made of."""

    host: Host
    request: Create
    setup: bytes
    places: Places
    owner: Ownership
    base: Base | None = None

    @property
    def instance(self) -> str:
        return self.request.instance

    @property
    def spec(self) -> InstanceSpec:
        return self.request.spec

    def definition(self) -> str:
        return domain_xml.render(self.instance, self.spec, self.host.platform(), self.places, self.owner)


def create(fleet: Fleet, attempt: Attempt, request: Create) -> Machine:
    """Make the instance, and start it when asked to.

    Raises what the contract declares for create; after any error but OutcomeUnknown and HypervisorUnreachable nothing of
    it is left on the host.
    """
    setup = _check_request(fleet, request)
    machine = Machine(_host(fleet, request.spec), request.instance)
    found = _found(fleet, attempt, machine)
    if found is None or found.stage is Stage.BUILDING:
        with undone_on_error(attempt, partial(_remove_what_was_made, fleet, attempt, machine)):
            _build(fleet, attempt, request, machine, setup)
    if found is None or found.stage is not Stage.COMPLETE:
        with undone_on_error(attempt, partial(_remove_what_was_made, fleet, attempt, machine)):
            _finish(attempt, machine, start=request.start)
    return machine


def _check_request(fleet: Fleet, request: Create) -> bytes:
    """Everything that the request alone tells; returns the cloud-init medium, empty when there is none."""
    spec, rules = request.spec, fleet.settings.images
    if spec.flavour.firmware is Firmware.UEFI:
        raise NotSupported("firmware uefi is not supported by this driver", capability="uefi")
    check_no_vlan(spec.interfaces)
    boot_sources.check(spec.boot, rules)
    return b"" if spec.guest is None else nocloud.medium(request.instance, spec.name, spec.guest)


def _host(fleet: Fleet, spec: InstanceSpec) -> Host:
    if spec.node is not None:
        return fleet.host(spec.node)
    if len(fleet.hosts) == 1:
        return next(iter(fleet.hosts.values()))
    raise InvalidRequest("spec.node is not set, and the cluster has several nodes", field="spec.node")


def _found(fleet: Fleet, attempt: Attempt, machine: Machine) -> Ownership | None:
    """What an earlier attempt of this very operation has written; AlreadyExists when something else has the id."""
    holder = fleet.find_for(machine.host, machine.instance)
    if holder is None:
        return None
    owner = ownership.read(holder.definition())
    ours = owner is not None and owner.cluster == fleet.cluster and owner.operation == attempt.operation
    if owner is None or not ours or holder.host is not machine.host:
        raise AlreadyExists(
            f"{holder.host.node} has a machine with the id {machine.instance} already", instance=machine.instance
        )
    look = machine.wait_idle(attempt)
    if owner.stage is Stage.BUILDING and look.active:
        raise OutcomeUnknown(f"{machine.host.node}: {machine.instance} runs, and its creation was never finished")
    return owner


def _build(fleet: Fleet, attempt: Attempt, request: Create, machine: Machine, setup: bytes) -> None:
    host, spec = machine.host, request.spec
    if not attempt.recovering:
        maintenance.check_off(fleet, host)
    _check_name(fleet, spec.name, machine)
    host.check_networks(spec.interfaces)
    if request.start:
        host.check_room(spec.flavour)
    else:
        host.check_size(spec.flavour)
    boot_sources.check_there(attempt, host, spec.boot, request.instance)
    host.prepare(attempt)
    host.check_disks(_sizes_asked(spec))
    plan = _plan(fleet, attempt, host, request, setup)
    attempt.progress(0, "defining")
    _define(fleet, attempt, plan, machine)
    boot_sources.check_still_unused(host, spec.boot, request.instance)
    remove_files(attempt, host, request.instance, console=False)
    plan = _fetch(attempt, plan)
    attempt.progress(80, "making disks")
    _make_volumes(attempt, plan)
    _define(fleet, attempt, replace(plan, owner=replaced(plan.owner, stage=Stage.BUILT)), machine)


def _finish(attempt: Attempt, machine: Machine, *, start: bool) -> None:
    look = machine.wait_idle(attempt)
    if start and not (look.active or look.saved or look.ended_on_purpose):
        attempt.progress(90, "starting")
        machine.start(attempt)
    complete = replaced(machine.owner(), stage=Stage.COMPLETE)
    machine.write_owner(attempt, complete, live=machine.look().active)


def _check_name(fleet: Fleet, name: str, machine: Machine) -> None:
    node = fleet.node_of_name(name, machine.instance)
    if node is not None:
        raise AlreadyExists(f"{node} has a machine named {name!r} already", name=name, node=node)


def _sizes_asked(spec: InstanceSpec) -> list[int]:
    sizes = [disk.size_bytes for disk in spec.data_disks]
    if isinstance(spec.boot, BootImage | BootTemplate) and spec.boot.size_bytes is not None:
        sizes.append(spec.boot.size_bytes)
    return sizes


def _plan(fleet: Fleet, attempt: Attempt, host: Host, request: Create, setup: bytes) -> _Plan:
    instance, spec = request.instance, request.spec
    volumes = [(names.data_disk(instance, number), f"data{number}") for number in range(len(spec.data_disks))]
    folder = host.disks.folder()
    disks = [Disk(path=f"{folder}/{name}", format="qcow2", serial=serial) for name, serial in volumes]
    root = boot_sources.root_disk(host, spec.boot, instance)
    if root is not None:
        disks.insert(0, root)
    if setup:
        path = f"{folder}/{names.guest_setup(instance)}"
        disks.append(Disk(path=path, format="raw", serial="cidata", read_only=True))
    return _Plan(
        host=host,
        request=request,
        setup=setup,
        places=Places(
            disks=tuple(disks),
            console_log=f"{host.console.folder()}/{names.console_log(instance)}",
            screen=Screen(listen=host.settings.vnc_listen, password=secrets.token_urlsafe(6)),
        ),
        owner=Ownership(
            cluster=fleet.cluster,
            instance=instance,
            operation=attempt.operation,
            stage=Stage.BUILDING,
            metadata=spec.metadata,
        ),
    )


def _define(fleet: Fleet, attempt: Attempt, plan: _Plan, machine: Machine) -> None:
    try:
        machine.define(attempt, plan.definition())
    except HypervisorRefused:
        # libvirt has no code of its own for a name that somebody took since we looked.
        _check_name(fleet, plan.spec.name, machine)
        raise


def _fetch(attempt: Attempt, plan: _Plan) -> _Plan:
    """Fetch what the boot source names, and complete the plan with where it lies and how large the disks become."""
    boot = plan.spec.boot
    sizes: list[int | None] = [disk.size_bytes for disk in plan.spec.data_disks]
    if isinstance(boot, BootImage | BootTemplate):
        base = _base(attempt, plan, boot)
        size = boot_sources.root_size(boot.size_bytes, base)
        sizes.insert(0, size)
        plan.host.check_disks([size])
        plan = replace(plan, base=base)
    elif isinstance(boot, BootKernel):
        kernel = _obtain(attempt, plan, Expected(boot.kernel_url, boot.kernel_checksum))
        initrd = _obtain(attempt, plan, Expected(boot.initrd_url, boot.initrd_checksum))
        plan = replace(plan, places=replace(plan.places, kernel=kernel.path, initrd=initrd.path))
    else:
        sizes.insert(0, None)  # a volume outlives the instance and may grow under another
    targets = {disk_target(number): size for number, size in enumerate(sizes) if size is not None}
    return replace(plan, owner=replaced(plan.owner, disks=targets))


def _base(attempt: Attempt, plan: _Plan, boot: BootImage | BootTemplate) -> Base:
    if isinstance(boot, BootTemplate):
        return boot_sources.template(plan.host, boot)
    cached = _obtain(attempt, plan, Expected(boot.url, boot.checksum, boot.format))
    return Base(path=cached.path, format=boot.format, virtual_bytes=cached.virtual_bytes)


def _obtain(attempt: Attempt, plan: _Plan, expected: Expected) -> Cached:
    return cache.obtain(attempt, plan.host.disks, plan.host.settings.images, plan.instance, expected)


def _make_volumes(attempt: Attempt, plan: _Plan) -> None:
    pool, instance = plan.host.disks, plan.instance
    if plan.base is not None:
        boot_sources.make_root(attempt, plan.host, instance, plan.base, plan.owner.disks[disk_target(0)])
    for number, disk in enumerate(plan.spec.data_disks):
        pool.make_disk(attempt, names.data_disk(instance, number), disk.size_bytes)
    if plan.setup:
        pool.make(attempt, names.guest_setup(instance))
        pool.fill(attempt, names.guest_setup(instance), (plan.setup,))
    log = names.console_log(instance)
    if log not in plan.host.console.volumes():
        plan.host.console.make(attempt, log)


def _remove_what_was_made(fleet: Fleet, attempt: Attempt, machine: Machine, cause: OperationError) -> None:
    try:
        owner = ownership.read(machine.definition())
    except NotFound:
        remove_files(attempt, machine.host, machine.instance, console=True)
        return
    if owner is None or owner.operation != attempt.operation or owner.cluster != fleet.cluster:
        return  # somebody else's: the error was that it is there
    look = machine.look()
    if cause is not attempt.interruption and (look.active or look.saved or not look.never_started):
        raise OutcomeUnknown(f"it has run already and is left as it is (power state {look.power_state})")
    remove(attempt, machine)
