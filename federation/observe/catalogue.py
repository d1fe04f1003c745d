"""Every metric there is: name, kind, labels, unit, meaning.  What is exported, and the page in docs, are made from it.

Rules:

1. A name has its unit at its end; seconds, bytes and counts are not scaled.
2. Labels have few values: clusters and partitions that the store has, workers that are admitted, operations, error codes and
   drivers that are declared.  No instance, operation id, user or message text ever becomes one.
3. What is read from the store is the same at every manager: aggregate it with ``max``, not with ``sum``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """Prometheus' kinds; a counter's name ends in ``_total``."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; ``buckets`` (seconds) of a histogram only."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MARGINS = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 30.0)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, Kind.GAUGE, meaning, labels)


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, Kind.COUNTER, meaning, labels)


def _histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name, Kind.HISTOGRAM, meaning, labels, buckets)


ESTATE = (
    _gauge(
        "federation_cluster_info",
        "1 for each cluster; `release` is the contract release that it is pinned to, empty before its first worker.",
        "cluster",
        "driver",
        "release",
    ),
    _gauge(
        "federation_cluster_backlog_seconds",
        "The scaling signal: how long the admitted workers would need for what waits. +Inf where work waits for no worker.",
        "cluster",
    ),
    _gauge("federation_cluster_waiting_operations", "Operations that wait for a worker.", "cluster"),
    _gauge("federation_cluster_running_operations", "Operations that workers have been granted.", "cluster"),
    _gauge("federation_cluster_slots", "Operations that the admitted workers run side by side.", "cluster"),
    _gauge("federation_cluster_operation_seconds", "How long one operation holds a slot, in the mean.", "cluster"),
    _gauge("federation_cluster_parked", "Instances and nodes that are parked.", "cluster"),
    _gauge("federation_cluster_behind_parked_operations", "Operations that wait for an operator.", "cluster"),
    _gauge(
        "federation_cluster_oldest_waiting_seconds", "Age of the operation that waits longest for a worker.", "cluster"
    ),
    _gauge("federation_cluster_workers", "Workers by state: admitted, draining, left, lost.", "cluster", "state"),
    _gauge(
        "federation_partition_operations",
        "Operations by state: waiting, running, behind_parked. A partition without any has no series.",
        "cluster",
        "partition",
        "state",
    ),
    _gauge(
        "federation_partition_oldest_waiting_seconds",
        "Age of the operation of the partition that waits longest for a worker. No series where none waits.",
        "cluster",
        "partition",
    ),
    _gauge(
        "federation_partition_parked",
        "Instances and nodes of the partition that are parked. No series where there are none.",
        "cluster",
        "partition",
    ),
    _gauge(
        "federation_partition_active_worker",
        "1 for the worker that the broker has made the partition's active consumer; needs `[management] url`.",
        "cluster",
        "partition",
        "worker",
    ),
)
"""Read from the store (and the last from the broker): the same at every manager."""

