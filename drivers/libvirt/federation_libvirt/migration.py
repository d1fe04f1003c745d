"""migrate: an instance goes to another node with its disks, running or stopped; exactly one node has it afterwards.

The order, and why:

1. What can be checked without changing anything is checked first; ``transfer`` finds out which pools both nodes share.
2. Our metadata on the source says ``leaving``: from here on, files of these names on the target are copies.
3. Cached images, disks and an empty console log are put on the target.
4. Live: the source's libvirtd carries the migration out by itself (peer to peer), so it goes on when the worker dies;
   QEMU copies what the guest writes meanwhile.  Cold: the domain is defined on the target, then undefined on the source.
   Either way its metadata on the target says ``arrived``, and from where.
5. What was printed so far comes after as an older log, the files on the source are deleted, ``arrived`` is taken away.

A repeat looks at both nodes.  Only the source has it: what is on the target is removed, and it starts anew.  Only the target
has it: step 5.  Both have it: a job that runs is waited for; then whichever runs is the one; of a stopped pair the target is
complete when this operation defined it.  When neither can be said, the outcome is unknown and nothing is touched.
"""

from __future__ import annotations

import ipaddress
import logging
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    HypervisorUnreachable,
    InvalidState,
    NotFound,
    NotSupported,
    OperationError,
    OutcomeUnknown,
)
from federation.contract.instances import PowerState
from federation.contract.requests import Migrate, MigrateMode
from federation_libvirt import connection, domain_xml, facts, maintenance, moved_xml, ownership, transfer
from federation_libvirt.attempt import Attempt
from federation_libvirt.facts import Look
from federation_libvirt.fleet import Fleet
from federation_libvirt.host import Host
from federation_libvirt.machine import Machine, replaced
from federation_libvirt.settings import Settings
from federation_libvirt.transfer import Transfer
from federation_libvirt.undoing import undone_on_error

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.3
_SETTLE_SECONDS = 30.0
"""How long libvirt may take to clean up on the target after the source's job has ended."""
_STARTS_FROM = {
    MigrateMode.LIVE: (PowerState.RUNNING, PowerState.PAUSED),
    MigrateMode.COLD: (PowerState.STOPPED,),
}


def migrate(fleet: Fleet, attempt: Attempt, request: Migrate) -> Machine:
    """Bring it to the node; where it is there already it stays."""
    target = Machine(fleet.host(request.node), request.instance)
    others = [node for node in fleet.having(request.instance) if node != request.node]
    if others:
        _check_answers(target.host)
        _move(fleet, attempt, request, _Way(Machine(fleet.host(others[0]), request.instance), target))
    elif not target.exists():
        fleet.see(request.instance)
    else:
        target.wait_idle(attempt)
    fleet.check_owned(target)
    _finish(fleet, attempt, target)
    fleet.remember(target)
    return target


@dataclass(frozen=True, slots=True)
class _Way:
    """From where to where."""

    source: Machine
    target: Machine

    def holders(self) -> tuple[bool, bool]:
        """Whether the source and the target have it now."""
        return self.source.exists(), self.target.exists()


def _move(fleet: Fleet, attempt: Attempt, request: Migrate, way: _Way) -> None:
    """Another node has it: bring to its end what an earlier attempt began, and begin if there is nothing of that."""
    _wait_for_job(attempt, way)
    here, there = way.holders()
    if here and there:
        _decide(attempt, way)
    if way.source.exists():
        _go(fleet, attempt, request, way)


def _decide(attempt: Attempt, way: _Way) -> None:
    """Both have it and no job runs: remove it from the one where it is no more."""
    source, target = way.source.look(), way.target.look()
    arrived = _arrival(way.target)
    if _runs(source) and not _runs(target) and arrived:
        _remove_arrived(attempt, way)
    elif _runs(target) and not _runs(source) and arrived:
        _forget_source(attempt, way, source)
    elif not source.active and not target.active and arrived == attempt.operation:
        way.source.undefine(attempt)
    elif not source.active and not target.active and arrived:
        _remove_arrived(attempt, way)
    else:
        raise OutcomeUnknown(
            f"{way.source.host.node} and {way.target.host.node} both have {way.source.instance} "
            f"({source.power_state} and {target.power_state}), and it cannot be said which is the one"
        )


