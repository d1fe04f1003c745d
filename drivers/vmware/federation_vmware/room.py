"""Whether a host and a datastore have room for what a request asks.  Pure: it looks at what was read of them."""

from __future__ import annotations

from federation.contract.errors import InsufficientResources
from federation.contract.instances import BootImage, BootTemplate, Flavour, InstanceSpec
from federation_vmware.places import Place


def check_host(host: Place, flavour: Flavour) -> None:
    """InsufficientResources when the host could not run it even alone."""
    memory, threads = host.found.get("summary.hardware.memorySize"), host.found.get("summary.hardware.numCpuThreads")
    if memory is not None and flavour.memory_bytes > memory:
        raise InsufficientResources(
            f"node {host.name} has {memory} bytes of memory", node=host.name, field="flavour.memory_bytes"
        )
    if threads is not None and flavour.vcpus > threads:
        raise InsufficientResources(f"node {host.name} has {threads} processors", node=host.name, field="flavour.vcpus")


def check_datastore(datastore: Place, spec: InstanceSpec) -> None:
    """InsufficientResources when its disks, full, would not fit."""
    size = sum(disk.size_bytes for disk in spec.data_disks)
    if isinstance(spec.boot, BootImage | BootTemplate):
        size += spec.boot.size_bytes or 0
    free = datastore.found.get("summary.freeSpace")
    if free is not None and size > free:
        raise InsufficientResources(
            f"datastore {datastore.name} has {free} bytes free, the disks need {size}", datastore=datastore.name
        )