MANAGER = (
    _gauge("federation_build_info", "1; the distribution's version.", "version"),
    _gauge("federation_broker_connected", "1 while the process is connected to the broker, else 0."),
    _gauge("federation_store_up", "1 when the store answered this scrape, else 0."),
    _gauge("federation_outbox_shards", "Shards of the outbox, of 32, that this manager publishes."),
    _gauge("federation_outbox_operations", "Operations in those shards that the broker has not confirmed."),
    _gauge("federation_outbox_oldest_seconds", "Since when the oldest of them waits; 0 when there is none."),
    _counter(
        "federation_publications_total",
        "Copies of operations: sent, confirmed by the broker, republished (their confirm was lost), swept (silent for too long).",
        "result",
    ),
    _gauge("federation_results_waiting", "Messages from workers that this process holds and has not applied."),
    _histogram(
        "federation_results_lag_seconds",
        "From the arrival of a message from a worker until it is committed: the longest of each batch.",
        _LAGS,
    ),
    _counter(
        "federation_answers_total", "Answers to workers' questions by verdict, the rows of the answer table.", "verdict"
    ),
    _counter(
        "federation_operations_settled_total",
        "Outcomes that this manager applied; `code` is `none` where there is no error.",
        "cluster",
        "operation",
        "state",
        "code",
    ),
    _histogram(
        "federation_operation_seconds",
        "From the acceptance of an operation until its outcome was applied.",
        _DURATIONS,
        "operation",
    ),
    _counter(
        "federation_messages_dropped_total",
        "Messages from workers that had no effect: forged (tells of an operation what cannot be so), not_granted (a broker "
        "user spoke for a worker that it is not granted), unreadable, unusable, superseded (an outcome of an attempt that "
        "was replaced).",
        "reason",
    ),
    _counter("federation_dead_letters_total", "Operations that the broker gave up.", "cluster", "partition"),
    _counter(
        "federation_manager_driver_bugs_total",
        "Outcomes and answers that broke the contract, by the worker's word or the manager's judgement.",
        "driver",
    ),
    _counter(
        "federation_deprecated_revision_uses_total",
        "Uses of a deprecated revision of an operation, by the kind of caller.",
        "operation",
        "revision",
        "caller",
    ),
    _counter(
        "federation_queue_reads_failed_total",
        "Reads of the broker's management API that failed; needs `[management] url`.",
    ),
)
"""A manager's own: sum them."""

WORKER = (
    _gauge("federation_build_info", "1; the distribution's version.", "version"),
    _gauge("federation_broker_connected", "1 while the process is connected to the broker, else 0."),
    _gauge("federation_worker_info", "1; what this worker is.", "worker", "cluster", "driver", "driver_version"),
    _gauge("federation_worker_admitted", "1 once a manager has admitted the worker, else 0."),
    _gauge("federation_worker_consuming", "1 while the worker consumes its cluster's partitions, else 0."),
    _gauge("federation_worker_deciding", "1 when the thread that decides answered this scrape, else 0."),
    _gauge("federation_worker_slots", "Operations that it runs side by side at most."),
    _gauge("federation_worker_in_flight_operations", "Operations that it asks for, runs or reports."),
    _gauge("federation_worker_held_deliveries", "Deliveries that it holds, those in flight included."),
    _gauge("federation_worker_revoked_calls", "Driver calls that have lost their leave and have not ended yet."),
    _gauge("federation_worker_partitions", "Partitions that brought it something within the last minute."),
    _counter(
        "federation_worker_guards_total",
        "Guards before a change on the hypervisor: passed, refused (the change was not made), waited (for a renewal).",
        "result",
    ),
    _histogram(
        "federation_worker_lease_margin_seconds",
        "How much of the lease was left at the closest guard of each operation.",
        _MARGINS,
    ),
    _counter(
        "federation_worker_events_total",
        "What happened: delivered, rejected, late_answers, answers_dropped, answers.VERDICT, reports_retried, port_failures, "
        "consumers_lost, progress_sent, heartbeats_failed, readmissions, queries_hung.",
        "event",
    ),
    _counter(
        "federation_driver_operations_total",
        "Operations that ended here; `code` is `succeeded`, `revoked` or the error's.",
        "driver",
        "cluster",
        "operation",
        "code",
    ),
    _counter(
        "federation_driver_queries_total", "Queries that were answered here.", "driver", "cluster", "operation", "code"
    ),
    _histogram(
        "federation_driver_operation_seconds",
        "Duration of the driver's calls, operations and queries.",
        _DURATIONS,
        "driver",
        "cluster",
        "operation",
    ),
    _counter("federation_driver_bugs_total", "How often the driver broke the contract.", "driver"),
)
"""A worker's own: sum them."""

ALL: dict[str, Metric] = {metric.name: metric for metric in (*ESTATE, *MANAGER, *WORKER)}