def _go(fleet: Fleet, attempt: Attempt, request: Migrate, way: _Way) -> None:
    """Only the source has it: move it."""
    look = way.source.wait_idle(attempt)
    fleet.check_owned(way.source)
    definition = way.source.definition(), way.source.current(secrets=True)
    began, *shared = _leaving(definition[0])
    _check_source(way, look, request.mode, definition[0])
    if began != attempt.operation:
        _check_target(fleet, way, look, definition[0])
    way.target.host.prepare(attempt)
    transferred = _transfer(attempt, way, definition[1])
    if began:
        transferred.shared = frozenset(shared)
    else:
        with undone_on_error(attempt, lambda _: transferred.forget_probes()):
            transferred.find_shared()
            transferred.check_free()
    with undone_on_error(attempt, lambda _: _undo(attempt, way, transferred)):
        if not began:
            _note_leaving(attempt, way.source, " ".join((attempt.operation, *sorted(transferred.shared))))
        transferred.clear_target()
        transferred.copy(live=request.mode is MigrateMode.LIVE)
        owner = replaced(way.source.owner(), leaving="", arrived=_arrived(attempt, way, transferred))
        if request.mode is MigrateMode.LIVE:
            _go_live(attempt, way, transferred, owner)
        else:
            way.target.define(attempt, moved_xml.moved(definition[0], transferred.paths, owner))
            way.source.undefine(attempt)


def _go_live(attempt: Attempt, way: _Way, transferred: Transfer, owner: ownership.Ownership) -> None:
    """Let the source's libvirtd do it; an error counts for nothing when it has arrived all the same."""
    live = domain_xml.parse(way.source.ask("read", lambda d: d.XMLDesc(connection.XML_MIGRATABLE)))
    parameters = connection.migration_parameters(
        dest_xml=moved_xml.moved(live, transferred.paths, owner),
        persist_xml=moved_xml.moved(way.source.definition(), transferred.paths, owner),
        disks=transferred.disks_to_fill(),
        **_address(way.target.host),
    )
    flags = connection.migration_flags(disks=bool(transferred.disks_to_fill()), tls=_settings(way).migration.tls)
    uri = _settings(way).migration.uris.get(way.target.host.node, way.target.host.uri)
    try:
        way.source.act(
            attempt,
            "migrate",
            lambda d: d.migrateToURI3(uri, parameters, flags),
            seconds=_settings(way).timeouts.migrate_seconds,
            watch=way.source.watch(attempt, lambda: _report(attempt, way.source)),
        )
    except (HypervisorUnreachable, OutcomeUnknown):
        raise
    except OperationError as error:
        _wait_for_job(attempt, way)
        if way.source.exists() or not way.target.exists():
            raise
        logger.info("%s has arrived although there was an error: %s", way.target.instance, error)


def _finish(fleet: Fleet, attempt: Attempt, target: Machine) -> None:
    """Step 5.  An interruption comes too late now: the instance is there."""
    owner = target.owner()
    if not owner.arrived:
        return
    for last in (False, True):
        try:
            _clean_up(fleet, attempt, target, owner)
        except OperationError as error:
            if last or error is not attempt.interruption:
                raise
        else:
            return


def _clean_up(fleet: Fleet, attempt: Attempt, target: Machine, owner: ownership.Ownership) -> None:
    _, node, *shared = owner.arrived.split(" ")
    source = fleet.host(node)
    target.wait_idle(attempt)
    attempt.progress(95, f"removing its files from {node}")
    gone = Transfer(
        attempt=attempt,
        source=source,
        target=target.host,
        instance=target.instance,
        items=transfer.items_of(target.host, target.current()),
        boot_files={},
        shared=frozenset(shared),
    )
    gone.copy_log()
    gone.clear_source()
    target.write_owner(attempt, replaced(owner, arrived=""), live=target.look().active)


def _undo(attempt: Attempt, way: _Way, transferred: Transfer) -> None:
    """Take everything back from the target; the source has it as before."""
    here, there = way.holders()
    if not here:
        raise Conflict(f"{way.source.host.node} does not have {way.source.instance} any more")
    if there:
        _remove_arrived(attempt, way)
    transferred.clear_target()
    transferred.forget_probes()
    _note_leaving(attempt, way.source, "")


def _remove_arrived(attempt: Attempt, way: _Way) -> None:
    """Remove what is no more than a copy; Conflict when it is not one of ours on its way."""
    if not _arrival(way.target):
        raise Conflict(f"{way.target.host.node} has {way.target.instance}, and no migration has brought it there")
    try:
        if way.target.look().active:
            way.target.act(attempt, "stop the copy of", lambda d: d.destroy())
        way.target.undefine(attempt)
    except NotFound:
        logger.info("the copy of %s on %s was gone already", way.target.instance, way.target.host.node)


