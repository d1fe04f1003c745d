"""The figures of a cluster: what waits, on how many slots, and for how long."""

import pytest
from manager.world import CLUSTER

from federation.contract.errors import NotFound


def test_a_new_cluster_has_no_backlog_and_the_slots_that_its_workers_announced(world):
    (figures,) = world.manager.measuring.figures()
    assert (figures.cluster, figures.waiting, figures.backlog_seconds) == (CLUSTER, 0, 0.0)
    assert figures.workers == {"admitted": 1}
    (worker,) = world.manager.admitting.workers(CLUSTER)
    assert figures.slots == worker.load["max_operations"]


def test_what_waits_makes_a_backlog_that_draining_its_workers_turns_into_no_number(world):
    world.manager.measuring._fresh_for = 0.0
    world.create("a")
    (figures,) = world.manager.measuring.figures(CLUSTER)
    assert (figures.waiting, figures.running) == (1, 0)
    assert figures.backlog_seconds == pytest.approx(figures.seconds_each / figures.slots)
    assert [each.waiting for each in figures.partitions] == [1]
    for worker in world.manager.admitting.workers(CLUSTER):
        world.manager.admitting.drain(worker.id)
    world.manager.measuring._good_until = 0.0
    (figures,) = world.manager.measuring.figures(CLUSTER)
    assert (figures.slots, figures.backlog_seconds) == (0, None)


def test_a_cluster_that_was_just_made_is_found_though_the_figures_are_fresh(world):
    world.manager.measuring.figures()
    world.manager.estate.create_cluster("new", "simulated")
    assert [each.cluster for each in world.manager.measuring.figures("new")] == ["new"]
    with pytest.raises(NotFound, match="nowhere"):
        world.manager.measuring.figures("nowhere")


def test_many_who_ask_share_one_reading_of_the_store(world, monkeypatch):
    looks = []
    look = world.manager.measuring._look
    monkeypatch.setattr(world.manager.measuring, "_look", lambda: looks.append(1) or look())
    world.manager.measuring._fresh_for = 60.0
    for _ in range(50):
        world.manager.measuring.figures()
    assert len(looks) == 1
