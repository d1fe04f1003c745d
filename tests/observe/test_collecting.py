"""Samples are those of the catalogue, with bounded labels, and a store that is gone does not take the others along."""

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.observe.catalogue import ALL, ESTATE, MANAGER, WORKER, Kind
from federation.observe.families import Families
from federation.observe.manager_metrics import ManagerCollector, ManagerMeter
from federation.observe.worker_metrics import WorkerCollector, WorkerIdentity, WorkerMeter
from federation.protocol.errors import StoreUnavailable
from federation.protocol.figures import ClusterFigures, PartitionFigures
from federation.protocol.records import OperationRecord, OperationState
from federation.worker.counters import Counters


class Manager:
    """The port ManagerFigures, held in a hand."""

    version = "1.2.3"
    store_fails = False
    active = None

    def counted(self):
        return {
            "deprecated": {"attach_volume.1.api": 3},
            "driver_bugs": {"libvirt": 1},
            "dead_lettered": {"lab.7": 2},
            "results": {"grant": 5, "forged": 1, "dropped_outcome": 4, "outcome_succeeded": 5},
            "not_granted": {"results": 2, "admission": 1},
            "published": {"sent": 9, "confirmed": 8, "republished": 0, "swept": 0},
            "queue_reads": {"failed": 0},
        }

    def gauges(self):
        return {"federation_broker_connected": True, "federation_outbox_shards": 16, "federation_results_waiting": 0}

    def clusters(self):
        if self.store_fails:
            message = "it is gone"
            raise StoreUnavailable(message)
        figures = {"cluster": "lab", "driver": "libvirt", "release": None, "waiting": 3, "running": 1}
        more = {"behind_parked": 2, "parked": 1, "workers": {"admitted": 0}, "slots": 0, "seconds_each": 0.5}
        parts = [PartitionFigures(cluster="lab", partition=7, waiting=3, running=1, parked=1, oldest_waiting_at=90.0)]
        last = {"backlog_seconds": None, "oldest_waiting_seconds": 10.0, "read_at": 100.0, "partitions": parts}
        return [ClusterFigures(**figures, **more, **last)]

    def outbox(self):
        return 2, 0.25

    def active_workers(self, clusters):
        return self.active


@pytest.fixture
def manager():
    return Manager()


def scrape(*collectors, registry=None):
    registry = registry or CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def names(samples):
    plain = {name.partition("{")[0] for name in samples}
    return {re.sub("_(bucket|sum|count|created)$", "", name) for name in plain}


def test_a_manager_tells_its_clusters_and_partitions(manager):
    manager.active = {("lab", 7): "w1"}
    told = scrape(ManagerCollector(manager))
    assert told['federation_cluster_backlog_seconds{cluster="lab"}'] == float("inf")
    assert told['federation_cluster_info{cluster="lab",driver="libvirt",release=""}'] == 1
    assert told['federation_partition_operations{cluster="lab",partition="7",state="waiting"}'] == 3
    assert told['federation_partition_oldest_waiting_seconds{cluster="lab",partition="7"}'] == 10
    assert told['federation_partition_active_worker{cluster="lab",partition="7",worker="w1"}'] == 1
    assert told["federation_outbox_oldest_seconds"] == 0.25


def test_a_manager_tells_what_it_dropped_and_why(manager):
    told = scrape(ManagerCollector(manager))
    dropped = {reason: told[f'federation_messages_dropped_total{{reason="{reason}"}}'] for reason in DROPPED}
    assert dropped == DROPPED
    assert told['federation_answers_total{verdict="grant"}'] == 5
    assert 'federation_answers_total{verdict="outcome_succeeded"}' not in told
    assert told['federation_dead_letters_total{cluster="lab",partition="7"}'] == 2
    assert told['federation_deprecated_revision_uses_total{caller="api",operation="attach_volume",revision="1"}'] == 3


DROPPED = {"forged": 1, "unreadable": 0, "unusable": 0, "superseded": 4, "not_granted": 3}


def test_a_store_that_does_not_answer_leaves_what_the_manager_knows_itself(manager):
    manager.store_fails = True
    told = scrape(ManagerCollector(manager))
    assert told["federation_store_up"] == 0
    assert told["federation_broker_connected"] == 1
    assert not [name for name in told if name.startswith(("federation_cluster", "federation_outbox_op"))]


