"""One hypervisor host: its link, its pools, what it is and what is left of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import partial

from federation.contract.errors import InsufficientResources, InvalidRequest
from federation.contract.instances import Flavour, Interface
from federation_libvirt import connection, ownership
from federation_libvirt.attempt import Attempt
from federation_libvirt.connection import Link, Native
from federation_libvirt.domain_xml import Platform, parse
from federation_libvirt.platform import platform_of
from federation_libvirt.settings import Settings
from federation_libvirt.storage import Pool

_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a host has and what its active domains take, ours and foreign ones; memory in bytes."""

    processors: int
    vcpus_used: int
    memory_total: int
    memory_used: int
    active_domains: int


class Host:
    """A node of the cluster."""

    def __init__(self, node: str, settings: Settings) -> None:
        self.node = node
        self.uri = settings.hosts[node]
        self.settings = settings
        self.link = Link(node, settings.hosts[node], settings.timeouts)
        self.disks = Pool(self.link, settings.pool, settings.pool_directory(node))
        self.console = Pool(self.link, f"{settings.pool}-console", settings.console_directory(node))
        self._folders: dict[str, str] = {}
        self._known: dict[str, Platform] = {}

    def prepare(self, attempt: Attempt) -> None:
        """Make the pools where they are missing."""
        self.disks.prepare(attempt)
        self.console.prepare(attempt)

    def pool(self, name: str) -> Pool:
        """The pool of that name, or the configured one for an empty name.

        Raises InvalidRequest, naming what is allowed, for a pool that the settings do not have.
        """
        if name in {"", self.settings.pool}:
            return self.disks
        if name not in self.settings.volume_pools:
            allowed = ", ".join((self.settings.pool, *self.settings.volume_pools))
            raise InvalidRequest(f"pool {name!r} is not allowed; allowed: {allowed}", field="pool")
        return Pool(self.link, name, "")

    def pool_folders(self) -> dict[str, str]:
        """Names of the pools in the settings by their directory on this host; asked once for each pool that is there."""
        for name in (self.settings.pool, *self.settings.volume_pools):
            if name not in self._folders and self.pool(name).exists():
                self._folders[name] = self.pool(name).folder()
        return {folder: name for name, folder in self._folders.items()}

    def platform(self) -> Platform:
        """What new domains are made for; asked once for each process, because a running host does not change it."""
        if "platform" not in self._known:
            capabilities, features = self.link.read("read capabilities", _capabilities)
            chosen = platform_of(parse(capabilities), features, self.settings.domain_type, self.settings.machine)
            self._known["platform"] = chosen
        return self._known["platform"]

    def usage(self) -> Usage:
        """What is there and what is taken now."""
        return self.link.read("measure the node", _usage)

    def versions(self) -> str:
        """Product names and versions."""
        return self.link.read("read versions", _versions)

    def hostname(self) -> str:
        """What the node calls itself."""
        return self.link.read("read the node's name", lambda c: str(c.getHostname()))

    def marks(self) -> list[str]:
        """Our metadata element of every domain that has one."""
        return self.link.read("read marks", _marks)

    def check_room(self, flavour: Flavour) -> None:
        """Raise InsufficientResources, with the numbers, unless this host can run the flavour now."""
        self.check_size(flavour)
        self.check_free(flavour.memory_bytes)

    def check_free(self, memory_bytes: int) -> None:
        """Raise InsufficientResources, with the numbers, unless so much memory is free on this host now.

        Two starts that look at the same moment may both pass; the manager's placement is what shares a node out.
        """
        usage = self.usage()
        reserved = self.settings.reserved_memory_bytes
        free = max(usage.memory_total - reserved - usage.memory_used, 0)
        if memory_bytes > free:
            raise InsufficientResources(
                f"{self.node}: {memory_bytes} bytes of memory asked for, {free} are free ({usage.memory_total} in all, "
                f"{usage.memory_used} taken by running machines, {reserved} reserved)",
                asked=memory_bytes,
                free=free,
            )

    def check_size(self, flavour: Flavour) -> None:
        """Raise InsufficientResources, with the numbers, when this host could never run the flavour."""
        usage = self.usage()
        offered = usage.memory_total - self.settings.reserved_memory_bytes
        if flavour.memory_bytes > offered:
            raise InsufficientResources(
                f"{self.node}: {flavour.memory_bytes} bytes of memory asked for, the node offers {offered} in all",
                asked=flavour.memory_bytes,
                total=offered,
            )
        limit = int(usage.processors * self.settings.vcpu_overcommit)
        if flavour.vcpus > limit:
            raise InsufficientResources(
                f"{self.node}: {flavour.vcpus} processors asked for, the node offers {limit} "
                f"({usage.processors} real ones, overcommitted {self.settings.vcpu_overcommit:g} times)",
                asked=flavour.vcpus,
                total=limit,
            )

    def check_disks(self, sizes: list[int]) -> None:
        """Raise InsufficientResources when one disk is larger than the pool; disks are thin, so sums may exceed it."""
        capacity, _ = self.disks.space()
        largest = max(sizes, default=0)
        if capacity and largest > capacity:
            raise InsufficientResources(
                f"{self.node}: a disk of {largest} bytes was asked for, storage pool {self.settings.pool} has {capacity}",
                asked=largest,
                capacity=capacity,
            )

    def check_networks(self, interfaces: tuple[Interface, ...]) -> None:
        """Raise InvalidRequest, naming the network, unless every one is there and active."""
        self.check_networks_named({interface.network for interface in interfaces})

    def has_named(self, name: str) -> bool:
        """Whether the host has a machine of that name."""
        found = self.link.find(f"find {name}", lambda c: str(c.lookupByName(name).name()), missing="VIR_ERR_NO_DOMAIN")
        return found is not None

    def check_networks_named(self, wanted: set[str]) -> None:
        """The same for networks by their names; the empty name is none."""
        for name in sorted(wanted - {""}):
            active = self._network_state(name)
            if not active:
                found = "not there" if active is None else "not active"
                raise InvalidRequest(f"{self.node}: network {name!r} is {found}", field="interfaces", network=name)

    def _network_state(self, name: str) -> int | None:
        what = f"find network {name}"
        found: int | None = self.link.find(
            what, lambda c: c.networkLookupByName(name).isActive(), missing="VIR_ERR_NO_NETWORK"
        )
        return found


