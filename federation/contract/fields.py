"""The annotated field types that requests share: one limit, one pattern, one unit for each word."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

END = r"$(?!\n)"
"""The end of a text in every dialect of patterns; ``$`` alone also matches before a last line break in Python."""

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
NodeName = Annotated[str, Meta(min_length=1, max_length=255, description="Name of a node as list_nodes gives it.")]
MemoryBytes = Annotated[
    int, Meta(ge=1 << 24, le=1 << 45, multiple_of=1 << 20, description="Memory in bytes, whole MiB.")
]
DiskBytes = Annotated[
    int, Meta(ge=1 << 20, le=1 << 50, multiple_of=1 << 20, description="Disk size in bytes, whole MiB.")
]
VcpuCount = Annotated[int, Meta(ge=1, le=4096, description="Number of virtual processors.")]
TimeoutSeconds = Annotated[float, Meta(gt=0, le=86400, description="A duration in seconds.")]
Url = Annotated[str, Meta(min_length=1, max_length=2048, pattern="^[a-z][a-z0-9+.-]*://", description="Absolute URL.")]
Checksum = Annotated[
    str,
    Meta(
        pattern="^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})" + END,
        description="Algorithm and hexadecimal digest of the file.",
    ),
]
MacAddress = Annotated[
    str, Meta(pattern="^([0-9a-f]{2}:){5}[0-9a-f]{2}" + END, description="MAC address, lower case, colons.")
]
ShortText = Annotated[str, Meta(max_length=255)]
UserData = Annotated[str, Meta(max_length=65535, description="cloud-init user data.")]
SshKey = Annotated[str, Meta(max_length=16384, description="One line of an authorized_keys file.")]
Extension = Annotated[dict[ShortText, str | int | bool], Meta(max_length=64)]
Extensions = Annotated[
    dict[ShortText, Extension],
    Meta(max_length=8, description="Options of one driver, under the driver's name; other drivers ignore them."),
]
Metadata = Annotated[dict[ShortText, ShortText], Meta(max_length=128)]
