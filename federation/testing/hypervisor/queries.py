"""What the simulated driver answers without changing anything."""

from __future__ import annotations

from federation.contract import requests as r
from federation.contract.errors import InvalidState, NotFound
from federation.contract.instances import ConsoleOutput, Instance, InstancePage, PowerState
from federation.contract.nodes import Node, NodeList, ProbeReport
from federation.testing.hypervisor import world
from federation.testing.hypervisor.database import Connection
from federation.testing.hypervisor.records import Machine, facts
from federation.testing.hypervisor.session import Session


def probe(session: Session, _request: r.Probe) -> ProbeReport:
    """Read one fact."""
    clock = session.hypervisor.clock
    started = clock.monotonic()
    session.look("probe", lambda connection: connection.execute("SELECT count(*) FROM nodes").fetchone())
    product = session.hypervisor.settings.profile.product
    return ProbeReport(reachable=True, seconds=clock.monotonic() - started, hypervisor=product)


def list_nodes(session: Session, _request: r.ListNodes) -> NodeList:
    """The inventory and what is used of it."""
    product = session.hypervisor.settings.profile.product

    def reading(connection: Connection) -> NodeList:
        rows = connection.execute(
            "SELECT name, reachable, accepts_instances, vcpus, vcpus_used, memory_bytes, memory_bytes_used,"
            " storage_bytes, storage_bytes_used, instances FROM nodes ORDER BY name"
        )
        return NodeList(nodes=tuple(_node(row, product) for row in rows))

    return session.look("list_nodes", reading)


def get_instance(session: Session, request: r.GetInstance) -> Instance:
    """One machine, foreign ones too."""
    return facts(_find(session, request.instance))


def list_instances(session: Session, request: r.ListInstances) -> InstancePage:
    """One page in the order of ids."""

    def reading(connection: Connection) -> list[Machine]:
        return world.load_page(
            connection,
            after=request.after or "",
            limit=request.limit + 1,
            node=request.node,
            foreign=request.foreign,
        )

    if request.node is not None:
        node = request.node
        session.look("read_nodes", lambda connection: _require_known(connection, node))
    machines = session.look("list_machines", reading)
    page = machines[: request.limit]
    more = page[-1].id if len(machines) > request.limit else None
    return InstancePage(instances=tuple(facts(machine) for machine in page), next=more)


def get_console_output(session: Session, request: r.GetConsoleOutput) -> ConsoleOutput:
    """The same few lines for every boot."""
    machine = _find(session, request.instance)
    if not machine.owned:
        raise InvalidState(f"machine {machine.id} is foreign: its console is not ours to read", instance=machine.id)
    text = "".join(_boot_text(machine, number) for number in range(1, machine.boots + 1))
    if machine.power_state is PowerState.CRASHED:
        text += "Kernel panic - not syncing\n"
    told = text.encode()
    return ConsoleOutput(
        text=told[-request.max_bytes :].decode(errors="replace"), truncated=len(told) > request.max_bytes
    )


def _find(session: Session, instance: str) -> Machine:
    machine = session.read()
    if machine is None or not machine.defined:
        raise NotFound(f"instance {instance} is not on this cluster", instance=instance)
    return machine


def _boot_text(machine: Machine, number: int) -> str:
    return f"boot {number} of {machine.name}: {machine.vcpus} processors\n{machine.name} login: "


def _require_known(connection: Connection, name: str) -> None:
    if connection.execute("SELECT 1 FROM nodes WHERE name = ?", (name,)).fetchone() is None:
        raise NotFound(f"node {name!r} does not exist on this cluster", node=name)


def _node(row: tuple[object, ...], product: str) -> Node:
    name, reachable, accepts, *numbers = row
    vcpus, vcpus_used, memory, memory_used, storage, storage_used, instances = (int(str(n)) for n in numbers)
    return Node(
        name=str(name),
        reachable=bool(reachable),
        accepts_instances=bool(accepts) and bool(reachable),
        vcpus_total=vcpus,
        vcpus_used=vcpus_used,
        memory_bytes_total=memory,
        memory_bytes_used=memory_used,
        storage_bytes_total=storage,
        storage_bytes_used=storage_used,
        instances=instances,
        hypervisor=product,
        message="" if reachable else "the node does not answer",
    )
