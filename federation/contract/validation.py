"""Checks of requests and results at the edges: types, limits, capabilities.  Every refusal names field, value, expectation."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from federation.contract.capabilities import MEANING, Capabilities, Capability, NeedsCapability
from federation.contract.captures import CaptureUpload
from federation.contract.consoles import ConsoleKind
from federation.contract.errors import InvalidRequest, NotSupported
from federation.contract.instances import BootImage, BootTemplate, Firmware, Flavour, Interface
from federation.contract.operations import Operation
from federation.contract.requests import (
    AttachVolume,
    Create,
    CreateSnapshot,
    DetachVolume,
    GetConsoleOutput,
    MigrateMode,
    PowerOffMode,
    RebootMode,
    Request,
    Resize,
)
from federation.contract.since import Value, value_of

_Part = TypeVar("_Part")

VALUE_NEEDS: dict[Value, Capability] = {
    value_of(value): flag
    for value, flag in (
        (PowerOffMode.GRACEFUL, Capability.GRACEFUL_POWER_OFF),
        (RebootMode.SOFT, Capability.SOFT_REBOOT),
        (Firmware.UEFI, Capability.UEFI),
        (MigrateMode.LIVE, Capability.LIVE_MIGRATION),
        (MigrateMode.COLD, Capability.COLD_MIGRATION),
        (ConsoleKind.VNC, Capability.CONSOLE_VNC),
        (ConsoleKind.SPICE, Capability.CONSOLE_SPICE),
        (ConsoleKind.RDP, Capability.CONSOLE_RDP),
        (ConsoleKind.WEBMKS, Capability.CONSOLE_WEBMKS),
        (ConsoleKind.SERIAL, Capability.CONSOLE_SERIAL),
    )
}
"""Values of a request that ask for a capability; parts of a request ask for theirs by NeedsCapability."""
_FIELD_NEEDS: tuple[tuple[type[msgspec.Struct], str, Capability], ...] = (
    (Interface, "vlan", Capability.VLAN),
    (Flavour, "topology", Capability.CPU_TOPOLOGY),
    (BootTemplate, "linked", Capability.LINKED_TEMPLATES),
    (AttachVolume, "read_only", Capability.READ_ONLY_VOLUMES),
    (Resize, "live", Capability.HOT_RESIZE),
    (DetachVolume, "delete", Capability.NEW_VOLUMES),
    (CreateSnapshot, "memory", Capability.MEMORY_SNAPSHOTS),
    (CreateSnapshot, "quiesce", Capability.QUIESCED_SNAPSHOTS),
)
"""Fields that need a flag when they are set to anything but nothing."""


_DIGEST_LENGTHS = {"sha256": 64, "sha512": 128}
"""Hexadecimal digits of the checksums that every driver can compute."""


def parse_request(operation: Operation, arguments: Mapping[str, object]) -> Request:
    """Turn builtin types into the operation's request, or raise InvalidRequest."""
    try:
        request = msgspec.convert(arguments, operation.request, strict=True)
    except msgspec.ValidationError as error:
        message = f"{operation.name}: {error}"
        raise InvalidRequest(message, operation=operation.name) from error
    for flavour in _parts(request, Flavour):
        _check_topology(operation, flavour)
    for path, checksum in _checksums(request):
        _check_algorithm(operation, path, checksum)
    return request


def required_capabilities(operation: Operation, request: Request) -> frozenset[Capability]:
    """Which flags this very request needs: the operation's own and those of the parts and modes that it uses."""
    needs = {operation.capability} if operation.capability else set()
    for part in _walk(request):
        if isinstance(part, NeedsCapability):
            needs.add(part.capability)
        elif isinstance(part, enum.Enum) and value_of(part) in VALUE_NEEDS:
            needs.add(VALUE_NEEDS[value_of(part)])
        needs |= {flag for kind, field, flag in _FIELD_NEEDS if isinstance(part, kind) and getattr(part, field)}
    return frozenset(needs)


def check_capabilities(operation: Operation, request: Request, declared: Capabilities) -> None:
    """Raise NotSupported when a flag is missing, InvalidRequest when a declared limit is passed."""
    missing = sorted(required_capabilities(operation, request) - declared.flags)
    if missing:
        message = f"{operation.name} needs the capability {missing[0]} ({MEANING[missing[0]]}), which the driver does not declare"
        raise NotSupported(message, operation=operation.name, capability=", ".join(missing))
    for image in _walk(request):
        if isinstance(image, BootImage | CaptureUpload) and image.format not in (
            declared.image_formats or {image.format}
        ):
            known = ", ".join(sorted(declared.image_formats))
            message = f"{operation.name}: format is {image.format}, this driver takes {known}"
            raise NotSupported(message, field="format", value=image.format, expected=known)
    for path, value, limit in _limits(request, declared):
        if limit is not None and value > limit:
            message = f"{operation.name}: {path} is {value}, this driver takes at most {limit}"
            raise InvalidRequest(message, field=path, value=value, limit=limit)


def _limits(request: Request, declared: Capabilities) -> Iterator[tuple[str, int, int | None]]:
    limits = declared.limits
    for flavour in _parts(request, Flavour):
        yield "vcpus", flavour.vcpus, limits.max_vcpus
        yield "memory_bytes", flavour.memory_bytes, limits.max_memory_bytes
    if isinstance(request, Create):
        yield "number of data_disks", len(request.spec.data_disks), limits.max_data_disks
        yield "number of interfaces", len(request.spec.interfaces), limits.max_interfaces
    if isinstance(request, GetConsoleOutput):
        yield "max_bytes", request.max_bytes, limits.max_console_bytes


def _checksums(request: Request) -> Iterator[tuple[str, str]]:
    for part in _walk(request):
        if isinstance(part, msgspec.Struct):
            for name in part.__struct_fields__:
                value = getattr(part, name)
                if name.endswith("checksum") and isinstance(value, str):
                    yield name, value


def _check_algorithm(operation: Operation, path: str, checksum: str) -> None:
    """The field takes what later releases may know; this one knows two."""
    algorithm, _, digest = checksum.partition(":")
    if _DIGEST_LENGTHS.get(algorithm) != len(digest):
        known = " or ".join(f"{name}: and {length} digits" for name, length in _DIGEST_LENGTHS.items())
        message = f"{operation.name}: {path} is {checksum!r}, expected {known}"
        raise InvalidRequest(message, field=path, value=checksum)


def _check_topology(operation: Operation, flavour: Flavour) -> None:
    topology = flavour.topology
    if topology is None:
        return
    product = math.prod((topology.sockets, topology.cores, topology.threads))
    if product != flavour.vcpus:
        message = (
            f"{operation.name}: topology has {product} processors (sockets x cores x threads), vcpus is {flavour.vcpus}"
        )
        raise InvalidRequest(message, field="topology", value=product, expected=flavour.vcpus)


def _parts(request: Request, kind: type[_Part]) -> Iterator[_Part]:
    return (part for part in _walk(request) if isinstance(part, kind))


def _walk(value: object) -> Iterator[object]:
    yield value
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _walk(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _walk(item)