def _capabilities(native: Native) -> tuple[str, frozenset[str]]:
    text = native.getCapabilities()
    processor = parse(text).find("host/cpu")
    if processor is None or processor.find("model") is None:
        return text, frozenset()
    expanded = native.baselineCPU([ET.tostring(processor, encoding="unicode")], connection.EXPAND_FEATURES)
    return text, frozenset(feature.get("name", "") for feature in parse(expanded).iterfind("feature"))


def _usage(native: Native) -> Usage:
    # virNodeGetInfo's memory is the sum of the NUMA cells, which can be far below the truth on virtual machines.
    memory = native.getMemoryStats(connection.ALL_CELLS)
    taken = [found for found in map(_taken, native.listAllDomains(connection.LIST_ACTIVE)) if found]
    return Usage(
        processors=native.getInfo()[2],
        vcpus_used=sum(vcpus for _, vcpus in taken),
        memory_total=memory["total"] * _KIB,
        memory_used=sum(kib for kib, _ in taken) * _KIB,
        active_domains=len(taken),
    )


def _taken(domain: Native) -> tuple[int, int] | None:
    """KiB and processors of a domain; None when it has ended meanwhile."""
    info = connection.unless_gone(domain.info)
    return None if info is None else (info[1], info[3])


def _marks(native: Native) -> list[str]:
    def mark(domain: Native) -> str:
        return str(domain.metadata(connection.METADATA_ELEMENT, ownership.NAMESPACE, 0))

    found = (connection.unless_gone(partial(mark, domain)) for domain in native.listAllDomains())
    return [text for text in found if text]


def _versions(native: Native) -> str:
    return f"{native.getType()} {_dotted(native.getVersion())}, libvirt {_dotted(native.getLibVersion())}"


def _dotted(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