def test_outcomes_are_counted_by_code_and_timed_from_acceptance():
    registry = CollectorRegistry()
    meter = ManagerMeter(registry)
    record = OperationRecord(
        id="o", cluster="lab", name="resize", revision=1, key="k", sequence=1, partition=0, arguments={}, release="1.0",
        state=OperationState.FAILED, submitted_at=10.0, finished_at=12.0,
    )  # fmt: skip
    meter.settled(record, Outcome(kind=OutcomeKind.FAILED, code="not_found", message=""))
    meter.applied(0.02)
    told = scrape(registry=registry)
    where = 'cluster="lab",code="not_found",operation="resize",state="failed"'
    assert told[f"federation_operations_settled_total{{{where}}}"] == 1
    assert told['federation_operation_seconds_sum{operation="resize"}'] == 2.0
    assert told['federation_results_lag_seconds_bucket{le="0.025"}'] == 1


class Worker:
    """The port WorkerFigures on real counters."""

    admitted = consuming = broker_connected = True

    def __init__(self):
        self.counters = Counters()
        self.now = {"running": 2.0, "held": 5.0, "revoked": 0.0, "partitions": 3.0, "max_operations": 16.0}

    def counted(self):
        return self.counters.snapshot()

    def load(self):
        return self.now


IDENTITY = WorkerIdentity(version="1.2.3", worker="w1", cluster="lab", driver="libvirt", driver_version="0.1.0")


def test_a_worker_tells_its_drivers_ends_durations_and_margins():
    worker, registry = Worker(), CollectorRegistry()
    worker.counters.meter = WorkerMeter(registry, IDENTITY)
    worker.counters.operation("resize", "not_found", 0.2)
    worker.counters.query("list_nodes", "succeeded", 0.01)
    worker.counters.guarded(3, 1, 2, 0.7)
    worker.counters.guarded(0, 0, 0, None)
    worker.counters.driver_bug("libvirt")
    told = scrape(WorkerCollector(worker, IDENTITY), registry=registry)
    ends = 'cluster="lab",code="not_found",driver="libvirt",operation="resize"'
    assert told[f"federation_driver_operations_total{{{ends}}}"] == 1
    place = 'cluster="lab",driver="libvirt",operation="resize"'
    assert told[f"federation_driver_operation_seconds_sum{{{place}}}"] == pytest.approx(0.2)
    assert told["federation_worker_lease_margin_seconds_count"] == 1
    assert told['federation_worker_guards_total{result="refused"}'] == 1
    assert told['federation_driver_bugs_total{driver="libvirt"}'] == 1
    assert told["federation_worker_in_flight_operations"] == 2


def test_what_a_foreign_message_calls_itself_becomes_no_label():
    worker = Worker()
    worker.counters.operation("x" * 5000, "succeeded", 0.2)
    told = scrape(WorkerCollector(worker, IDENTITY))
    assert [name for name in told if 'operation="undeclared"' in name]
    assert not [name for name in told if "xxx" in name]


def test_a_worker_whose_decisions_hang_says_so_and_the_rest():
    worker = Worker()
    worker.now = {}
    told = scrape(WorkerCollector(worker, IDENTITY))
    assert told["federation_worker_deciding"] == 0
    assert told["federation_worker_consuming"] == 1
    assert "federation_worker_in_flight_operations" not in told


def test_every_catalogued_metric_is_exported_and_no_other(manager):
    manager.active = {("lab", 7): "w1"}
    registry = CollectorRegistry()
    ManagerMeter(registry)
    exported = names(scrape(ManagerCollector(manager), registry=registry))
    families = {family.name for family in registry.collect()}
    assert exported <= {metric.name for metric in (*ESTATE, *MANAGER)}
    assert {metric.name.removesuffix("_total") for metric in (*ESTATE, *MANAGER)} == families
    registry = CollectorRegistry()
    WorkerMeter(registry, IDENTITY)
    worker = Worker()
    worker.counters.count("delivered")
    worker.counters.operation("resize", "succeeded", 0.1)
    worker.counters.query("list_nodes", "succeeded", 0.1)
    scrape(WorkerCollector(worker, IDENTITY), registry=registry)
    assert {metric.name.removesuffix("_total") for metric in WORKER} == {family.name for family in registry.collect()}


def test_a_sample_that_is_not_catalogued_cannot_be_added():
    with pytest.raises(KeyError):
        Families().add("federation_surprise", 1)
    with pytest.raises(ValueError, match="cluster"):
        Families().add("federation_cluster_slots", 1, instance="i-1")


def test_names_say_their_kind_and_labels_are_no_identities():
    for metric in ALL.values():
        assert metric.name.startswith("federation_")
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
        assert not {"instance", "key", "id", "user", "node", "message"} & set(metric.labels)
        assert metric.meaning.endswith(".")
