"""What has become of machines, whoever did it, in the past tense.  Pure: two looks at the inventory in, events out.

The watcher tells them to its listeners as it learns of them, also of what happened while its session was lost.  Changes that
undo one another between two looks are none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from federation.contract.instances import PowerState
from federation_vmware.facts import Look

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to the machine that ``look`` shows, as it was at its last look."""

    look: Look


@dataclass(frozen=True, slots=True)
class Appeared(Event):
    """It was made, registered, or moved into the datacenter."""


@dataclass(frozen=True, slots=True)
class Vanished(Event):
    """It was removed, unregistered, or moved out of the datacenter."""


@dataclass(frozen=True, slots=True)
class PowerChanged(Event):
    """It was started, stopped, suspended, or is out of sight (unknown)."""

    before: PowerState


@dataclass(frozen=True, slots=True)
class Moved(Event):
    """It is on another host: migrated, by somebody, by vSphere's balancing, or after a host failed."""

    before: str


Listener = Callable[[Event], None]


def between(before: Mapping[str, Look], after: Mapping[str, Look]) -> list[Event]:
    """What has happened between two looks at the same machines, by vCenter's ids."""
    found: list[Event] = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None and new is not None:
            found.append(Appeared(new))
        elif new is None and old is not None:
            found.append(Vanished(old))
        elif old is not None and new is not None and old is not new:
            if old.power_state is not new.power_state:
                found.append(PowerChanged(new, old.power_state))
            if old.host != new.host:
                found.append(Moved(new, old.host))
    return found


def logged(cluster: str) -> Listener:
    """A listener that logs: what happens to our machines at INFO, to others' at DEBUG."""

    def listen(event: Event) -> None:
        level = logging.DEBUG if event.look.owner(cluster) is None else logging.INFO
        logger.log(level, "instance %s (%s) %s", event.look.id or "without an id", event.look.name, _told(event))

    return listen


def _told(event: Event) -> str:
    match event:
        case PowerChanged(look, before):
            return f"was {before}, is {look.power_state}"
        case Moved(look, before):
            return f"has moved from host {before} to {look.host}"
        case Vanished():
            return "has gone from vCenter's inventory"
        case _:
            return "has come into vCenter's inventory"
