"""What everything of ours is called on a hypervisor.  Pure.

Rules:

1. Whatever belongs to one instance begins with the instance's id, so it is found again after any crash.
2. A cached file is two volumes: the content, whose name holds checksum, instance and attempt that fetched it (no two
   writers ever share one), and an empty one with ``.ready`` added, made when the content is complete and its checksum
   was right.  Making a volume is atomic, so this is the rename that libvirt's storage does not have.
3. The ready name also says the format and the virtual size, so that nothing needs to be read again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

CACHED = "cached-"
_READY = re.compile(
    rf"^(?P<content>{CACHED}(?P<checksum>[a-z0-9]+-[0-9a-f]+)-[0-9a-f-]{{36}}\.\d+)"
    r"\.(?P<kind>[a-z0-9]+)\.(?P<virtual>\d+)\.ready$"
)


TEMPLATE = "template-"
_RESERVED = re.compile(rf"^({CACHED}|{TEMPLATE}|maintenance-|[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}[-.])")
_CONTENT = re.compile(rf"^{CACHED}(?P<checksum>[a-z0-9]+-[0-9a-f]+)-[0-9a-f-]{{36}}\.\d+\Z")


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A complete file of the cache: its volume, what it holds, and how large a disk of it is (bytes)."""

    volume: str
    kind: str
    virtual_bytes: int


@dataclass(frozen=True, slots=True)
class Template:
    """A complete template: its volume, the operation that captured it, and how large a disk of it is (bytes)."""

    volume: str
    operation: str
    virtual_bytes: int


def root_disk(instance: str) -> str:
    """Volume of the root disk."""
    return f"{instance}-root.qcow2"


def data_disk(instance: str, number: int) -> str:
    """Volume of a data disk, counted from 0."""
    return f"{instance}-data{number}.qcow2"


def guest_setup(instance: str) -> str:
    """Volume of the cloud-init medium."""
    return f"{instance}-cidata.iso"


def console_log(instance: str) -> str:
    """File of the serial console's log; virtlogd adds .0, .1 … when it rotates."""
    return f"{instance}.log"


def belongs_to(instance: str, volume: str) -> bool:
    """Whether a volume is one instance's own and goes with it."""
    return volume.startswith((f"{instance}-", f"{instance}."))


def cached_content(checksum: str, instance: str, attempt: int) -> str:
    """Volume for a file that is being fetched."""
    return f"{CACHED}{checksum.replace(':', '-')}-{instance}.{attempt}"


def ready_mark(content: str, kind: str, virtual_bytes: int) -> str:
    """Name of the empty volume that says that the content is complete."""
    return f"{content}.{kind}.{virtual_bytes}.ready"


def cached_files(checksum: str, volumes: Iterable[str]) -> list[CachedFile]:
    """The complete files with this checksum, in the order of their names."""
    present = frozenset(volumes)
    wanted = checksum.replace(":", "-")
    marks = (_READY.match(name) for name in sorted(present))
    return [
        CachedFile(mark["content"], mark["kind"], int(mark["virtual"]))
        for mark in marks
        if mark and mark["checksum"] == wanted and mark["content"] in present
    ]


def cached_file(volume: str, volumes: Iterable[str]) -> CachedFile | None:
    """The complete cached file whose content is in this volume, None when it is none."""
    for mark in map(_READY.match, volumes):
        if mark and mark["content"] == volume:
            return CachedFile(volume, mark["kind"], int(mark["virtual"]))
    return None


def checksum_of(file: CachedFile) -> str:
    """The checksum that a cached file's name holds, algorithm and digest with a colon between."""
    mark = _CONTENT.match(file.volume)
    if mark is None:
        raise ValueError(f"{file.volume} is no cached file")
    return mark["checksum"].replace("-", ":", 1)


def transfer_probe(instance: str) -> str:
    """The empty volume by which a migration finds out whether two nodes share a pool."""
    return f"{instance}-probe"


def unfinished_fetches(instance: str, volumes: Iterable[str]) -> list[str]:
    """Content volumes that this instance's creation began to fetch and never finished."""
    present = sorted(volumes)
    finished = {mark["content"] for mark in map(_READY.match, present) if mark}
    own = re.compile(rf"^{CACHED}[a-z0-9]+-[0-9a-f]+-{re.escape(instance)}\.\d+$")
    return [name for name in present if own.match(name) and name not in finished]


def reserved(volume: str) -> bool:
    """Whether a volume's name is one that the driver gives; nobody may attach, boot from or delete such a volume by it."""
    return bool(_RESERVED.match(volume))


def template_content(template: str, operation: str) -> str:
    """Volume of a template that is being captured; a second one with ``.ready`` in its name says that it is complete."""
    return f"{TEMPLATE}{template}.{operation}.qcow2"


def template_mark(template: str, operation: str, virtual_bytes: int) -> str:
    """Name of the empty volume that says that the template is complete, and how large a disk of it is."""
    return f"{TEMPLATE}{template}.{operation}.{virtual_bytes}.ready"


def templates(template: str, volumes: Iterable[str]) -> list[Template]:
    """The complete templates of that name, one unless two captures have met, in the order of their operations."""
    present = frozenset(volumes)
    marked = re.compile(rf"^{TEMPLATE}{re.escape(template)}\.(?P<operation>[0-9a-f-]{{36}})\.(?P<virtual>\d+)\.ready$")
    found = []
    for name in sorted(present):
        mark = marked.match(name)
        if mark and template_content(template, mark["operation"]) in present:
            content = template_content(template, mark["operation"])
            found.append(Template(content, mark["operation"], int(mark["virtual"])))
    return found


def capture(instance: str, operation: str) -> str:
    """Volume of a copy of the root disk on its way to a URL."""
    return f"{instance}-capture-{operation}"


def maintenance_mark(cluster: str) -> str:
    """The empty volume that says that a node takes no new instances of the cluster."""
    return f"maintenance-{cluster}"


def mac_address(instance: str, number: int) -> str:
    """A MAC address derived from the instance's id, below the prefix that QEMU uses."""
    digest = hashlib.sha256(f"{instance}/{number}".encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])
