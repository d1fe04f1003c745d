"""Broker users of workers and managers: what each may do, by the names that this installation uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from federation.bootstrap.topics import ADMISSION_TOPIC, manager_prefix, query_topic, worker_prefix
from federation.bus import provisioning
from federation.bus.address import MEMORY_SCHEME, Address, parse_address
from federation.bus.broker_access import Doors, Permissions, manager_permissions, worker_permissions
from federation.bus.errors import AddressError
from federation.bus.management import read_management_url
from federation.bus.provisioning import Step


@dataclass(frozen=True, slots=True)
class Login:
    """A new broker user: the URL that it connects with, and the steps that make it."""

    user: str
    url: str = field(repr=False)
    steps: Sequence[Step]


def worker_user(cluster: str, worker: str) -> str:
    """The broker user of a worker; a cluster's name has no dot."""
    return f"worker.{cluster}.{worker}"


def manager_user(manager: str) -> str:
    """The broker user of a manager."""
    return f"manager.{manager}"


def worker_login(broker_url: str, cluster: str, worker: str) -> Login:
    """A user for one worker, on the broker of this URL; raises ValueError for a name that cannot be one."""
    doors = Doors(
        own_prefix=worker_prefix(cluster, worker),
        queries=query_topic(cluster),
        admission=ADMISSION_TOPIC,
    )
    return _login(broker_url, worker_user(cluster, worker), worker_permissions(cluster, worker, doors))


def manager_login(broker_url: str, manager: str) -> Login:
    """A user for one manager, and the virtual host if it is not there."""
    login = _login(broker_url, manager_user(manager), manager_permissions(manager_prefix(manager)))
    vhost = parse_address(broker_url).virtual_host
    return Login(login.user, login.url, [*provisioning.make_vhost(vhost), *login.steps])


def removal(user: str) -> list[Step]:
    """The steps that remove a user."""
    return provisioning.remove_user(user)


def carry_out(steps: Sequence[Step], management_url: str, ca_file: str | None) -> None:
    """Do the steps with the operator's credentials; raises AddressError, BrokerRefused, BusUnavailable."""
    read_management_url(management_url, ca_file).carry_out(steps)


def _login(broker_url: str, user: str, permissions: Permissions) -> Login:
    address = parse_address(broker_url)
    if address.scheme == MEMORY_SCHEME:
        message = "the broker in one process has no users"
        raise AddressError(message)
    password = provisioning.new_password()
    steps = provisioning.make_user(user, password, address.virtual_host, permissions)
    return Login(user, _url(broker_url, address, user, password), steps)


def _url(broker_url: str, address: Address, user: str, password: str) -> str:
    """The same hosts, virtual host and options with another user."""
    scheme, _, rest = broker_url.partition("://")
    place, question, query = rest.partition("?")
    vhost = place.partition("/")[2]
    hosts = ",".join(map(str, address.endpoints))
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"{scheme}://{login}@{hosts}/{vhost}{question}{query}"