def _forget_source(attempt: Attempt, way: _Way, look: Look) -> None:
    """The guest runs on the target; what is left on the source must never run again."""
    try:
        if look.active:
            way.source.act(attempt, "stop what is left of", lambda d: d.destroy())
        way.source.undefine(attempt)
    except NotFound:
        logger.info("%s was gone from %s already", way.source.instance, way.source.host.node)


def _wait_for_job(attempt: Attempt, way: _Way) -> None:
    """Wait until no job runs on the source; then for libvirt to clean up on the target, for as long as that may take."""
    end = time.monotonic() + _settings(way).timeouts.migrate_seconds
    quiet = time.monotonic() + _SETTLE_SECONDS
    while (here := _seen(way.source)) is not None:
        there, now = _seen(way.target), time.monotonic()
        if here.busy:
            quiet = now + _SETTLE_SECONDS
        elif there is None or not (here.active and there.active) or now > quiet:
            return
        if now > end:
            raise OutcomeUnknown(f"{way.source.host.node}: the migration of {way.source.instance} does not end")
        _report(attempt, way.source)


def _seen(machine: Machine) -> Look | None:
    try:
        return machine.look()
    except NotFound:
        return None


def _report(attempt: Attempt, source: Machine) -> None:
    attempt.progress(source.job_percent(), "migrating")
    attempt.sleep(_LOOK_SECONDS)


def _runs(look: Look) -> bool:
    """Whether the guest is this one: a copy that waits, or one that was left behind, is paused by libvirt."""
    return look.active and not look.busy and look.power_state is PowerState.RUNNING


def _check_answers(host: Host) -> None:
    host.versions()


def _check_source(way: _Way, look: Look, mode: MigrateMode, definition: ET.Element) -> None:
    machine = way.source
    if look.power_state not in _STARTS_FROM[mode]:
        wanted = " or ".join(_STARTS_FROM[mode])
        raise InvalidState(
            f"{machine.instance} is {look.power_state}, {mode} migration needs it {wanted}",
            power_state=look.power_state,
            expected=wanted,
        )
    if machine.ask("count the snapshots of", lambda d: int(d.snapshotNum(0))):
        raise InvalidState(
            f"{machine.instance} has snapshots, which libvirt cannot move to another node; delete them first",
            expected="no snapshots",
        )
    bound = moved_xml.immovable(definition)
    if bound:
        raise NotSupported(f"{machine.instance} has {bound}, which is bound to {machine.host.node}")


def _check_target(fleet: Fleet, way: _Way, look: Look, definition: ET.Element) -> None:
    host, name = way.target.host, definition.findtext("name", "")
    maintenance.check_off(fleet, host)
    if look.active:
        host.check_free(facts.memory_bytes(definition))
    host.check_networks_named({node.get("network", "") for node in definition.iterfind("devices/interface/source")})
    if host.has_named(name):
        raise AlreadyExists(f"{host.node} has a machine named {name} already", name=name)


def _transfer(attempt: Attempt, way: _Way, domain: ET.Element) -> Transfer:
    return Transfer(
        attempt=attempt,
        source=way.source.host,
        target=way.target.host,
        instance=way.source.instance,
        items=transfer.items_of(way.source.host, domain),
        boot_files=transfer.boot_files_of(way.source.host, domain),
    )


def _address(host: Host) -> dict[str, str]:
    """Where the target is reached, and where QEMU listens there."""
    address = host.settings.migration.addresses.get(host.node, "")
    if not address:
        return {}
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return {"uri": f"tcp://{address}"}
    written = f"[{number}]" if number.version == 6 else str(number)  # noqa: PLR2004 - IPv6
    return {"uri": f"tcp://{written}", "listen": str(number)}


def _arrived(attempt: Attempt, way: _Way, transferred: Transfer) -> str:
    return " ".join((attempt.operation, way.source.host.node, *sorted(transferred.shared)))


def _arrival(machine: Machine) -> str:
    """The operation that has brought the machine, empty when none has."""
    owner = ownership.read(machine.current())
    return "" if owner is None else owner.arrived.partition(" ")[0]


def _leaving(definition: ET.Element) -> list[str]:
    """The operation that began to copy from here, and the pools that both nodes share; an empty name when none did."""
    owner = ownership.read(definition)
    return [""] if owner is None else owner.leaving.split(" ")


def _note_leaving(attempt: Attempt, source: Machine, note: str) -> None:
    owner = source.owner()
    if owner.leaving != note:
        source.write_owner(attempt, replaced(owner, leaving=note), live=False)


def _settings(way: _Way) -> Settings:
    return way.source.host.settings
