"""Looking at broker, store and drivers: what ``doctor`` reports."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from federation.bus import topology
from federation.bus.broker_versions import known_defects
from federation.bus.connect import open_link
from federation.protocol.partition_map import SHARDS
from federation.store import open_store

_DRIVERS = "federation.drivers"
_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """What a broker says of itself and of our shared queues."""

    version: str
    known_defects: list[str]
    shared_queues: int
    waiting_results: int
    dead_letters: int


def examine_broker(url: str, timeout: float) -> BrokerFacts:
    """Connect within ``timeout`` seconds and look; raises BusUnavailable, AddressError."""
    link = open_link(url, "federation doctor")
    try:
        link.start(timeout)
        version = link.broker_version or "unknown broker"
        depths = [link.queue_depth(topology.results_queue(shard)) for shard in range(SHARDS)]
        dead = link.queue_depth(topology.DEAD_QUEUE)
        there = [depth[0] for depth in depths if depth is not None]
        return BrokerFacts(version, list(known_defects(version)), len(there), sum(there), dead[0] if dead else 0)
    finally:
        link.close(5.0)


def examine_store(url: str) -> str | None:
    """Read from the store, change nothing; None where there is no file of a SQLite store on this machine.

    Raises StoreUnavailable and the store's own errors.
    """
    if url.startswith(_SQLITE) and url != _SQLITE and not Path(url.removeprefix(_SQLITE)).exists():
        return None
    store = open_store(url, migrate=False)
    try:
        with store.reading() as transaction:
            return f"answers; {len(transaction.clusters())} clusters"
    finally:
        store.close()


def installed_drivers() -> dict[str, str]:
    """By driver name: the distribution and version that provides it."""
    found: dict[str, str] = {}
    for entry_point in importlib.metadata.entry_points(group=_DRIVERS):
        distribution = entry_point.dist
        found[entry_point.name] = f"{distribution.name} {distribution.version}" if distribution else entry_point.value
    return found
