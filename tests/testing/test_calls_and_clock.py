"""The recorded call and the manual clock keep the contract's promises."""

from __future__ import annotations

import pytest

from federation.contract.call import Call, Revoked
from federation.contract.errors import Cancelled
from federation.testing.calls import RecordedCall, SimulatedCrash
from federation.testing.clock import ManualClock, SystemClock


def test_a_recorded_call_counts_guards_and_records_progress_and_waits():
    call: Call = RecordedCall(clock=ManualClock())
    call.guard()
    call.guard()
    call.progress(None, "looking")
    call.progress(100, "done")
    call.sleep(2.5)
    assert (call.guards, call.progressed, call.slept) == (2, [(None, "looking"), (100, "done")], [2.5])
    with pytest.raises(ValueError, match="101"):
        call.progress(101, "too far")


@pytest.mark.parametrize(("fault", "error"), [("crash_at", SimulatedCrash), ("revoke_at", Revoked)])
def test_a_call_crashes_or_is_revoked_at_the_guard_that_was_named_and_stays_so(fault, error):
    call = RecordedCall(**{fault: 2})
    call.guard()
    for _ in range(2):
        with pytest.raises(error):
            call.guard()
    with pytest.raises(error):
        call.sleep(1)
    assert call.slept == []


def test_no_driver_can_swallow_a_crash_or_a_revocation_by_except_exception():
    assert not issubclass(SimulatedCrash, Exception)
    assert not issubclass(Revoked, Exception)


def test_a_call_is_cancelled_once_so_that_the_driver_can_undo():
    call = RecordedCall(cancel_at=1)
    with pytest.raises(Cancelled):
        call.guard()
    call.guard()
    call.cancel()
    with pytest.raises(Cancelled):
        call.sleep(1)
    call.sleep(1)


def test_the_next_attempt_recovers_the_same_operation_and_is_not_faulty_itself():
    first = RecordedCall(cluster="here", crash_at=1)
    with pytest.raises(SimulatedCrash):
        first.guard()
    second = first.again()
    second.guard()
    assert (second.operation, second.cluster) == (first.operation, "here")
    assert (second.attempt, second.recovering, first.attempt, first.recovering) == (2, True, 1, False)
    second.revoke()
    with pytest.raises(Revoked):
        second.guard()


def test_the_deadline_runs_by_the_clock():
    clock = ManualClock()
    call = RecordedCall(clock=clock, deadline_seconds=10)
    assert call.remaining() == 10
    call.sleep(4)
    assert call.remaining() == 6
    assert RecordedCall().remaining() is None


def test_the_manual_clock_moves_only_when_told_and_never_back():
    clock = ManualClock(start=5, epoch=100)
    assert (clock.monotonic(), clock.wall()) == (5, 100)
    clock.sleep(1.5)
    clock.advance(0.5)
    assert (clock.monotonic(), clock.wall(), clock.slept) == (7, 102, [1.5])
    clock.step_wall(-50)
    assert (clock.monotonic(), clock.wall()) == (7, 52)
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)


def test_the_system_clock_waits_for_real():
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0.02)
    assert clock.monotonic() - before >= 0.02
    assert clock.wall() > 1_700_000_000
