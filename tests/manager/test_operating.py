"""Cancelling and resolving."""

import time
from dataclasses import replace

import pytest
from manager.world import CLUSTER, GIB, failed, question_of

from federation.contract.errors import InvalidState, NotFound, Parked
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.manager.operating import Resolution
from federation.protocol.lease import Stamp
from federation.protocol.records import OperationState


def park(world):
    made = world.create()
    world.carry_out(made)
    paused = world.change("pause", made.key)
    waiting = world.change("unpause", made.key)
    world.ask(paused)
    world.report(paused, failed("outcome_unknown", OutcomeKind.UNKNOWN))
    return made.key, paused, waiting


def test_an_operation_that_has_not_started_is_cancelled_without_a_trace(world):
    made = world.create()
    world.manager.operating.cancel(made.id)
    assert world.ask(made).verdict == "settled"
    record = world.record(made)
    assert (record.state, record.outcome.code) == (OperationState.REFUSED, "cancelled")


def test_a_running_operation_learns_of_its_cancellation_by_its_next_renewal(world):
    made = world.create()
    world.ask(made)
    world.manager.operating.cancel(made.id)
    answer = world.put_question(question_of(world.record(made), "renewal", renews=1))
    assert (answer.verdict, answer.cancel) == ("renewed", True)


def test_what_has_its_outcome_cannot_be_cancelled(world):
    made = world.create()
    world.carry_out(made)
    with pytest.raises(InvalidState, match="succeeded"):
        world.manager.operating.cancel(made.id)
    with pytest.raises(NotFound):
        world.manager.operating.cancel("01a20336-0c59-7465-9ed0-fa7d41e2d169")


def test_a_deadline_that_passed_before_the_start_refuses(world):
    made = world.create(deadline_seconds=0.001)
    world.until(lambda: world.clock.wall() > made.deadline)
    assert world.ask(made).verdict == "refused"
    assert world.record(made).outcome.code == "deadline_passed"


def test_a_parked_instance_takes_nothing_new(world):
    key, paused, _ = park(world)
    with pytest.raises(Parked, match=f"parked by operation {paused.id}.*federation instance resolve"):
        world.change("power_off", key)


def test_a_parked_instance_cannot_be_resolved_while_its_last_worker_may_still_act(world):
    key, _, _ = park(world)
    with pytest.raises(InvalidState, match=r"7\.0 s"):
        world.manager.operating.resolve(key, Resolution.ACCEPT)
    assert world.manager.estate.instance(key).parked_by is not None


@pytest.mark.parametrize("resolution", list(Resolution))
def test_resolving_refuses_what_waited_and_lets_the_instance_go_on(world, resolution):
    key, paused, waiting = park(world)
    world.clock.seconds += 7.0
    retried = world.manager.operating.resolve(key, resolution)
    assert world.record(waiting).outcome.code == "parked"
    assert world.record(waiting).state is OperationState.REFUSED
    assert world.manager.estate.instance(key).parked_by is None
    assert world.record(paused).resolution.startswith(
        {"retry": "retried", "accept": "accepted", "abandon": "abandoned"}[resolution]
    )
    following = retried or world.change("power_off", key)
    assert following.sequence == 4
    world.carry_out(following, "paused")
    with pytest.raises(InvalidState, match="not parked"):
        world.manager.operating.resolve(key, resolution)


def test_a_retry_is_a_new_operation_with_the_same_request(world):
    key, paused, _ = park(world)
    world.clock.seconds += 7.0
    retried = world.manager.operating.resolve(key, Resolution.RETRY)
    assert (retried.name, retried.arguments) == (paused.name, paused.arguments)
    world.until(lambda: world.bus.published[-1].operation == retried.id)


def test_an_accepted_destroy_means_that_the_instance_is_gone(world):
    made = world.create()
    world.carry_out(made)
    gone = world.change("destroy", made.key)
    world.ask(gone)
    world.report(gone, failed("outcome_unknown", OutcomeKind.UNKNOWN))
    world.clock.seconds += 7.0
    world.manager.operating.resolve(made.key, Resolution.ACCEPT)
    with pytest.raises(NotFound):
        world.manager.estate.instance(made.key)


