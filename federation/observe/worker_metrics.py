"""A worker's metrics."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from federation.observe.families import Families, histogram

_GAUGES = {
    "federation_worker_slots": "max_operations",
    "federation_worker_in_flight_operations": "running",
    "federation_worker_held_deliveries": "held",
    "federation_worker_revoked_calls": "revoked",
    "federation_worker_partitions": "partitions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerIdentity:
    """What a worker is."""

    version: str
    worker: str
    cluster: str
    driver: str
    driver_version: str


class WorkerFigures(Protocol):
    """What is read of a worker; every method returns within two seconds."""

    def counted(self) -> Mapping[str, Any]:
        """events, operations and queries (by ``name.end``), guards, driver_bugs: times since the start."""

    def load(self) -> Mapping[str, float]:
        """running, held, revoked, partitions, max_operations now; empty when the thread that decides does not answer."""

    @property
    def admitted(self) -> bool:
        """Whether a manager has admitted it."""

    @property
    def consuming(self) -> bool:
        """Whether it consumes its partitions."""

    @property
    def broker_connected(self) -> bool:
        """Whether it is connected."""


class WorkerMeter:
    """Takes durations where they arise: two short calls for an operation."""

    def __init__(self, registry: CollectorRegistry, identity: WorkerIdentity) -> None:
        # The library checks labels at every look-up, which costs more than counting; they are few.
        self._duration_of = functools.cache(histogram("federation_driver_operation_seconds", registry).labels)
        self._margins = histogram("federation_worker_lease_margin_seconds", registry)
        self._place = (identity.driver, identity.cluster)

    def lasted(self, operation: str, seconds: float) -> None:
        """A driver's call of a declared operation or query ended."""
        self._duration_of(*self._place, operation).observe(seconds)

    def margin(self, seconds: float) -> None:
        """An operation ended; so much of its lease was left at its closest guard."""
        self._margins.observe(seconds)


class WorkerCollector(Collector):
    """Reads a worker for one scrape."""

    def __init__(self, figures: WorkerFigures, identity: WorkerIdentity) -> None:
        self._figures = figures
        self._identity = identity

    def collect(self) -> Iterator[Metric]:
        """All but the histograms."""
        families, identity, figures = Families(), self._identity, self._figures
        families.add("federation_build_info", 1, version=identity.version)
        families.add("federation_broker_connected", figures.broker_connected)
        families.add(
            "federation_worker_info",
            1,
            worker=identity.worker,
            cluster=identity.cluster,
            driver=identity.driver,
            driver_version=identity.driver_version,
        )
        families.add("federation_worker_admitted", figures.admitted)
        families.add("federation_worker_consuming", figures.consuming)
        load = figures.load()
        families.add("federation_worker_deciding", bool(load))
        for name, key in _GAUGES.items():
            if key in load:
                families.add(name, load[key])
        self._count(families)
        yield from families.collect()

    def _count(self, families: Families) -> None:
        counted = self._figures.counted()
        place = {"driver": self._identity.driver, "cluster": self._identity.cluster}
        guards = counted["guards"]
        results = ((result, guards.get(result, 0)) for result in ("passed", "refused", "waited"))
        families.add_all("federation_worker_guards_total", "result", results)
        families.add_all("federation_worker_events_total", "event", counted["events"].items())
        for metric, group in (
            ("federation_driver_operations_total", "operations"),
            ("federation_driver_queries_total", "queries"),
        ):
            for name, times in counted[group].items():
                operation, _, code = name.partition(".")
                families.add(metric, times, **place, operation=operation, code=code)
        bugs = sum(counted["driver_bugs"].values())
        families.add("federation_driver_bugs_total", bugs, driver=self._identity.driver)
