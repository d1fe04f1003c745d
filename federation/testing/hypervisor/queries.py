"""What the simulated driver answers without changing anything."""

from __future__ import annotations

from federation.contract import requests as r
from federation.contract.errors import InvalidRequest, InvalidState, NotFound
from federation.contract.instances import ConsoleOutput, Instance, InstancePage, PowerState
from federation.contract.nodes import Node, NodeList, ProbeReport
from federation.testing.hypervisor import node_rows, world
from federation.testing.hypervisor.database import Connection
from federation.testing.hypervisor.records import Machine, facts
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.settings import SimulatedSettings


def probe(session: Session, _request: r.Probe) -> ProbeReport:
    """Read one fact."""
    clock = session.hypervisor.clock
    started = clock.monotonic()
    session.look("probe", lambda connection: connection.execute("SELECT count(*) FROM nodes").fetchone())
    product = session.hypervisor.settings.profile.product
    return ProbeReport(reachable=True, seconds=clock.monotonic() - started, hypervisor=product)


def list_nodes(session: Session, _request: r.ListNodes) -> NodeList:
    """The inventory and what is used of it, by name."""
    settings = session.hypervisor.settings

    def reading(connection: Connection) -> NodeList:
        rows = connection.execute(f"SELECT {_NODE_COLUMNS} FROM nodes ORDER BY name")
        return NodeList(nodes=tuple(_node(row, settings) for row in rows))

    return session.look("list_nodes", reading)


def find_node(session: Session, name: str) -> Node:
    """One node of which it is known that it exists."""
    settings = session.hypervisor.settings

    def reading(connection: Connection) -> Node:
        return _node(
            connection.execute(f"SELECT {_NODE_COLUMNS} FROM nodes WHERE name = ?", (name,)).fetchone(), settings
        )

    return session.look("read_nodes", reading, session.machine_id)


def get_instance(session: Session, request: r.GetInstance) -> Instance:
    """One machine, foreign ones too."""
    return facts(find_machine(session, request.instance))


def list_instances(session: Session, request: r.ListInstances) -> InstancePage:
    """One page in the order of ids; what is on a node that does not answer is missing, and the node is named."""

    def reading(connection: Connection) -> tuple[list[Machine], frozenset[str]]:
        machines = world.load_page(
            connection,
            after=request.after or "",
            limit=request.limit + 1,
            node=request.node,
            foreign=request.foreign,
        )
        return machines, node_rows.unreachable(connection)

    if request.node is not None:
        node = request.node
        session.look("read_nodes", lambda connection: _require_named(connection, node))
    machines, silent = session.look("list_machines", reading)
    page = machines[: request.limit]
    return InstancePage(
        instances=tuple(facts(machine) for machine in page),
        next=page[-1].id if len(machines) > request.limit else None,
        unreachable=tuple(sorted(silent & {request.node} if request.node else silent)),
    )


def get_console_output(session: Session, request: r.GetConsoleOutput) -> ConsoleOutput:
    """The same few lines for every boot, and one for every interrupt."""
    machine = find_machine(session, request.instance)
    require_ours(machine)
    text = "".join(_boot_text(machine, number) for number in range(1, machine.boots + 1))
    text += "NMI received for unknown reason\n" * machine.nmis
    if machine.power_state is PowerState.CRASHED:
        text += "Kernel panic - not syncing\n"
    told = text.encode()
    return ConsoleOutput(
        text=told[-request.max_bytes :].decode(errors="replace"), truncated=len(told) > request.max_bytes
    )


def find_machine(session: Session, instance: str) -> Machine:
    """The machine, foreign ones too; NotFound, or HypervisorUnreachable when its node does not answer."""
    machine = session.read()
    if machine is None or not machine.defined:
        raise NotFound(f"instance {instance} is not on this cluster", instance=instance)
    node = machine.node
    session.look("read_nodes", lambda connection: node_rows.require_node(connection, node))
    return machine


def require_ours(machine: Machine) -> None:
    """Raise InvalidState on a machine whose console is not ours to see."""
    if not machine.owned:
        raise InvalidState(f"machine {machine.id} is foreign: its console is not ours to see", instance=machine.id)


def _boot_text(machine: Machine, number: int) -> str:
    return f"boot {number} of {machine.name}: {machine.vcpus} processors\n{machine.name} login: "


def _require_named(connection: Connection, name: str) -> None:
    try:
        node_rows.require_known(connection, name)
    except NotFound as error:
        raise InvalidRequest(error.message, field="node", value=name) from error


_NODE_COLUMNS = (
    "name, reachable, accepts_instances, maintenance, vcpus, vcpus_used, memory_bytes, memory_bytes_used,"
    " storage_bytes, storage_bytes_used, instances"
)


def _node(row: tuple[object, ...], settings: SimulatedSettings) -> Node:
    name, reachable, accepts, maintenance, *numbers = row
    figures = (int(str(number)) if reachable else None for number in numbers)
    vcpus, vcpus_used, memory, memory_used, storage, storage_used, instances = figures
    given = next((node for node in settings.inventory() if node.name == name), None)
    return Node(
        name=str(name),
        reachable=bool(reachable),
        accepts_instances=bool(accepts) and bool(reachable) and not maintenance,
        vcpus_total=vcpus,
        vcpus_used=vcpus_used,
        memory_bytes_total=memory,
        memory_bytes_used=memory_used,
        storage_bytes_total=storage,
        storage_bytes_used=storage_used,
        instances=instances,
        hypervisor=settings.profile.product,
        message="" if reachable else "the node does not answer",
        maintenance=bool(maintenance),
        lacks=frozenset(given.lacks) if given else frozenset(),
        addresses=given.addresses if given else (),
    )
