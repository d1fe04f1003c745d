"""Where things are in vCenter's inventory: datacenter, cluster, hosts, folders, pools, datastores, networks.

What the settings name is looked up once and remembered for a while; a request's extension may name another folder,
resource pool or datastore.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from federation.contract.errors import HypervisorRefused, InvalidRequest, NotFound
from federation_vmware.connection import Connection, Reference
from federation_vmware.facts import object_id, unescaped
from federation_vmware.settings import Settings

REMEMBERED_SECONDS = 60.0
HOST_PATHS = (
    "name",
    "parent",
    "runtime.connectionState",
    "runtime.inMaintenanceMode",
    "summary.hardware.numCpuThreads",
    "summary.hardware.memorySize",
    "summary.config.product.fullName",
    "customValue",
)
DATASTORE_PATHS = ("name", "summary.capacity", "summary.freeSpace", "summary.accessible")


@dataclass(frozen=True, slots=True)
class Place:
    """One object of the inventory: what names it to vCenter, its name, and what was read of it."""

    reference: Reference
    name: str
    found: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """What the settings name."""

    datacenter: Place
    cluster: Place
    machines: Reference
    """The datacenter's own folder of machines."""
    pool: Reference
    """The cluster's own resource pool."""


class Places:
    """The inventory's map of one driver."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._site: tuple[float, Site] | None = None
        self._networks: tuple[float, dict[str, Place]] | None = None
        self._hosts: dict[str, str] = {}

    def site(self) -> Site:
        """Datacenter and cluster; HypervisorRefused names what the settings would have to say."""
        if self._site is not None and time.monotonic() - self._site[0] < REMEMBERED_SECONDS:
            return self._site[1]
        settings = self._settings
        datacenter = self._one(None, vim.Datacenter, settings.datacenter, "datacenter", ("vmFolder",))
        cluster = self._one(
            datacenter.reference, vim.ClusterComputeResource, settings.compute_cluster, "compute_cluster", ("resourcePool",)
        )  # fmt: skip
        site = Site(datacenter, cluster, datacenter.found["vmFolder"], cluster.found["resourcePool"])
        self._site = (time.monotonic(), site)
        return site

    def hosts(self) -> dict[str, Place]:
        """The cluster's hosts as they are now, by name."""
        found = self._all(self.site().cluster.reference, vim.HostSystem, HOST_PATHS)
        self._hosts = {object_id(place.reference): place.name for place in found}
        return {place.name: place for place in sorted(found, key=lambda place: place.name)}

    def host(self, node: str) -> Place:
        """The host of that name; NotFound names those that there are."""
        hosts = self.hosts()
        if node not in hosts:
            raise NotFound(f"node {node!r} is not part of the cluster; nodes: {', '.join(hosts)}", node=node)
        return hosts[node]

    def node_of(self, host: str) -> str | None:
        """The name of the host with that id, None when it is not one of the cluster's."""
        if host not in self._hosts:
            self.hosts()
        return self._hosts.get(host)

    def datastores(self, cluster: str = "") -> list[Place]:
        """The datastores of the settings, or of a datastore cluster, the one with the most free space first.

        HypervisorRefused when there is none that can be used.
        """
        found = self._datastores()
        settings = self._settings
        pod = cluster or ("" if settings.datastore else settings.datastore_cluster)
        if pod:
            pods = self._all(self.site().datacenter.reference, vim.StoragePod, ("name", "childEntity"))
            named = [place for place in pods if place.name == pod]
            members = {object_id(one) for place in named for one in place.found.get("childEntity", ())}
            chosen = [place for place in found if object_id(place.reference) in members]
        else:
            chosen = [place for place in found if settings.datastore in {"", place.name}]
        usable = [place for place in chosen if place.found.get("summary.accessible", True)]
        if not usable:
            wanted = pod or settings.datastore or "any"
            known = ", ".join(sorted(place.name for place in found))
            raise HypervisorRefused(f"no datastore {wanted} that can be used; datastores: {known}", datastore=wanted)
        return sorted(usable, key=lambda place: (-int(place.found.get("summary.freeSpace", 0)), place.name))

    def datastore(self, name: str = "") -> Place:
        """A datastore by name, by default the settings'; InvalidRequest names those that there are."""
        if not name:
            return self.datastores()[0]
        found = self._datastores()
        for place in found:
            if place.name == name:
                return place
        known = ", ".join(sorted(place.name for place in found))
        raise InvalidRequest(f"datastore {name!r} is not there; datastores: {known}", field="pool", value=name)

    def folder(self, path: str = "") -> Reference:
        """A folder of machines by its path, by default the settings'; InvalidRequest when it is not there."""
        here = self.site().machines
        for part in [part for part in (path or self._settings.folder).split("/") if part]:
            here = self._child(here, part, path or self._settings.folder)
        return here

    def resource_pool(self, name: str = "") -> Reference:
        """A resource pool of the cluster by name, by default the settings', else the cluster's own."""
        wanted = name or self._settings.resource_pool
        if not wanted:
            return self.site().pool
        for place in self._all(self.site().cluster.reference, vim.ResourcePool, ("name",)):
            if place.name == wanted:
                return place.reference
        raise InvalidRequest(f"resource pool {wanted!r} is not in the cluster", field="resource_pool", value=wanted)

    def networks(self) -> dict[str, Place]:
        """Standard and distributed port groups by name."""
        if self._networks is not None and time.monotonic() - self._networks[0] < REMEMBERED_SECONDS:
            return self._networks[1]
        where = self.site().datacenter.reference
        known = {place.name: place for place in self._all(where, vim.Network, ("name",))}
        paths = ("name", "key", "config.distributedVirtualSwitch", "config.uplink")
        switches = self._all(where, vim.DistributedVirtualSwitch, ("name", "uuid"))
        uuids = {object_id(place.reference): place.found.get("uuid", "") for place in switches}
        groups = [
            Place(
                place.reference,
                place.name,
                {**place.found, "switch": uuids.get(object_id(place.found.get("config.distributedVirtualSwitch")), "")},
            )
            for place in self._all(where, vim.dvs.DistributedVirtualPortgroup, paths)
            if not place.found.get("config.uplink")
        ]
        known |= {place.name: place for place in groups}
        self._networks = (time.monotonic(), known)
        return known

    def network(self, name: str) -> Place:
        """A network by name; InvalidRequest names those that there are."""
        for attempt in (1, 2):
            if name in self.networks():
                return self.networks()[name]
            if attempt == 1:
                self._networks = None
        known = ", ".join(sorted(self.networks()))
        raise InvalidRequest(f"network {name!r} is not there; networks: {known}", field="network", value=name)

    def network_names(self) -> dict[str, str]:
        """Names of the distributed port groups by their keys."""
        return {str(one.found["key"]): one.name for one in self.networks().values() if "key" in one.found}

    def _datastores(self) -> list[Place]:
        """All of the datacenter, also those in folders and datastore clusters."""
        datacenter = self.site().datacenter.reference
        what = "list Datastore"
        [(_, values)] = self._connection.properties(what, vim.Datacenter, [datacenter], ["datastore"])
        found = self._connection.properties(what, vim.Datastore, list(values.get("datastore", ())), DATASTORE_PATHS)
        return [Place(one, unescaped(str(values.get("name", ""))), values) for one, values in found]

    def _one(self, where: Reference, kind: type, name: str, setting: str, paths: tuple[str, ...]) -> Place:
        found = self._all(where, kind, ("name", *paths))
        chosen = [place for place in found if not name or place.name == name]
        if len(chosen) != 1:
            known = ", ".join(sorted(place.name for place in found)) or "none"
            asked = f"{setting} {name!r} is not there" if name else f"{setting} has to be set"
            raise HypervisorRefused(f"{asked}; vCenter has: {known}", setting=setting)
        return chosen[0]

    def _all(self, where: Reference, kind: type, paths: tuple[str, ...]) -> list[Place]:
        found = self._connection.members(f"list {kind.__name__}", where, kind, paths)
        return [Place(one, unescaped(str(values.get("name", ""))), values) for one, values in found]

    def _child(self, folder: Reference, name: str, path: str) -> Reference:
        found = self._connection.read(
            f"find folder {path}", lambda s: s.bound(s.content.searchIndex).FindChild(s.bound(folder), name)
        )  # fmt: skip
        if not isinstance(found, vim.Folder):
            raise InvalidRequest(f"folder {path!r} is not there: it has no {name!r}", field="folder", value=path)
        return found
