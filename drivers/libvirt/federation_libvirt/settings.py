"""What an operator may set: the driver's section of the worker's configuration file.

Unknown fields are refused.  Credentials do not belong here: libvirt reads them itself (TLS certificates, SSH keys,
``auth.conf``), and what a URI still holds is blotted out of every message.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from federation.contract.fields import END

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Uri = Annotated[str, Meta(pattern=r"^qemu(\+[a-z0-9]+)?://", max_length=2048)]
AbsolutePath = Annotated[str, Meta(pattern=r"^/[^\x00-\x1f]*" + END, max_length=1024)]
PoolName = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,62}" + END)]
Address = Annotated[str, Meta(pattern="^[0-9A-Za-z.:-]{1,253}" + END)]
NodeKey = Annotated[str, Meta(min_length=1, max_length=255)]

NODE = "{node}"
"""Stands for the node's name in the paths below."""


class DomainType(enum.StrEnum):
    """How QEMU runs the guest's processors."""

    AUTO = "auto"
    """``kvm`` where libvirt lists it and the processor has vmx or svm, else ``qemu``."""
    KVM = "kvm"
    QEMU = "qemu"
    """Emulated (TCG): slow, works everywhere."""


class ImageRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where images, kernels and RAM disks may come from.  What is not listed is refused."""

    schemes: frozenset[str] = frozenset({"https"})
    """Any of ``https``, ``http``, ``file``; ``file`` means the worker's own file system."""
    hosts: tuple[str, ...] = ()
    """Host names for http and https: exact, or ``*.example.org`` for everything below, or ``*`` for every host.
    Redirects are held to the same list."""
    directories: tuple[AbsolutePath, ...] = ()
    """Directories for ``file``, with everything below; symbolic links are resolved before the check."""
    max_bytes: Annotated[int, Meta(ge=1)] = 64 << 30
    """The largest file that is fetched."""
    timeout_seconds: Seconds = 30.0
    """How long the image's server may stay silent."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the driver waits for libvirt."""

    connect_seconds: Seconds = 10.0
    """To open a connection, all tries together."""
    read_seconds: Seconds = 30.0
    """For an answer to a question; then the host counts as unreachable."""
    change_seconds: Seconds = 300.0
    """For a change to be done; then its outcome is unknown."""
    save_seconds: Seconds = 3600.0
    """For an instance's memory to be saved or restored."""
    copy_seconds: Seconds = 21600.0
    """For a disk to be copied on its node; then the outcome is unknown."""
    migrate_seconds: Seconds = 21600.0
    """For an instance to move to another node; then its outcome is unknown."""
    keepalive_seconds: Annotated[int, Meta(ge=1, le=3600)] = 5
    """Between two probes of a silent connection; three unanswered ones end it."""
    settle_tries: Annotated[int, Meta(ge=1, le=100)] = 6
    """How often the driver comes back to a host that was lost in the middle of a change, 1 to 5 s apart."""


class Migration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How nodes reach one another for a live migration, which the source's libvirtd carries out by itself."""

    uris: dict[NodeKey, Uri] = {}
    """Node name to the libvirt URI by which the *other nodes* reach it; default: the one in ``hosts``."""
    addresses: dict[NodeKey, Address] = {}
    """Node name to the IP address or host name to which memory and disks are sent; default: what the node calls itself."""
    tls: bool = False
    """Encrypt what is sent; the nodes need certificates (libvirt: VIR_MIGRATE_TLS)."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The driver's section of the worker's configuration."""

    hosts: Annotated[dict[NodeKey, Uri], Meta(min_length=1, max_length=1024)]
    """Node name to libvirt URI: ``qemu:///system``, ``qemu+unix://``, ``qemu+tls://``, ``qemu+ssh://``."""
    domain_type: DomainType = DomainType.AUTO
    machine: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{0,64}" + END)] = ""
    """QEMU machine type; empty means ``q35`` on x86_64, ``virt`` elsewhere."""
    pool: PoolName = "federation"
    """libvirt storage pool for disks and cached images; a directory pool of that name is made where there is none.
    A second one, with ``-console`` added, holds the guests' console logs."""
    pool_path: AbsolutePath = "/var/lib/libvirt/federation"
    """Directory on the node for a pool that has to be made; ``{node}`` stands for the node's name."""
    console_path: AbsolutePath = "/var/log/libvirt/federation"
    """Directory on the node for console logs; ``{node}`` stands for the node's name."""
    volume_pools: tuple[PoolName, ...] = ()
    """Further storage pools in which volumes and templates may lie; they are used as they are, never made."""
    images: ImageRules = ImageRules()
    uploads: ImageRules = ImageRules()
    """Where capture_image may send images; ``max_bytes`` is the largest that is sent."""
    vnc_listen: Annotated[str, Meta(pattern="^[0-9A-Fa-f.:]{2,45}" + END)] = "127.0.0.1"
    """Address on each node at which the graphical consoles of new instances listen.  VNC is not encrypted and its
    passwords have 8 characters: leave it at loopback unless the network is closed."""
    migration: Migration = Migration()
    reserved_memory_bytes: Annotated[int, Meta(ge=0)] = 512 << 20
    """Memory of each node that instances never get."""
    vcpu_overcommit: Annotated[float, Meta(ge=1, le=64)] = 4.0
    """Virtual processors for each real one that ``list_nodes`` offers."""
    timeouts: Timeouts = Timeouts()

    def pool_directory(self, node: str) -> str:
        """Where the disks of one node lie."""
        return self.pool_path.replace(NODE, node)

    def console_directory(self, node: str) -> str:
        """Where the console logs of one node lie."""
        return self.console_path.replace(NODE, node)
