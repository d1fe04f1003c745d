"""A pin never passes an operation that is being accepted, whichever store there is; it follows workers and managers."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import msgspec
import pytest
from manager.revisions import NEW, NEWEST, OLD, two_releases
from manager.world import CLUSTER, announcement

from federation.contract.errors import ContractMismatch, OperationError, Unavailable
from federation.manager.submission import Submission
from federation.protocol.admission import Departure, Heartbeat

BLOCKED_FOR = 1.0
"""Seconds in which an admission that nothing holds up is done many times over."""


class PausingStore:
    """A store whose transactions stop for a moment right before they accept an operation."""

    def __init__(self, store):
        self._store = store
        self.reached = threading.Event()
        self.go_on = threading.Event()

    @contextmanager
    def transaction(self):
        with self._store.transaction() as transaction:
            accept = transaction.accept

            def pausing(operation):
                self.reached.set()
                assert self.go_on.wait(10)
                return accept(operation)

            transaction.accept = pausing
            yield transaction

    def __getattr__(self, name):
        return getattr(self._store, name)


@pytest.fixture
def world(store_url, make_world):
    world = make_world(url=store_url, revisions=two_releases(), releases=(OLD, NEWEST))
    world.furnish()
    world.manager.admitting.admit(announcement(releases=(str(OLD), str(NEW))))
    return world


def beat(worker):
    return Heartbeat(worker=worker, cluster=CLUSTER, epoch=1, draining=False, load={})


def pin(world):
    return world.manager.estate.clusters()[0].pin


def in_thread(action):
    """Starts it; gives what came of it, and when."""
    done, ends = threading.Event(), []

    def run():
        try:
            ends.append(action())
        except OperationError as error:
            ends.append(error)
        finally:
            done.set()

    threading.Thread(target=run, daemon=True).start()
    return done, ends


def paused_submit(world, submission):
    """Submits in a thread that stops after it has read the pin."""
    store = PausingStore(world.store)
    world.manager.submitting._accepting._store = store
    done, ends = in_thread(lambda: world.manager.submitting.submit(submission))
    assert store.reached.wait(10)
    return store, done, ends


@pytest.mark.parametrize("creates", [False, True])
def test_an_old_worker_does_not_slip_in_while_an_operation_is_accepted_in_the_newer_release(world, creates):
    made = world.create()
    world.carry_out(made)
    spec = {**made.arguments["spec"], "name": "web-2"}
    submission = Submission(name="create", cluster=CLUSTER, arguments={"spec": spec}) if creates else Submission(
        name="pause", arguments={"instance": made.key, "gently": True}
    )  # fmt: skip
    store, accepted, operations = paused_submit(world, submission)
    admitted, ends = in_thread(lambda: world.manager.admitting.admit(announcement("old", releases=("1.0", "1.0"))))
    assert not admitted.wait(BLOCKED_FOR), "the pin was changed under an operation that was being accepted"
    store.go_on.set()
    assert accepted.wait(10)
    assert admitted.wait(10)
    assert operations[0].release == "1.1"
    assert isinstance(ends[0], Unavailable)
    assert "release 1.1 are queued, which worker 'old' does not serve" in ends[0].message
    assert pin(world) == "1.0"


def old_worker():
    return announcement("old", releases=("1.0", "1.0"))


def test_a_worker_of_the_older_release_waits_for_what_is_queued_in_the_newer_one_and_is_then_admitted(world):
    made = world.create()
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"release 1\.1 are queued.*new ones are sent in release 1\.0"):
            world.manager.admitting.admit(old_worker())
    assert pin(world) == "1.0"
    assert world.manager.admitting.move_pins() == []
    waiting = world.manager.admitting.workers(CLUSTER)[0]
    assert (waiting.id, waiting.state, waiting.waiting_since is None) == ("old", "left", False)
    assert world.change("power_off", made.key).release == "1.0"
    world.carry_out(made)
    assert world.manager.admitting.admit(old_worker()).pin == "1.0"
    admitted = world.manager.admitting.workers(CLUSTER)[0]
    assert (admitted.id, admitted.state, admitted.waiting_since) == ("old", "admitted", None)


def test_a_worker_of_the_older_release_is_refused_when_nobody_else_can_carry_out_what_is_queued(world):
    world.create()
    world.manager.admitting.leave(Departure(worker="w1", cluster=CLUSTER, reason="gone"))
    with pytest.raises(ContractMismatch, match=r"release 1\.1 are queued and the worker serves 1\.0 to 1\.0"):
        world.manager.admitting.admit(old_worker())
    assert pin(world) == "1.1"


def test_a_worker_that_stops_asking_waits_no_more_and_the_pin_rises_again(world):
    world.create()
    with pytest.raises(Unavailable):
        world.manager.admitting.admit(old_worker())
    assert pin(world) == "1.0"
    with world.store.transaction() as transaction:
        (waiting,) = [w for w in transaction.workers() if w.id == "old"]
        transaction.save_worker(msgspec.structs.replace(waiting, last_seen=world.clock.wall() - 31))
    world.until(lambda: pin(world) == "1.1")
    assert [w.waiting_since for w in world.manager.admitting.workers(CLUSTER)] == [None, None]


@pytest.mark.parametrize("store_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_submits_do_not_wait_for_one_another_to_look_at_the_pin(world):
    first, second = world.create(), world.create("web-2")
    store, accepted, _ = paused_submit(world, Submission(name="pause", arguments={"instance": first.key}))
    world.manager.submitting._accepting._store = world.store
    done, _ = in_thread(lambda: world.change("pause", second.key))
    assert done.wait(10)
    assert not accepted.is_set()
    store.go_on.set()
    assert accepted.wait(10)


def test_what_is_accepted_after_an_old_worker_joined_is_written_for_it(world):
    made = world.create()
    world.carry_out(made)
    world.manager.admitting.admit(announcement("old", releases=("1.0", "1.0")))
    assert pin(world) == "1.0"
    assert world.change("pause", made.key).release == "1.0"


def test_the_pin_is_the_highest_release_that_all_live_workers_serve(world):
    assert pin(world) == "1.1"
    world.manager.admitting.admit(announcement("w2", releases=("1.1", "1.2")))
    assert pin(world) == "1.1"
    with pytest.raises(ContractMismatch, match=r"releases 1\.2 to 1\.2; this cluster speaks 1\.1"):
        world.manager.admitting.admit(announcement("w3", releases=("1.2", "1.2")))
    world.manager.admitting.leave(Departure(worker="w1", cluster=CLUSTER, reason="upgraded"))
    assert pin(world) == "1.2"


def test_a_worker_that_dies_holds_the_pin_no_longer_than_it_counts_as_alive(store_url, make_world):
    world = make_world(url=store_url, revisions=two_releases(), releases=(OLD, NEWEST), worker_timeout=0.5)
    world.furnish()
    world.manager.admitting.admit(announcement(releases=("1.0", "1.1")))
    world.manager.admitting.admit(announcement("w2", releases=("1.0", "1.2")))
    assert pin(world) == "1.1"

    def risen():
        assert world.manager.admitting.heartbeat(beat("w2")).known
        return pin(world) == "1.2"

    world.until(risen)
    assert [w.state for w in world.manager.admitting.workers(CLUSTER)] == ["lost", "admitted"]


def test_no_cluster_speaks_a_release_that_a_living_manager_does_not(world):
    """An older manager joins and goes again: the pin goes down and up, with nobody's restart."""
    world.store.claim_shards("older", world.clock.wall(), 60.0, (OLD, OLD))
    assert world.manager.admitting.move_pins() in ([CLUSTER], [])
    world.until(lambda: pin(world) == "1.0")
    world.store.release_shards("older")
    world.until(lambda: pin(world) == "1.1")


def test_a_cluster_without_workers_keeps_its_pin(world):
    world.manager.admitting.leave(Departure(worker="w1", cluster=CLUSTER, reason="night"))
    assert world.manager.admitting.move_pins() == []
    assert pin(world) == "1.1"
