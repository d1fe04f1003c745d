"""Drivers by name: the entry points of the group ``federation.drivers``, and their settings from a TOML file."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import msgspec

from federation.contract.driver import Driver
from federation.contract.errors import OperationError
from federation.contract.nodes import Description
from federation.contract.release import CURRENT, LOWEST, Release
from federation.worker.boundary import Served
from federation.worker.errors import DriverNotUsable, SettingsInvalid
from federation.worker.redaction import Redactor, class_name, secrets_of

GROUP = "federation.drivers"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenDriver:
    """A driver of one cluster, what it serves, and a redactor that knows the secrets of its settings."""

    driver: Driver
    served: Served
    description: Description
    redactor: Redactor


def find_driver(name: str, installed: Iterable[EntryPoint] | None = None) -> type[Driver]:
    """The driver class of this name; raises DriverNotUsable that says which are installed.

    ``installed`` are the entry points to choose from, by default those of this Python environment.
    """
    known = list(entry_points(group=GROUP) if installed is None else installed)
    found = {_provider(point): point for point in known if point.name == name}
    if not found:
        names = ", ".join(sorted({point.name for point in known})) or "none"
        message = f"no driver is called {name!r}; installed are: {names}"
        raise DriverNotUsable(message)
    if len(found) > 1:
        message = (
            f"the driver {name!r} is provided by several distributions: {', '.join(sorted(found))}; remove all but one"
        )
        raise DriverNotUsable(message)
    (point,) = found.values()
    try:
        driver: type[Driver] = point.load()
    except Exception as error:
        message = (
            f"the driver {name!r} of {_provider(point)} ({point.value}) cannot be loaded: {class_name(error)}: {error}"
        )
        raise DriverNotUsable(message) from error
    lacking = [part for part in ("settings", "open", "description", "close") if not hasattr(driver, part)]
    if lacking:
        message = f"the driver {name!r} of {_provider(point)} has no {', '.join(lacking)}"
        raise DriverNotUsable(message)
    return driver


def read_settings(path: Path | None, driver: type[Driver]) -> msgspec.Struct:
    """The driver's settings from the table ``[driver]`` of a TOML file; without a file, its defaults.

    Raises SettingsInvalid that names the file, the field, the type found and what was expected.
    """
    if path is None:
        table: object = {}
    else:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get("driver", {})
        except (OSError, UnicodeDecodeError) as error:
            message = f"{path}: cannot be read: {error}"
            raise SettingsInvalid(message) from error
        except tomllib.TOMLDecodeError as error:
            message = f"{path}: is not TOML: {error}"
            raise SettingsInvalid(message) from error
    where = "the driver's settings" if path is None else f"{path}: [driver]"
    if isinstance(table, dict):
        known = {field.encode_name for field in msgspec.structs.fields(driver.settings)}
        unknown = sorted(set(table) - known)
        if unknown:
            message = f"{where}: unknown field {unknown[0]!r}; known are: {', '.join(sorted(known))}"
            raise SettingsInvalid(message)
    try:
        return msgspec.convert(table, driver.settings, strict=True)
    except msgspec.ValidationError as error:
        message = f"{where}: {error}"
        raise SettingsInvalid(message) from error


def open_driver(driver: type[Driver], settings: msgspec.Struct, cluster: str) -> OpenDriver:
    """Open the driver for a cluster; raises DriverNotUsable."""
    redactor = Redactor(secrets_of(settings))
    try:
        opened = driver.open(settings, cluster)
        description = opened.description()
    except OperationError as error:
        message = f"the driver cannot be opened: {error.code}: {redactor.text(error.message)}"
        raise DriverNotUsable(message) from error
    except Exception as error:
        _log.error("driver does not open problem=%s\n%s", class_name(error), redactor.traceback(error))
        message = f"the driver cannot be opened: it raised {class_name(error)} (the log has where)"
        raise DriverNotUsable(message) from error
    announced = announced_by(description)
    return OpenDriver(opened, served_by(announced), announced, redactor)


def served_by(description: Description) -> Served:
    """What a description says, checked; raises DriverNotUsable."""
    try:
        description = msgspec.convert(msgspec.to_builtins(description), Description, strict=True)
        lowest, highest = (Release.parse(release) for release in description.releases)
    except (msgspec.ValidationError, TypeError, OperationError) as error:
        message = f"the driver's description breaks the contract: {error}"
        raise DriverNotUsable(message) from error
    if lowest > highest:
        message = f"the driver {description.driver} says that it serves releases {lowest} to {highest}: upside down"
        raise DriverNotUsable(message)
    return Served(description.driver, lowest, highest, description.capabilities)


def announced_by(description: Description) -> Description:
    """The description with the releases that driver and worker both serve; raises DriverNotUsable that names both ranges."""
    served = served_by(description)
    lowest, highest = max(LOWEST, served.lowest), min(CURRENT, served.highest)
    if lowest > highest:
        message = (
            f"the driver {served.driver} serves contract releases {served.lowest} to {served.highest}, this worker "
            f"{LOWEST} to {CURRENT}: upgrade the one whose range is lower"
        )
        raise DriverNotUsable(message)
    return msgspec.structs.replace(description, releases=(str(lowest), str(highest)))


def _provider(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module
