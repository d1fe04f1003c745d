"""What is on the simulated hypervisor before any worker comes: nodes, volumes, templates, foreign machines."""

from __future__ import annotations

import msgspec

from federation.contract.errors import InvalidRequest
from federation.contract.instances import InterfaceFacts, PowerState
from federation.testing.hypervisor import stored, world
from federation.testing.hypervisor.database import Connection
from federation.testing.hypervisor.records import Disk, Machine, Usage, usage
from federation.testing.hypervisor.settings import ForeignSettings, SimulatedSettings, StoredSettings


def plant_all(connection: Connection, settings: SimulatedSettings, now: float) -> None:
    """Bring the inventory up to date and put there, once, what the settings name; within the caller's transaction.

    ``now`` is the monotonic time from which foreign machines run.
    """
    for node in settings.inventory():
        connection.execute(
            "INSERT INTO nodes (name, vcpus, memory_bytes, storage_bytes) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET vcpus = excluded.vcpus,"
            " memory_bytes = excluded.memory_bytes, storage_bytes = excluded.storage_bytes",
            (node.name, node.vcpus, node.memory_bytes, node.storage_bytes),
        )
    for kind, given in ((stored.VOLUME, settings.volumes), (stored.TEMPLATE, settings.templates)):
        for one in given:
            if _first_time(connection, f"{kind} {one.pool or settings.pools[0]}/{one.name}"):
                stored.keep(connection, _stored(settings, kind, one))
    for machine in settings.foreign:
        if _first_time(connection, f"foreign {machine.id}"):
            plant_machine(connection, foreign_machine(settings, machine, now))


def plant_machine(connection: Connection, machine: Machine) -> None:
    """Put a machine there, booked on its node."""
    world.charge(connection, machine, Usage(), usage(machine))
    world.store(connection, machine)


def foreign_machine(settings: SimulatedSettings, given: ForeignSettings, now: float) -> Machine:
    """The machine that the settings describe."""
    running = given.power_state is PowerState.RUNNING
    return Machine(
        id=given.id,
        node=given.node or settings.inventory()[0].name,
        defined=True,
        owned=False,
        name=given.name,
        power_state=given.power_state,
        vcpus=given.vcpus,
        memory_bytes=given.memory_bytes,
        boots=int(running),
        agent=settings.agents,
        memory_file="" if given.power_state is PowerState.SUSPENDED else None,
        running_since=now if running else None,
        disks=tuple(
            Disk(name=f"{given.id}-disk{number}", size_bytes=size, root=number == 0)
            for number, size in enumerate(given.disks)
        ),
        interfaces=tuple(
            InterfaceFacts(mac=f"02:00:00:00:{number // 256:02x}:{number % 256:02x}", network=network)
            for number, network in enumerate(given.networks)
        ),
    )


def _stored(settings: SimulatedSettings, kind: str, given: StoredSettings) -> stored.Stored:
    pool = given.pool or settings.pools[0]
    if pool not in settings.pools:
        message = f"{kind} {given.name}: there is no pool {pool}; there are {', '.join(settings.pools)}"
        raise InvalidRequest(message, field="pool", value=pool)
    values = msgspec.structs.asdict(given) | {"pool": pool, "format": str(settings.format_of(given.format))}
    return stored.Stored(kind=kind, **values)


def _first_time(connection: Connection, what: str) -> bool:
    done = connection.execute("INSERT OR IGNORE INTO facts VALUES (?, '')", (f"planted {what}",))
    return bool(done.rowcount)
