"""The annotated field types that requests share: one limit, one pattern, one unit for each word."""

from __future__ import annotations

import datetime as dt
import functools
from typing import Annotated

from msgspec import Meta

END = r"$(?!\n)"
"""The end of a text in every dialect of patterns; ``$`` alone also matches before a last line break in Python."""

LINE = r"^[^\x00-\x1f\x7f]*" + END
"""Text of one line: no control characters, which no hypervisor's XML can carry."""

UUID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}" + END

InstanceId = Annotated[str, Meta(pattern=UUID_PATTERN, description="UUID of the instance, lower case, with hyphens.")]
InstanceName = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?" + END,
        max_length=63,
        description="Name of the instance: 1 to 63 letters, digits, dots, hyphens, underscores; unique within a cluster.",
    ),
]
NodeName = Annotated[
    str, Meta(min_length=1, max_length=255, pattern=LINE, description="Name of a node as list_nodes gives it.")
]
MemoryBytes = Annotated[
    int, Meta(ge=1 << 24, le=1 << 45, multiple_of=1 << 20, description="Memory in bytes, whole MiB.")
]
DiskBytes = Annotated[
    int, Meta(ge=1 << 20, le=1 << 50, multiple_of=1 << 20, description="Disk size in bytes, whole MiB.")
]
VcpuCount = Annotated[int, Meta(ge=1, le=4096, description="Number of virtual processors.")]
TimeoutSeconds = Annotated[float, Meta(gt=0, le=86400, description="A duration in seconds.")]
Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2048,
        pattern=r"^[a-z][a-z0-9+.-]*://[^\x00-\x20\x7f]+" + END,
        description="Absolute URL, without blanks.",
    ),
]
Checksum = Annotated[
    str,
    Meta(
        pattern="^[a-z0-9]+(-[a-z0-9]+)*:[0-9a-f]{32,256}" + END,
        description="Algorithm and hexadecimal digest of the file: sha256 or sha512.",
    ),
]
MacAddress = Annotated[
    str, Meta(pattern="^([0-9a-f]{2}:){5}[0-9a-f]{2}" + END, description="MAC address, lower case, colons.")
]
ShortText = Annotated[str, Meta(max_length=255, pattern=LINE)]
NonEmptyText = Annotated[str, Meta(min_length=1, max_length=255, pattern=LINE)]
UserData = Annotated[str, Meta(max_length=65535, description="cloud-init user data; the length counts characters.")]
SshKey = Annotated[
    str, Meta(min_length=1, max_length=16384, pattern=LINE, description="One line of an authorized_keys file.")
]
ExtensionText = Annotated[str, Meta(max_length=4096, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*" + END)]
ExtensionNumber = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Extension = Annotated[dict[NonEmptyText, ExtensionText | ExtensionNumber | bool], Meta(max_length=64)]
Extensions = Annotated[
    dict[NonEmptyText, Extension],
    Meta(max_length=8, description="Options of one driver, under the driver's name; other drivers ignore them."),
]
Metadata = Annotated[dict[NonEmptyText, ShortText], Meta(max_length=128)]
PoolName = Annotated[
    str,
    Meta(
        max_length=255,
        pattern=LINE,
        description="Where the hypervisor keeps volumes and templates (libvirt: storage pool, vSphere: datastore, "
        "Hyper-V: folder); empty means the one that the driver is configured with.",
    ),
]
StoredName = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?" + END,
        max_length=128,
        description="Name of a volume or template to be made: 1 to 128 letters, digits, dots, hyphens, underscores.",
    ),
]
ExistingName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern="^[^\\x00-\\x1f]+" + END,
        description="Name of a volume or template that exists, as the hypervisor has it; never a way out of its pool.",
    ),
]
PageToken = Annotated[
    str, Meta(min_length=1, max_length=1024, description="Where to continue, as the last page said; opaque.")
]
Instant = Annotated[dt.datetime, Meta(tz=True, description="An instant, UTC.")]
SnapshotId = Annotated[
    str, Meta(pattern=UUID_PATTERN, description="UUID of the snapshot: the id of the operation that made it.")
]
SnapshotName = Annotated[
    str, Meta(min_length=1, max_length=80, pattern=LINE, description="Name for people; need not be unique.")
]
VlanId = Annotated[int, Meta(ge=1, le=4094, description="VLAN id by IEEE 802.1Q.")]
UserName = Annotated[
    str,
    Meta(pattern="^[^:\\x00-\\x1f]+" + END, max_length=64, description="Name of an account in the guest."),
]
Password = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern="^[^\\x00-\\x1f]+" + END,
        description="A password: never shown, never logged, removed from the store when the operation is settled.",
    ),
]
SECRET_FIELDS = frozenset({"user_data", "password", "ticket"})
"""Fields of requests and results, wherever they stand, whose values are never shown, logged or kept longer than needed."""
_SECRET_ENDINGS = ("_secret", "_password", "_token")


@functools.lru_cache(maxsize=1024)
def is_secret(field: str) -> bool:
    """Whether a field of that name holds a secret, also one of a newer release; new secrets get such a name."""
    return field in SECRET_FIELDS or field.endswith(_SECRET_ENDINGS)
