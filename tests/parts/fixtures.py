"""pytest fixtures for the real parts, and the rule on skipping.

A test that asks for a part gets the part's marker by itself. Where the part cannot be brought up the test is skipped
with the exact reason; with CI or FEDERATION_REQUIRE_PARTS set it fails instead. With one of them set, a skip that
`tests/allowed_skips.txt` does not list fails the whole run as well.

`rabbitmq`, `libvirt_hosts` and `postgresql` are shared with whoever uses this machine's parts: do not stop them.
`breakable_…` and `rabbitmq_cluster` belong to this test session alone and are whole again before each test.
"""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import settings

from parts.bare_guest import BareGuest
from parts.guest import Guest
from parts.hyperv_clients import HypervClients
from parts.libvirt_hosts import LibvirtHosts
from parts.postgresql import PostgreSQL
from parts.prometheus import Prometheus
from parts.rabbitmq import RabbitMQ
from parts.state import PartMissingError
from parts.vcenter import VCenterSimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Breakable = TypeVar("Breakable", RabbitMQ, LibvirtHosts)
REQUIRED = bool(os.environ.get("CI") or os.environ.get("FEDERATION_REQUIRE_PARTS"))
MARKER_OF = {
    "rabbitmq": "rabbitmq",
    "breakable_rabbitmq": "rabbitmq",
    "rabbitmq_cluster": "rabbitmq3",
    "libvirt_hosts": "libvirt",
    "breakable_libvirt_hosts": "libvirt",
    "postgresql": "postgresql",
    "vcenter_simulator": "vcenter",
}
ALLOWED_SKIPS = Path(__file__).resolve().parent.parent / "allowed_skips.txt"

# Several people and a broker share two cores: a slow example says nothing about the code.
settings.register_profile("laptop", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if REQUIRED else "laptop")


def bring_up(action: Callable[[], object]) -> None:
    """A part that is missing fails where parts are required, and skips elsewhere."""
    try:
        action()
    except PartMissingError as error:
        if REQUIRED:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def _own_instance() -> str:
    """A name for the parts of this process alone, so that several test runs may break theirs side by side."""
    return f"pytest-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{os.getpid()}"


@pytest.fixture(scope="session")
def hyperv_clients() -> HypervClients:
    """os-win, pywinrm and pypsrp in an environment of their own: `.python`."""
    clients = HypervClients()
    bring_up(clients.start)
    return clients


@pytest.fixture(scope="session")
def rabbitmq() -> RabbitMQ:
    """A running RabbitMQ of one node, shared: `.url`, `.federation_url`, `.ctl(…)`, `.add_vhost(…)`."""
    broker = RabbitMQ("rabbitmq")
    bring_up(broker.start)
    return broker


@pytest.fixture(scope="session")
def _session_rabbitmq() -> Iterator[RabbitMQ]:
    yield from _session_part(RabbitMQ("rabbitmq", _own_instance()))


@pytest.fixture
def breakable_rabbitmq(_session_rabbitmq: RabbitMQ) -> RabbitMQ:
    """A RabbitMQ of one node that a test may kill, pause and restart."""
    return _healed(_session_rabbitmq)


@pytest.fixture(scope="session")
def _session_cluster() -> Iterator[RabbitMQ]:
    yield from _session_part(RabbitMQ("rabbitmq3", _own_instance()))


@pytest.fixture
def rabbitmq_cluster(_session_cluster: RabbitMQ) -> RabbitMQ:
    """Three RabbitMQ nodes that a test may kill, pause and restart one by one: `.kill(1)`, `.start_node(1)`."""
    return _healed(_session_cluster)


@pytest.fixture(scope="session")
def libvirt_hosts() -> LibvirtHosts:
    """Two libvirt hosts, shared: `.uris` by host name, `.facts["hosts"]` with their folders."""
    hosts = LibvirtHosts()
    bring_up(hosts.start)
    return hosts


@pytest.fixture(scope="session")
def _session_libvirt_hosts() -> Iterator[LibvirtHosts]:
    yield from _session_part(LibvirtHosts(_own_instance()))


@pytest.fixture
def breakable_libvirt_hosts(_session_libvirt_hosts: LibvirtHosts) -> LibvirtHosts:
    """Two libvirt hosts whose libvirtd a test may kill, pause and restart: `.kill(0)`, `.start_node(0)`."""
    return _healed(_session_libvirt_hosts)


@pytest.fixture(scope="session")
def guest_image() -> dict[str, Any]:
    """Paths and checksums of the Linux guest: `kernel`, `initrd`, `image` (qcow2), `cmdline`, `ready_line`."""
    guest = Guest()
    bring_up(guest.start)
    return guest.status()


@pytest.fixture(scope="session")
def bare_guest_image() -> dict[str, Any]:
    """Path and checksum of the guest without an operating system: `image` (qcow2), `ready_line`."""
    guest = BareGuest()
    bring_up(guest.start)
    return guest.status()


@pytest.fixture(scope="session")
def postgresql() -> PostgreSQL:
    """A running PostgreSQL, shared: `.url`, `.add_database(name)`, `.drop_database(name)`."""
    server = PostgreSQL()
    bring_up(server.start)
    return server


@pytest.fixture(scope="session")
def prometheus() -> Prometheus:
    """Prometheus, unpacked: `.promtool`, `.launch(configuration, folder, port)`."""
    programs = Prometheus()
    bring_up(programs.install)
    return programs


@pytest.fixture(scope="session")
def vcenter_simulator() -> VCenterSimulator:
    """VMware's simulator, built: `.launch(folder, "-hosts", "8", "-vms", "100")` starts a vCenter of one's own."""
    simulator = VCenterSimulator()
    bring_up(simulator.start)
    return simulator


def _session_part(part: Breakable) -> Iterator[Breakable]:
    bring_up(part.start)
    yield part
    part.remove()


def _healed(part: Breakable) -> Breakable:
    bring_up(part.mend)
    return part


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the parts that its fixtures, or parameters that name one of these fixtures, bring up."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        names = {*getattr(item, "fixturenames", ()), *(value for value in parameters if isinstance(value, str))}
        for marker in {MARKER_OF[name] for name in names if name in MARKER_OF}:
            item.add_marker(marker)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the skips that nobody allowed."""
    for line in _unlisted_skips(terminalreporter):
        terminalreporter.write_line(f"unlisted skip: {line}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run for a skip that nobody allowed, where parts are required."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if REQUIRED and reporter is not None and session.exitstatus == pytest.ExitCode.OK and _unlisted_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unlisted_skips(reporter: Any) -> list[str]:
    allowed = [line.split(" :: ")[0] for line in ALLOWED_SKIPS.read_text().splitlines() if line and line[0] != "#"]
    skips = [(report.nodeid, report.longrepr[2]) for report in reporter.stats.get("skipped", ())]
    return [f"{name}: {why}" for name, why in skips if not any(fnmatch.fnmatch(name, pattern) for pattern in allowed)]
