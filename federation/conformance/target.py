"""What the kit runs against: the driver, its settings, and what may be used on its hypervisor.

The file is the worker's own configuration (``[driver]``) with one table more, ``[conformance]``.  ``{scratch}`` in any
text stands for a folder that the kit makes for the run and removes in the end, ``{process}`` for the name of the test
process (``main``, or ``gw0``, ``gw1`` … side by side), so that each can have a cluster, a pool and volumes of its own.
"""

from __future__ import annotations

import importlib
import os
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from federation.contract.driver import Driver
from federation.contract.fields import DiskBytes, MemoryBytes
from federation.contract.instances import BootSource, ImageFormat
from federation.worker.drivers import GROUP, find_driver
from federation.worker.errors import WorkerError

Seconds = Annotated[float, Meta(gt=0, le=86400)]
SCRATCH, PROCESS = "{scratch}", "{process}"


class TargetInvalid(Exception):
    """The target cannot be used; the message says what to correct."""


class Guest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the kit knows that a guest is up and listens to its power button; without ``ready_line`` it does at once."""

    ready_line: str = ""
    """A text that the guest prints on its serial console once it is up."""
    boot_seconds: Seconds = 90.0
    """How long it may take to print it."""
    agent_boot: str = ""
    """Kind of the boot source whose guest runs an agent, where that is not the first."""


class Conformance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[conformance]``; sizes are bytes, durations seconds.

    ``boots`` are boot sources as the contract writes them, the first is used wherever the kind does not matter; every
    kind whose capability the driver declares needs one.  ``unavailable_boots`` cannot be read; ``rejected_boots`` are not
    what their checksum says.  ``nodes`` are those to use, all that accept instances when empty.  ``networks`` are needed
    with the capability ``interfaces``, ``volumes`` (that nobody uses) with the capabilities that need one.  ``observer``
    (``module:attribute``) makes an :class:`federation.conformance.observing.Observer`; without it the entry point of the
    group ``federation.conformance`` that bears the driver's name is taken, else a second process of the driver looks.
    ``foreign`` are ids of machines that are not the federation's, for targets whose observer cannot plant one.
    """

    cluster: str = "conformance"
    tried_on: str = ""
    """What the driver is tried on, in words, such as "QEMU 10.0 with KVM, libvirt 11.3"; for the report."""
    boots: Annotated[tuple[BootSource, ...], Meta(min_length=1)]
    unavailable_boots: tuple[BootSource, ...] = ()
    rejected_boots: tuple[BootSource, ...] = ()
    nodes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    capture_url: str = ""
    """Folder (``file:`` or ``http:`` with PUT) for captured images; needed with the capability ``capture_upload``."""
    capture_format: ImageFormat = ImageFormat.QCOW2
    vcpus: Annotated[int, Meta(ge=1)] = 1
    memory_bytes: MemoryBytes = 256 << 20
    resized_memory_bytes: MemoryBytes = 320 << 20
    disk_bytes: DiskBytes = 16 << 20
    guest: Guest = Guest()
    operation_seconds: Seconds = 60.0
    query_seconds: Seconds = 30.0
    observer: str = ""
    observer_settings: dict[str, str] = {}
    foreign: tuple[str, ...] = ()
    side_by_side: Annotated[int, Meta(ge=2, le=64)] = 4


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One driver with all that is needed to try it; plain data, so that other processes can be told."""

    driver: str
    """A name of the entry point group ``federation.drivers``, or ``module:Class``."""
    settings: dict[str, Any]
    conformance: Conformance


def load_target(driver: str, config: Path, scratch: Path) -> Target:
    """Read the file; raises TargetInvalid that names the file and the field."""
    try:
        text = config.read_text(encoding="utf-8")
        process = os.environ.get("PYTEST_XDIST_WORKER", "main")
        tables = _fill(tomllib.loads(text), {SCRATCH: str(scratch), PROCESS: process})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TargetInvalid(f"{config}: cannot be read as TOML: {error}") from error
    if "conformance" not in tables:
        raise TargetInvalid(f"{config}: the table [conformance] is missing; it says what the kit may use")
    try:
        conformance = msgspec.convert(tables["conformance"], Conformance, strict=True)
    except msgspec.ValidationError as error:
        raise TargetInvalid(f"{config}: [conformance]: {error}") from error
    target = Target(driver=driver, settings=tables.get("driver", {}), conformance=conformance)
    convert_settings(target)
    return target


def driver_class(name: str) -> type[Driver]:
    """The class behind an entry point's name or ``module:Class``; raises TargetInvalid."""
    try:
        if ":" in name:
            found: type[Driver] = load(name)
            return found
        return find_driver(name)
    except WorkerError as error:
        raise TargetInvalid(str(error)) from error


def convert_settings(target: Target) -> msgspec.Struct:
    """The driver's settings in the driver's own type; raises TargetInvalid that names the field."""
    try:
        return msgspec.convert(target.settings, driver_class(target.driver).settings, strict=True)
    except msgspec.ValidationError as error:
        raise TargetInvalid(f"[driver]: {error}") from error


def load(reference: str) -> Any:
    """What ``module:attribute`` names; raises TargetInvalid."""
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise TargetInvalid(f"{reference!r} is no module:attribute that can be loaded: {error}") from error


def modules_to_preload(name: str) -> Iterable[str]:
    """The module that holds the driver, so that a process that is forked for a case finds it imported."""
    if ":" in name:
        return [name.partition(":")[0]]
    return [point.module for point in entry_points(group=GROUP) if point.name == name]


def _fill(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for stand_in, word in words.items():
            value = value.replace(stand_in, word)
        return value
    if isinstance(value, dict):
        return {name: _fill(part, words) for name, part in value.items()}
    if isinstance(value, list):
        return [_fill(part, words) for part in value]
    return value
