"""The rules of ``worker_core.py``, by number, each on the shortest story that needs it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from protocol.one_worker import DONE, TERMS, OneWorker, held

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.envelope import Verdict
from federation.protocol.lease import Leave
from federation.protocol.worker_actions import Acknowledge, Ask, LeaseChanged, SendReport, StartCall

# Rule 1


def test_rule_1_what_is_held_of_one_key_runs_in_arrival_order_one_at_a_time() -> None:
    worker = OneWorker()
    first, second = held("op1"), held("op2", sequence=2)
    worker.deliver(first, second)
    assert [q.operation for q in worker.asked] == ["op1"]
    (call,) = [a for a in worker.answer(worker.asked[0], "grant") if isinstance(a, StartCall)]
    worker.end(call)
    assert [q.operation for q in worker.asked] == ["op1"], "the next waits until the outcome is confirmed"
    worker.confirm(call)
    assert [q.operation for q in worker.asked] == ["op1", "op2"]


def test_rule_1_different_keys_run_side_by_side() -> None:
    worker = OneWorker()
    worker.grant(held("op1", "k1"))
    worker.grant(held("op2", "k2"))
    assert worker.core.running_count == 2


def test_no_more_operations_run_than_are_allowed_and_the_next_key_gets_the_free_place() -> None:
    worker = OneWorker(replace(TERMS, max_operations=2))
    one = worker.grant(held("op1", "k1"))
    worker.grant(held("op2", "k2"))
    worker.deliver(held("op3", "k3"))
    assert [q.operation for q in worker.asked] == ["op1", "op2"]
    worker.end(one)
    worker.confirm(one)
    assert worker.asked[-1].operation == "op3"


# Rule 2


def test_rule_2_nothing_runs_without_a_grant() -> None:
    worker = OneWorker()
    actions = worker.deliver(held("op1"))
    assert [type(a) for a in actions] == [Ask]


@pytest.mark.parametrize("verdict", ["settled", "parked", "gap", "poison", "refused"])
def test_rule_2_what_is_not_granted_is_acknowledged_and_the_next_is_asked_for(verdict: Verdict) -> None:
    worker = OneWorker()
    first, second = held("op1"), held("op2", sequence=2)
    worker.deliver(first, second)
    actions = worker.answer(worker.asked[0], verdict)
    assert [type(a) for a in actions] == [Acknowledge, Ask]
    assert worker.acknowledged == [first]
    assert worker.asked[-1].operation == "op2"


def test_rule_2_the_lease_counts_from_the_first_sending_of_the_question() -> None:
    worker = OneWorker()
    worker.deliver(held("op1"))
    worker.after(1.0)
    worker.after(1.0)
    assert [q.id for q in worker.asked] == ["q1", "q1", "q1"]
    (call,) = [a for a in worker.answer(worker.asked[0], "grant") if isinstance(a, StartCall)]
    assert call.lease.ends == 100.0 + TERMS.lease.lease


def test_rule_2_a_grant_with_a_wait_starts_when_the_wait_is_over() -> None:
    worker = OneWorker()
    worker.deliver(held("op1"))
    assert worker.answer(worker.asked[0], "grant", attempt=2, wait_seconds=1.5) == []
    assert worker.core.next_tick() == worker.now + 1.5
    assert worker.after(1.4) == []
    (start,) = worker.after(0.2)
    assert isinstance(start, StartCall)
    assert start.attempt == 2


def test_rule_2_a_long_wait_is_renewed_meanwhile() -> None:
    worker = OneWorker()
    worker.deliver(held("op1"))
    worker.answer(worker.asked[0], "grant", attempt=2, wait_seconds=7.0)
    worker.after(2.0)
    assert worker.asked[-1].renews == 2


def test_rule_2_a_renewal_counts_from_its_first_sending_and_lasts_as_long_as_the_answer_says() -> None:
    worker = OneWorker()
    call = worker.grant(held("op1"))
    worker.after(2.0)
    renewal = worker.asked[-1]
    assert renewal.renews == 1
    worker.now += 0.9
    assert worker.answer(renewal, "renewed", lease_seconds=4.5) == [LeaseChanged(call.call)]
    assert call.lease.ends == 102.0 + 4.5, "a manager that runs with a shorter lease now waits no longer than that"


# Rule 3


def test_rule_3_a_question_that_stays_unanswered_is_sent_again_under_the_same_id() -> None:
    worker = OneWorker()
    worker.deliver(held("op1"))
    assert worker.after(0.9) == []
    worker.after(0.1)
    worker.after(1.0)
    assert [q.id for q in worker.asked] == ["q1", "q1", "q1"]


def test_rule_3_only_the_answer_to_the_newest_question_counts() -> None:
    worker = OneWorker()
    worker.deliver(held("op1"))
    worker.lose()
    worker.deliver(held("op1", deliveries=1))
    old, new = worker.asked
    assert worker.answer(old, "grant", attempt=1) == []
    assert len(worker.answer(new, "grant", attempt=2)) == 1
    assert worker.answer(new, "grant", attempt=2) == [], "and only once"


# Rule 4


def test_rule_4_an_outcome_is_reported_then_confirmed_and_only_then_acknowledged() -> None:
    worker = OneWorker()
    delivery = held("op1")
    call = worker.grant(delivery, attempt=3)
    (report,) = worker.end(call)
    assert isinstance(report, SendReport)
    assert (report.report.attempt, report.report.outcome) == (3, DONE)
    assert worker.acknowledged == []
    assert worker.confirm(call) == [Acknowledge(delivery)]
    assert worker.core.held_count == 0


def test_rule_4_a_report_that_is_refused_is_sent_again_a_little_later() -> None:
    worker = OneWorker()
    call = worker.grant(held("op1"))
    worker.end(call)
    assert worker.confirm(call, confirmed=False) == []
    assert worker.after(0.4) == []
    worker.after(0.1)
    assert len(worker.reported) == 2
    assert worker.acknowledged == []
    assert worker.core.next_tick() is None, "it is with the broker"


def test_rule_4_a_reported_operation_renews_nothing() -> None:
    worker = OneWorker()
    worker.end(worker.grant(held("op1")))
    assert worker.after(10.0) == []


# Rule 5


def test_rule_5_a_copy_waits_behind_what_runs_under_a_live_lease_and_is_asked_for_when_that_has_ended() -> None:
    worker = OneWorker()
    old, copy = held("op1"), held("op1", deliveries=1)
    call = worker.grant(old)
    worker.deliver(held("op2", sequence=2))
    assert worker.deliver(copy) == []
    assert call.lease.leave(worker.now) is Leave.GO
    worker.end(call)
    worker.confirm(call)
    assert worker.asked[-1].delivery_count == 1
    assert worker.answer(worker.asked[-1], "settled")[0] == Acknowledge(copy)
    assert worker.asked[-1].operation == "op2"


def test_rule_5_a_burst_of_copies_costs_one_question_and_no_grant() -> None:
    worker = OneWorker()
    worker.deliver(*(held("op1", deliveries=count) for count in range(9)))
    assert [q.delivery_count for q in worker.asked] == [0]
    assert worker.core.held_count == 9


def test_rule_5_what_is_received_again_after_its_lease_ran_out_is_revoked_first_then_asked_for() -> None:
    worker = OneWorker()
    old, new = held("op1"), held("op1", deliveries=1)
    call = worker.grant(old)
    worker.now += worker.core.terms.lease.lease
    assert worker.deliver(new)[:2] == [LeaseChanged(call.call), Acknowledge(old)]
    assert call.lease.leave(worker.now) is Leave.REVOKED
    assert worker.asked[-1].delivery_count == 1
    assert worker.end(call, None) == []


def test_rule_5_a_copy_keeps_its_place_before_what_came_behind_the_first() -> None:
    worker = OneWorker()
    worker.deliver(held("op1"), held("op2", sequence=2), held("op1", deliveries=1))
    assert [q.operation for q in worker.asked] == ["op1"]
    worker.answer(worker.asked[0], "refused")
    assert [q.operation for q in worker.asked] == ["op1", "op1"]
    worker.answer(worker.asked[1], "settled")
    assert [q.operation for q in worker.asked] == ["op1", "op1", "op2"]


def test_rule_5_a_copy_waits_for_the_report_of_the_first() -> None:
    worker = OneWorker()
    old, copy = held("op1"), held("op1", deliveries=1)
    call = worker.grant(old)
    worker.end(call)
    assert worker.deliver(copy) == []
    assert worker.confirm(call)[0] == Acknowledge(old)
    assert worker.answer(worker.asked[-1], "settled") == [Acknowledge(copy)]


# Rule 6


def test_rule_6_when_the_channel_goes_every_call_is_revoked_and_every_delivery_void() -> None:
    worker = OneWorker()
    call = worker.grant(held("op1", "k1"))
    worker.deliver(held("op2", "k1", sequence=2), held("op3", "k2"))
    assert worker.lose() == [LeaseChanged(call.call)]
    assert call.lease.leave(worker.now) is Leave.REVOKED
    assert (worker.core.held_count, worker.core.idle) == (0, True)
    assert worker.acknowledged == []
    assert worker.answer(worker.asked[-1], "grant") == []


def test_rule_6_a_cancelled_consumer_takes_only_its_partition() -> None:
    worker = OneWorker()
    gone = worker.grant(held("op1", "k1", partition=1))
    kept = worker.grant(held("op2", "k2", partition=2))
    worker.deliver(held("op3", "k3", partition=1))
    assert worker.lose(1) == [LeaseChanged(gone.call)]
    assert kept.lease.leave(worker.now) is Leave.GO
    assert worker.core.held_count == 1


def test_rule_6_what_waits_for_its_start_does_not_start() -> None:
    worker = OneWorker()
    worker.deliver(held("op1"))
    worker.answer(worker.asked[0], "grant", attempt=2, wait_seconds=1.0)
    worker.lose()
    assert worker.after(2.0) == []


# Rule 7


def test_rule_7_a_revoked_call_keeps_its_place_until_it_ends() -> None:
    worker = OneWorker(replace(TERMS, max_operations=1))
    call = worker.grant(held("op1", "k1"))
    worker.lose()
    worker.deliver(held("op2", "k2"))
    assert worker.core.revoked_count == 1
    assert [q.operation for q in worker.asked] == ["op1"]
    worker.end(call, None)
    assert worker.core.revoked_count == 0
    assert worker.asked[-1].operation == "op2"


def test_rule_7_the_outcome_of_a_revoked_call_is_not_reported() -> None:
    worker = OneWorker()
    call = worker.grant(held("op1"))
    worker.lose()
    assert worker.end(call, DONE) == []
    assert worker.reported == []


# Rule 8


def test_rule_8_a_drained_worker_asks_nothing_new_and_finishes_what_runs() -> None:
    worker = OneWorker()
    delivery = held("op1")
    call = worker.grant(delivery)
    worker.core.drain()
    worker.deliver(held("op2", sequence=2), held("op3", "k2"))
    worker.after(2.0)
    assert [(q.operation, q.renews) for q in worker.asked] == [("op1", None), ("op1", 1)], "it goes on renewing"
    worker.end(call)
    worker.confirm(call)
    assert worker.acknowledged == [delivery]
    assert worker.core.idle
    assert worker.core.held_count == 2, "what was not asked for goes back when the channel closes"


def test_rule_8_what_a_drained_worker_had_asked_for_still_runs_when_it_is_granted() -> None:
    worker = OneWorker()
    worker.deliver(held("op1"))
    worker.core.drain()
    assert not worker.core.idle
    (call,) = [a for a in worker.answer(worker.asked[0], "grant") if isinstance(a, StartCall)]
    worker.end(call)
    worker.confirm(call)
    assert worker.core.idle


# Superseded, cancelled, and what may not happen


@pytest.mark.parametrize("verdict", ["stale", "revoked"])
def test_a_superseded_worker_acknowledges_everything_it_holds_of_the_instance(verdict: Verdict) -> None:
    worker = OneWorker()
    first, second, other = held("op1"), held("op2", sequence=2), held("op3", "other")
    worker.deliver(first, second, other)
    worker.answer(worker.asked[0], verdict)
    assert worker.acknowledged == [first, second]
    assert worker.core.held_count == 1


def test_a_refused_renewal_revokes_the_running_call() -> None:
    worker = OneWorker()
    call = worker.grant(held("op1"))
    worker.after(2.0)
    assert LeaseChanged(call.call) in worker.answer(worker.asked[-1], "revoked")
    assert call.lease.leave(worker.now) is Leave.REVOKED
    assert worker.core.revoked_count == 1


def test_a_renewal_tells_of_a_cancellation_and_a_later_one_does_not_take_it_back() -> None:
    worker = OneWorker()
    call = worker.grant(held("op1"))
    worker.after(2.0)
    worker.answer(worker.asked[-1], "renewed", cancel=True)
    assert call.lease.leave(worker.now) is Leave.CANCEL
    worker.after(2.0)
    worker.answer(worker.asked[-1], "renewed", cancel=False)
    assert call.lease.cancel_requested


def test_a_renewal_comes_after_every_third_of_the_lease() -> None:
    worker = OneWorker()
    worker.grant(held("op1"))
    for _ in range(6):
        worker.after(0.5)
        if worker.asked[-1].renews and worker.core.next_tick() != worker.now + 2.0:
            worker.answer(worker.asked[-1], "renewed")
    assert [q.renews for q in worker.asked] == [None, 1]
    worker.after(1.0)
    assert [q.id for q in worker.asked] == ["q1", "q2", "q3"]


def test_a_call_that_ends_as_revoked_without_being_revoked_is_a_defect_that_shows() -> None:
    worker = OneWorker()
    call = worker.grant(held("op1"))
    with pytest.raises(AssertionError, match="nobody revoked it"):
        worker.end(call, None)


def test_a_failed_outcome_travels_as_it_is() -> None:
    worker = OneWorker()
    outcome = Outcome(kind=OutcomeKind.FAILED, code="not_found", message="no such image", detail={"image": "x"})
    worker.end(worker.grant(held("op1")), outcome)
    assert worker.reported[0].outcome == outcome


def test_nothing_is_due_when_nothing_is_held() -> None:
    worker = OneWorker()
    assert worker.core.next_tick() is None
    assert worker.core.idle
