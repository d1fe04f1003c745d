"""Who may join, in which release, and what is known of those who do not answer any more."""

import pytest
from manager.world import CLUSTER, announcement

from federation.contract.errors import ContractMismatch, InvalidRequest, InvalidState, NotFound
from federation.protocol.admission import Departure, Heartbeat


def beat(worker):
    return Heartbeat(worker=worker, cluster=CLUSTER, epoch=1, draining=False, load={"running": 2.0})


def test_a_worker_is_told_all_that_it_needs_to_consume(world):
    admission = world.manager.admitting.admit(announcement("w2"))
    assert (admission.partitions, admission.epoch, admission.pin) == (4, 1, "1.0")
    assert (admission.lease_seconds, admission.margin_seconds) == (6.0, 1.0)


def test_a_worker_of_an_unknown_cluster_is_told_how_to_make_it(world):
    with pytest.raises(NotFound, match="federation cluster create elsewhere --driver simulated"):
        world.manager.admitting.admit(announcement(cluster="elsewhere"))


def test_a_worker_with_another_driver_is_refused(world):
    with pytest.raises(InvalidRequest, match=r"'simulated'.*'libvirt'"):
        world.manager.admitting.admit(announcement(driver="libvirt"))


def test_a_worker_that_shares_no_release_is_refused_and_told_both_ranges(world):
    with pytest.raises(ContractMismatch, match=r"2\.0 to 3\.1.*1\.0"):
        world.manager.admitting.admit(announcement("w2", releases=("2.0", "3.1")))
    assert [w.id for w in world.manager.admitting.workers(CLUSTER)] == ["w1"]


def test_a_heartbeat_of_a_worker_that_was_lost_tells_it_to_announce_itself(make_world):
    world = make_world(worker_timeout=-1.0)
    world.furnish()
    world.until(lambda: world.manager.admitting.workers(CLUSTER)[0].state == "lost")
    assert not world.manager.admitting.heartbeat(beat("w1")).known
    assert not world.manager.admitting.heartbeat(beat("nobody")).known


def test_a_heartbeat_keeps_the_load_and_says_when_to_drain(world):
    assert world.manager.admitting.heartbeat(beat("w1")).known
    assert world.manager.admitting.workers(CLUSTER)[0].load == {"running": 2.0}
    world.manager.admitting.drain("w1")
    assert world.manager.admitting.heartbeat(beat("w1")).drain
    with pytest.raises(NotFound, match="w9"):
        world.manager.admitting.drain("w9")


def test_a_cluster_with_workers_instances_or_operations_is_not_removed(world):
    with pytest.raises(InvalidState, match="w1"):
        world.manager.estate.remove_cluster(CLUSTER)
    world.manager.admitting.leave(Departure(worker="w1", cluster=CLUSTER, reason="done"))
    world.create()
    with pytest.raises(InvalidState, match="instances"):
        world.manager.estate.remove_cluster(CLUSTER)


def test_an_empty_cluster_goes_with_its_queues(world):
    world.manager.admitting.leave(Departure(worker="w1", cluster=CLUSTER, reason="done"))
    world.manager.estate.remove_cluster(CLUSTER)
    assert world.bus.retired == [(CLUSTER, 1, 4)]
    assert world.manager.estate.clusters() == []
    with pytest.raises(NotFound):
        world.manager.estate.remove_cluster(CLUSTER)


@pytest.mark.parametrize("name", ["", "Lab", "a_b", "-a", "a" * 64, "a.b"])
def test_a_cluster_name_must_fit_into_routing_keys(world, name):
    with pytest.raises(InvalidRequest, match="cluster name"):
        world.manager.estate.create_cluster(name, "simulated")


@pytest.mark.parametrize("partitions", [0, 1025])
def test_the_number_of_partitions_has_limits(world, partitions):
    with pytest.raises(InvalidRequest, match="1 to 1024"):
        world.manager.estate.create_cluster("x", "simulated", partitions)


def test_a_worker_id_belongs_to_one_cluster_while_its_worker_lives(world):
    world.manager.estate.create_cluster("other", "simulated", 1)
    with pytest.raises(InvalidRequest, match="serves cluster 'lab'"):
        world.manager.admitting.admit(announcement(cluster="other"))
    world.manager.admitting.leave(Departure(worker="w1", cluster=CLUSTER, reason="moves"))
    assert world.manager.admitting.admit(announcement(cluster="other")).cluster == "other"


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), float("-inf")])
def test_a_worker_that_reports_a_load_that_is_no_number_harms_nobody(world, figure):
    load = {"running": 2.0, "max_operations": figure}
    told = Heartbeat(worker="w1", cluster=CLUSTER, epoch=1, draining=False, load=load)
    assert world.manager.admitting.heartbeat(told).known
    assert world.manager.admitting.workers()[0].load == {"running": 2.0}
    assert world.manager.measuring.figures(CLUSTER)[0].slots == 1
    world.create()


def test_a_load_that_an_older_manager_wrote_as_no_number_harms_nobody(world):
    with world.store.transaction() as transaction:
        transaction.heard_of("w1", 1.0, {"running": 2.0, "max_operations": float("nan")})
    assert world.manager.admitting.workers()[0].load == {"running": 2.0}


def test_a_worker_cannot_fill_the_store_with_figures(world):
    load = {f"figure {number}": 1.0 for number in range(1000)} | {"x" * 1000: 1.0}
    world.manager.admitting.heartbeat(Heartbeat(worker="w1", cluster=CLUSTER, epoch=1, draining=False, load=load))
    kept = world.manager.admitting.workers()[0].load
    assert len(kept) <= 64
    assert max(map(len, kept)) <= 64


@pytest.mark.parametrize("worker", ["", "w1\nERROR forged", "a/b", "w" * 129, "ü"])
def test_a_worker_is_admitted_under_a_name_that_can_be_a_queue_and_a_word_in_the_log(world, worker):
    with pytest.raises(InvalidRequest, match="worker is "):
        world.manager.admitting.admit(announcement(worker))
