"""What a driver is.

A driver is a class found by the entry point group ``federation.drivers``.  It has one method for every operation that
it serves, named like the operation, taking the call and the request and returning the result:

    def power_on(self, call: Call, request: PowerOn) -> Instance: ...

Methods may be called from several threads at once, never for the same instance.  A driver keeps no lock of its own
(claim C7) and raises errors of the catalogue only.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, Self

import msgspec

from federation.contract.nodes import Description


class Driver(Protocol):
    """The part of a driver that is not an operation."""

    settings: ClassVar[type[msgspec.Struct]]
    """The type of the driver's section of the worker's configuration file."""

    @classmethod
    def open(cls, settings: msgspec.Struct, cluster: str) -> Self:
        """Make the driver of one cluster; does not have to reach the hypervisor yet."""

    def description(self) -> Description:
        """Name, version, releases and capabilities; no I/O."""

    def close(self) -> None:
        """Let go of every connection."""
