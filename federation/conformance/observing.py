"""Looking at the hypervisor with other eyes than the driver under test.

What a driver says of itself proves little: a driver that lies, lies in its queries too.  A driver's author therefore gives
the kit an *observer* that talks to the hypervisor directly (entry point group ``federation.conformance`` under the
driver's name, or ``observer`` in the target).  Without one a second process of the driver looks, which still finds what
a stale cache hides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol

import msgspec

from federation.conformance.process import DriverProcess
from federation.conformance.target import Target, TargetInvalid, convert_settings, load

GROUP = "federation.conformance"


class Observer(Protocol):
    """The kit's own eyes and hands on the hypervisor; made with the driver's settings, the cluster and ``observer_settings``."""

    def look(self, instance: str, stored: Sequence[str] = ()) -> Mapping[str, Any] | None:
        """All that bears this instance's id now, leftovers too, as comparable builtin values; None when there is nothing.

        ``stored`` are names of volumes and templates that are looked for, too.  Two looks at one thing that nobody
        changed are equal; what changes by itself (times, counters) is left out.
        """

    def changes(self, operation: str) -> int | None:
        """How many changing calls have reached the hypervisor for this operation, None when it cannot tell."""

    def plant_foreign(self, node: str) -> str | None:
        """Make a machine that is not the federation's on the node and return its id; None when it cannot."""

    def remove_foreign(self, machine: str) -> None:
        """Remove a machine that was planted, or whatever became of it."""

    def discard(self, name: str) -> None:
        """Remove the volume or template of this name from storage if it is there; the contract deletes no templates."""

    def close(self) -> None:
        """Let go of the hypervisor."""


class DriverObserver:
    """The default: a process of its own with the same driver, so at least nothing is remembered."""

    def __init__(self, target: Target) -> None:
        self._process = DriverProcess(target)

    def look(self, instance: str, _stored: Sequence[str] = ()) -> Mapping[str, Any] | None:
        """What get_instance says; volumes that are not attached it cannot see."""
        run = self._process.run("get_instance", {"instance": instance})
        if run.code == "not_found":
            return None
        seen = run.result()
        # What a guest reports comes and goes by itself.
        seen["interfaces"] = [{k: v for k, v in one.items() if k != "addresses"} for one in seen["interfaces"]]
        return {name: value for name, value in seen.items() if name != "guest"}

    def changes(self, _operation: str) -> int | None:
        """It cannot tell."""
        return None

    def plant_foreign(self, _node: str) -> str | None:
        """It cannot: the federation makes no foreign machines."""
        return None

    def remove_foreign(self, machine: str) -> None:
        """Nothing was planted."""

    def discard(self, name: str) -> None:
        """It cannot: what a case captured stays."""

    def close(self) -> None:
        """End the process."""
        self._process.close()


def make_observer(target: Target) -> Observer:
    """The target's observer, the driver's own, or the default; raises TargetInvalid."""
    reference = target.conformance.observer
    if reference:
        make = load(reference)
    else:
        points = [point for point in entry_points(group=GROUP) if point.name == target.driver]
        if not points:
            return DriverObserver(target)
        make = points[0].load()
    try:
        observer: Observer = make(
            convert_settings(target), target.conformance.cluster, target.conformance.observer_settings
        )
    except (OSError, ValueError, TypeError) as error:
        raise TargetInvalid(f"the observer {reference or target.driver} cannot be made: {error}") from error
    return observer


_TIMES = frozenset({"created_at", "at", "expires_at", "addresses", "checksum"})
"""Fields that differ between two runs of the same thing."""
_MAC = re.compile(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b")


def comparable(value: Any, *identities: tuple[str, str]) -> Any:
    """The value with each identity (text, stand-in), MAC addresses and times replaced, so that two instances compare."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    if isinstance(value, str):
        for text, stand_in in identities:
            if text:
                value = value.replace(text, stand_in).replace(text.replace("-", ""), stand_in)
        return _MAC.sub("<mac>", value)
    if isinstance(value, Mapping):
        return {
            comparable(name, *identities): "<other>" if name in _TIMES else comparable(part, *identities)
            for name, part in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [comparable(part, *identities) for part in value]
    return value
