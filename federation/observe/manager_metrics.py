"""A manager's metrics: its own, and those of the estate that it reads from the store."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from federation.contract.outcomes import Outcome
from federation.observe.catalogue import ALL
from federation.observe.families import Families, histogram
from federation.protocol.errors import StoreUnavailable
from federation.protocol.figures import ClusterFigures, PartitionFigures
from federation.protocol.records import OperationRecord

log = logging.getLogger(__name__)

_NOT_VERDICTS = {"forged", "unreadable", "unusable", "dropped_outcome"}
_DROPPED = {"forged": "forged", "unreadable": "unreadable", "unusable": "unusable", "superseded": "dropped_outcome"}


class ManagerFigures(Protocol):
    """What is read of a manager; every method returns within a few seconds."""

    def counted(self) -> Mapping[str, Mapping[str, int]]:
        """What it has counted since it started, by group and name."""

    def gauges(self) -> Mapping[str, float]:
        """By the names of gauges of this manager that need no store."""

    def clusters(self) -> list[ClusterFigures]:
        """The load of every cluster; raises StoreUnavailable."""

    def outbox(self) -> tuple[int, float]:
        """How much waits to be given to the broker, and for how many seconds the oldest; raises StoreUnavailable."""

    def active_workers(self, clusters: Collection[str]) -> Mapping[tuple[str, int], str] | None:
        """Who is the broker's active consumer of each partition of these clusters; None where that is not known."""

    @property
    def version(self) -> str:
        """The distribution's."""


class ManagerMeter:
    """Takes what is counted and timed where it arises."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = ALL["federation_operations_settled_total"]
        self._settled = Counter(metric.name, metric.meaning, metric.labels, registry=registry)
        # The library checks labels at every look-up, which costs more than counting; they are few.
        self._count_of = functools.cache(self._settled.labels)
        self._duration_of = functools.cache(histogram("federation_operation_seconds", registry).labels)
        self._lags = histogram("federation_results_lag_seconds", registry)

    def settled(self, record: OperationRecord, outcome: Outcome) -> None:
        """An outcome was applied."""
        code = outcome.code or "none"
        self._count_of(record.cluster, record.name, outcome.kind.value, code).inc()
        if record.finished_at is not None:
            self._duration_of(record.name).observe(max(0.0, record.finished_at - record.submitted_at))

    def applied(self, seconds: float) -> None:
        """A batch of results is committed; its first has waited for so long."""
        self._lags.observe(seconds)


class ManagerCollector(Collector):
    """Reads a manager for one scrape; what the store does not tell now has no series."""

    def __init__(self, figures: ManagerFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """All but what the meter takes."""
        families = Families()
        families.add("federation_build_info", 1, version=self._figures.version)
        for name, value in self._figures.gauges().items():
            families.add(name, value)
        self._count(families)
        try:
            clusters = self._figures.clusters()
            waiting, oldest = self._figures.outbox()
        except StoreUnavailable as error:
            log.warning("store unavailable, a scrape goes without its figures: %s", error)
            families.add("federation_store_up", 0)
        else:
            families.add("federation_store_up", 1)
            families.add("federation_outbox_operations", waiting)
            families.add("federation_outbox_oldest_seconds", oldest)
            for cluster in clusters:
                _tell_cluster(families, cluster)
            self._tell_active(families, {cluster.cluster for cluster in clusters})
        yield from families.collect()

    def _count(self, families: Families) -> None:
        counted = self._figures.counted()
        families.add_all("federation_publications_total", "result", counted["published"].items())
        results = counted["results"]
        verdicts = {
            name: n for name, n in results.items() if name not in _NOT_VERDICTS and not name.startswith("outcome_")
        }
        families.add_all("federation_answers_total", "verdict", verdicts.items())
        dropped = {reason: results.get(name, 0) for reason, name in _DROPPED.items()}
        dropped["not_granted"] = sum(counted["not_granted"].values())
        families.add_all("federation_messages_dropped_total", "reason", dropped.items())
        families.add_all("federation_manager_driver_bugs_total", "driver", counted["driver_bugs"].items())
        for name, times in counted["deprecated"].items():
            operation, revision, caller = name.rsplit(".", 2)
            families.add(
                "federation_deprecated_revision_uses_total",
                times,
                operation=operation,
                revision=revision,
                caller=caller,
            )
        for name, times in counted["dead_lettered"].items():
            cluster, _, partition = name.rpartition(".")
            families.add("federation_dead_letters_total", times, cluster=cluster, partition=partition)
        families.add("federation_queue_reads_failed_total", counted["queue_reads"].get("failed", 0))

    def _tell_active(self, families: Families, clusters: Collection[str]) -> None:
        active = self._figures.active_workers(clusters)
        for (cluster, partition), worker in sorted((active or {}).items()):
            families.add(
                "federation_partition_active_worker", 1, cluster=cluster, partition=str(partition), worker=worker
            )


def _tell_cluster(families: Families, figures: ClusterFigures) -> None:
    name = figures.cluster
    families.add("federation_cluster_info", 1, cluster=name, driver=figures.driver, release=figures.release or "")
    backlog = math.inf if figures.backlog_seconds is None else figures.backlog_seconds
    for metric, value in (
        ("backlog_seconds", backlog),
        ("waiting_operations", figures.waiting),
        ("running_operations", figures.running),
        ("slots", figures.slots),
        ("operation_seconds", figures.seconds_each),
        ("parked", figures.parked),
        ("behind_parked_operations", figures.behind_parked),
        ("oldest_waiting_seconds", figures.oldest_waiting_seconds),
    ):
        families.add(f"federation_cluster_{metric}", value, cluster=name)
    families.add_all("federation_cluster_workers", "state", figures.workers.items(), cluster=name)
    for partition in figures.partitions:
        _tell_partition(families, partition, figures.read_at)


def _tell_partition(families: Families, figures: PartitionFigures, now: float) -> None:
    place = {"cluster": figures.cluster, "partition": str(figures.partition)}
    states = (
        ("waiting", figures.waiting),
        ("running", figures.running),
        ("behind_parked", figures.behind_parked),
    )
    families.add_all("federation_partition_operations", "state", states, **place)
    if figures.oldest_waiting_at is not None:
        age = max(0.0, now - figures.oldest_waiting_at)
        families.add("federation_partition_oldest_waiting_seconds", age, **place)
    if figures.parked:
        families.add("federation_partition_parked", figures.parked, **place)
