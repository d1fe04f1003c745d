"""Which brokers can carry the federation, and which known defects a version has (DESIGN 6.5.3, 6.5.4).

Sources: RabbitMQ's release notes for 4.1.2 and 4.3.6, and this project's own measurements on 4.0.5 and 4.3.6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from federation.bus.errors import UnsupportedBroker

PRODUCT = "RabbitMQ"
OLDEST = (4, 0, 0)

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Defect:
    """A defect of all versions from ``first`` to ``last``, both included, and what to do about it."""

    first: Version
    last: Version
    text: str


DEFECTS = (
    Defect(
        (4, 0, 0),
        (4, 1, 1),
        "a requeue during a single active consumer's takeover stalls the queue until that consumer disconnects; "
        "the federation never requeues, other programs on this broker may (upgrade to 4.1.2 or newer)",
    ),
    Defect(
        (4, 3, 0),
        (4, 3, 5),
        "a single-active-consumer queue deadlocks once every consumer has hit the consumer timeout "
        "(upgrade to 4.3.6 or newer)",
    ),
)


def parse_version(announced: str) -> Version:
    """Read ``4.0.5``, ``RabbitMQ 4.0.5`` or ``4.3.0-rc.1``; raises ValueError when there is no version in it."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", announced)
    if found is None:
        msg = f"{announced!r} names no version"
        raise ValueError(msg)
    major, minor, patch = found.groups(default="0")
    return int(major), int(minor), int(patch)


def known_defects(announced: str) -> list[str]:
    """The known defects of the broker that announced itself so, in words for an operator."""
    version = parse_version(announced)
    return [defect.text for defect in DEFECTS if defect.first <= version <= defect.last]


def read_announcement(server_properties: Mapping[str, object]) -> str:
    """``RabbitMQ 4.0.5`` from AMQP's server properties; raises UnsupportedBroker when it is not RabbitMQ ≥ 4.0."""
    product = str(server_properties.get("product") or "an unnamed broker")
    announced = f"{product} {server_properties.get('version') or 'of unknown version'}"
    try:
        version = parse_version(announced)
    except ValueError:
        version = (0, 0, 0)
    if product != PRODUCT or version < OLDEST:
        msg = f"{announced} cannot carry the federation, which needs {PRODUCT} 4.0 or newer"
        raise UnsupportedBroker(msg)
    return announced
