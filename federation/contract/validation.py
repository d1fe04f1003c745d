"""Checks of requests and results at the edges: types, limits, capabilities.  Every refusal names field, value, expectation."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from federation.contract.capabilities import MEANING, Capabilities, Capability, NeedsCapability
from federation.contract.errors import InvalidRequest, NotSupported
from federation.contract.instances import Firmware, Flavour
from federation.contract.operations import Operation
from federation.contract.requests import Create, GetConsoleOutput, PowerOffMode, RebootMode, Request

_Part = TypeVar("_Part")

_VALUE_NEEDS: dict[enum.Enum, Capability] = {
    PowerOffMode.GRACEFUL: Capability.GRACEFUL_POWER_OFF,
    RebootMode.SOFT: Capability.SOFT_REBOOT,
    Firmware.UEFI: Capability.UEFI,
}


def parse_request(operation: Operation, arguments: Mapping[str, object]) -> Request:
    """Turn builtin types into the operation's request, or raise InvalidRequest."""
    try:
        request = msgspec.convert(arguments, operation.request, strict=True)
    except msgspec.ValidationError as error:
        message = f"{operation.name}: {error}"
        raise InvalidRequest(message, operation=operation.name) from error
    for flavour in _parts(request, Flavour):
        _check_topology(operation, flavour)
    return request


def required_capabilities(operation: Operation, request: Request) -> frozenset[Capability]:
    """Which flags this very request needs: the operation's own and those of the parts and modes that it uses."""
    needs = {operation.capability} if operation.capability else set()
    for part in _walk(request):
        if isinstance(part, NeedsCapability):
            needs.add(part.capability)
        elif isinstance(part, enum.Enum) and part in _VALUE_NEEDS:
            needs.add(_VALUE_NEEDS[part])
    return frozenset(needs)


def check_capabilities(operation: Operation, request: Request, declared: Capabilities) -> None:
    """Raise NotSupported when a flag is missing, InvalidRequest when a declared limit is passed."""
    missing = sorted(required_capabilities(operation, request) - declared.flags)
    if missing:
        message = f"{operation.name} needs the capability {missing[0]} ({MEANING[missing[0]]}), which the driver does not declare"
        raise NotSupported(message, operation=operation.name, capability=", ".join(missing))
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