def test_what_is_next_and_was_never_granted_is_cancelled_at_once_without_any_worker(world):
    made = world.create()
    cancelled = world.manager.operating.cancel(made.id)
    assert (cancelled.state, cancelled.outcome.code) == ("refused", "cancelled")
    assert world.manager.estate.instance(made.key).state == "failed"
    assert world.ask(made).verdict == "settled"


def test_what_waits_behind_another_is_cancelled_when_its_turn_comes_without_any_worker(world):
    made = world.create()
    paused = world.change("pause", made.key)
    assert world.manager.operating.cancel(paused.id).state == "queued"
    world.carry_out(made)
    world.until(lambda: world.record(paused).state == "refused")
    assert world.record(paused).outcome.code == "cancelled"


def test_a_deadline_that_passes_where_no_worker_asks_refuses_and_frees_what_is_behind(world):
    made = world.create()
    world.carry_out(made)
    late = world.submit("pause", arguments={"instance": made.key}, deadline_seconds=0.05)
    behind = world.change("reboot", made.key)
    world.until(lambda: world.record(late).state == "refused")
    assert world.record(late).outcome.code == "deadline_passed"
    assert world.ask(behind).verdict == "grant"


def test_what_was_granted_is_never_refused_behind_its_workers_back(world):
    made = world.submit(
        "create",
        cluster=CLUSTER,
        arguments={"spec": {"name": "x", "flavour": {"vcpus": 1, "memory_bytes": GIB}, "boot": {"kind": "template", "template": "t"}}},
        deadline_seconds=0.5,
    )  # fmt: skip
    assert world.ask(made).verdict == "grant"
    time.sleep(0.6)
    assert world.manager.expiring.expire() == 0
    assert world.manager.operating.cancel(made.id).state == "running"


def test_a_parked_instance_whose_managers_clock_is_gone_can_still_be_resolved_one_lease_later(world):
    made = world.create()
    world.ask(made)
    world.report(made, failed("outcome_unknown", OutcomeKind.UNKNOWN))
    with world.store.transaction() as transaction:
        key = transaction.keys([made.key])[made.key]
        transaction.save([replace(key, parked_at=Stamp("a boot ago", 5.0))], [], {}, 1.0)
    with pytest.raises(InvalidState, match="parked just now"):
        world.manager.operating.resolve(made.key, Resolution.ACCEPT)
    world.clock.seconds += 7.5
    assert world.manager.operating.resolve(made.key, Resolution.ACCEPT) is None


SECRET = "correct horse"


def kept(world, operation):
    """The operation's arguments as the database has them."""
    with world.store.transaction() as transaction:
        return transaction.operation(operation.id).arguments


def test_a_password_leaves_the_store_when_its_operation_has_its_outcome(world):
    made = world.create()
    world.carry_out(made)
    for outcome in (Outcome(kind=OutcomeKind.SUCCEEDED, result={}), failed("guest_refused")):
        told = world.change("set_admin_password", made.key, password=SECRET, user="root")
        assert kept(world, told)["password"] == SECRET
        world.ask(told)
        world.report(told, outcome)
        assert kept(world, told) == {"instance": made.key, "user": "root", "password": "(13 characters)"}


def test_a_password_is_kept_while_its_operation_may_have_to_be_sent_again(world):
    made = world.create()
    world.carry_out(made)
    told = world.change("set_admin_password", made.key, password=SECRET)
    world.ask(told)
    world.report(told, failed("outcome_unknown", OutcomeKind.UNKNOWN))
    assert kept(world, told)["password"] == SECRET
    world.clock.seconds += 7.0
    retried = world.manager.operating.resolve(made.key, Resolution.RETRY)
    assert kept(world, retried)["password"] == SECRET
    assert kept(world, told)["password"] == "(13 characters)"
