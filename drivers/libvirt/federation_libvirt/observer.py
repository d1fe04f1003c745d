"""The conformance kit's own eyes on libvirt: it talks to the hosts directly, not through the driver.

An entry point of the group ``federation.conformance``; nothing of the driver uses it.
"""

from __future__ import annotations

import contextlib
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import libvirt

from federation_libvirt.connection import UNDEFINE_ALL, Native, drop_copy
from federation_libvirt.domain_xml import parse
from federation_libvirt.settings import Settings

_FOREIGN = """
<domain type='qemu'>
  <name>foreign-{id}</name><uuid>{id}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
  <os><type>hvm</type></os>
</domain>
"""


class LibvirtObserver:
    """Sees domains, their snapshots and saved memory, and every volume that bears an instance's id.

    Volumes are looked for in the pools that the settings name; the driver knows no others.
    """

    def __init__(self, settings: Settings, _cluster: str, _more: Mapping[str, str]) -> None:
        libvirt.registerErrorHandler(drop_copy, None)
        self._pools = frozenset({settings.pool, f"{settings.pool}-console", *settings.volume_pools})
        self._hosts = {node: libvirt.open(uri) for node, uri in settings.hosts.items()}

    def look(self, instance: str, stored: Sequence[str] = ()) -> Mapping[str, Any] | None:
        """Domain and volumes on each host that has one of them."""
        seen: dict[str, Any] = {}
        for node, host in self._hosts.items():
            domain = _find(host, instance)
            # A map, because what stands for two instances' ids has another order than the ids.
            volumes = {name: True for name in self._volumes(host) if _belongs(name, instance, stored)}
            if domain is not None or volumes:
                seen[node] = {"domain": None if domain is None else _shown(domain), "volumes": volumes}
        return seen or None

    def changes(self, _operation: str) -> int | None:
        """It cannot tell: libvirt does not know on whose behalf it is called."""
        return None

    def plant_foreign(self, node: str) -> str | None:
        """A running machine without disks."""
        machine = str(uuid.uuid4())
        self._hosts[node].defineXML(_FOREIGN.format(id=machine)).create()
        return machine

    def remove_foreign(self, machine: str) -> None:
        """Stop it and remove its definition."""
        for host in self._hosts.values():
            domain = _find(host, machine)
            if domain is not None:
                if domain.isActive():
                    domain.destroy()
                domain.undefineFlags(UNDEFINE_ALL)

    def discard(self, name: str) -> None:
        """Delete every volume of the name, in whatever format a capture gave it."""
        for host in self._hosts.values():
            for pool in self._active_pools(host):
                for volume in pool.listAllVolumes():
                    if volume.name() in {name, f"{name}.qcow2", f"{name}.raw"}:
                        volume.delete(0)

    def close(self) -> None:
        """Close the connections."""
        for host in self._hosts.values():
            host.close()

    def _active_pools(self, host: Native) -> list[Native]:
        return [pool for pool in host.listAllStoragePools() if pool.name() in self._pools and pool.isActive()]

    def _volumes(self, host: Native) -> Iterator[str]:
        for pool in self._active_pools(host):
            # libvirt refuses while it copies into the pool; what it knows of then is listed all the same.
            with contextlib.suppress(libvirt.libvirtError):
                pool.refresh(0)
            yield from pool.listVolumes()


def _find(host: Native, machine: str) -> Native | None:
    try:
        return host.lookupByUUIDString(machine)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _belongs(volume: str, instance: str, stored: Sequence[str]) -> bool:
    # A cached file bears the id of the operation or instance that fetched it, and is everybody's.
    return not volume.startswith("cached-") and (instance in volume or volume in stored)


def _shown(domain: Native) -> dict[str, Any]:
    root = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    metadata = root.find("metadata")
    return {
        "name": domain.name(),
        "state": domain.state()[0],
        "saved": bool(domain.hasManagedSaveImage()),
        "vcpus": root.findtext("vcpu"),
        "memory": root.findtext("memory"),
        "disks": sorted(_disk(disk) for disk in root.iter("disk")),
        "interfaces": sorted(mac.get("address", "") for mac in root.iterfind("devices/interface/mac")),
        "snapshots": {snapshot.getName(): True for snapshot in domain.listAllSnapshots()},
        "metadata": "" if metadata is None else ET.tostring(metadata, encoding="unicode"),
    }


def _disk(disk: ET.Element) -> str:
    target, source = disk.find("target"), disk.find("source")
    device = "" if target is None else target.get("dev", "")
    return f"{device} {'' if source is None else dict(source.attrib)}"
