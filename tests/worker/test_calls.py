"""Guards, sleeps, progress and deadlines of a running call."""

import threading

import pytest
from worker.tiny_driver import eventually, key

from federation.contract.call import Revoked
from federation.contract.errors import Cancelled, DriverBug, TimedOut
from federation.protocol.envelope import Command
from federation.protocol.lease import Lease, LeaseTerms
from federation.protocol.worker_actions import Held, StartCall
from federation.testing.clock import ManualClock
from federation.worker.calls import QueryCall, RunningCall

TERMS = LeaseTerms(6.0, 1.0)


class Setting:
    """A call under a lease of 6 s from the manual clock's now."""

    def __init__(self, deadline_in=None, attempt=1):
        self.clock = ManualClock()
        self.lease = Lease(TERMS, ends=self.clock.monotonic() + 6.0)
        self.news = 0
        command = Command(
            operation="op", name="power_on", revision=1, release="1.0", cluster="c", epoch=1, partition=0, key=key(1),
            sequence=1, round=1, deadline=None if deadline_in is None else self.clock.wall() + deadline_in, arguments={},
        )  # fmt: skip
        self.call = RunningCall(
            StartCall(1, Held(command, 0, None), attempt, self.lease),
            self._count,
            clock=self.clock.monotonic,
            wall=self.clock.wall,
        )

    def _count(self):
        self.news += 1

    def advance(self, seconds):
        self.clock.advance(seconds)
        self.call.lease_changed()


class Waiting:
    """Runs ``act`` in a thread and tells how it ended."""

    def __init__(self, act):
        self.ended_with = "waits"
        self._act = act
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            self._act()
        except BaseException as error:  # noqa: BLE001
            self.ended_with = type(error)
        else:
            self.ended_with = "returned"

    def ends_with(self, end):
        eventually(lambda: self.ended_with == end, f"{end}, it is {self.ended_with}")

    def still_waits(self):
        self.thread.join(0.03)
        assert self.ended_with == "waits"


def test_a_guard_passes_while_the_margin_of_the_lease_is_left():
    setting = Setting()
    setting.call.guard()
    setting.clock.advance(5.0)
    setting.call.guard()
    assert (setting.call.guards_passed, setting.call.guards_waited) == (2, 0)
    assert setting.call.least_margin == pytest.approx(1.0)


def test_a_guard_waits_for_a_renewal_when_less_than_the_margin_is_left():
    setting = Setting()
    setting.clock.advance(5.001)
    guard = Waiting(setting.call.guard)
    guard.still_waits()
    setting.lease.extend(setting.clock.monotonic())
    setting.call.lease_changed()
    guard.ends_with("returned")
    assert setting.call.guards_waited == 1


def test_a_waiting_guard_does_not_pass_because_it_was_woken():
    setting = Setting()
    setting.clock.advance(5.5)
    guard = Waiting(setting.call.guard)
    for _ in range(3):
        setting.call.lease_changed()
        guard.still_waits()
    setting.call.revoke()
    guard.ends_with(Revoked)


def test_a_revoked_call_is_refused_by_every_guard_and_sleep():
    setting = Setting()
    setting.call.revoke()
    for _ in range(3):
        with pytest.raises(Revoked):
            setting.call.guard()
        with pytest.raises(Revoked):
            setting.call.sleep(1.0)
    assert setting.call.guards_refused == 6
    assert setting.call.guards_passed == 0


def test_a_sleep_ends_at_once_when_the_call_is_revoked():
    setting = Setting()
    sleep = Waiting(lambda: setting.call.sleep(3000.0))
    sleep.still_waits()
    setting.call.revoke()
    sleep.ends_with(Revoked)


def test_a_sleep_ends_when_its_time_has_come():
    setting = Setting()
    sleep = Waiting(lambda: setting.call.sleep(3.0))
    setting.advance(2.9)
    sleep.still_waits()
    setting.advance(0.2)
    sleep.ends_with("returned")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_sleep_of_no_time_returns_at_once(seconds):
    Setting().call.sleep(seconds)


@pytest.mark.parametrize("seconds", [float("inf"), 1e300])
def test_a_sleep_without_end_can_be_revoked(seconds):
    setting = Setting()
    sleep = Waiting(lambda: setting.call.sleep(seconds))
    sleep.still_waits()
    setting.call.revoke()
    sleep.ends_with(Revoked)


def test_a_cancelled_call_is_told_once_and_may_then_undo():
    setting = Setting()
    setting.call.guard()
    setting.lease.cancel_requested = True
    with pytest.raises(Cancelled):
        setting.call.guard()
    setting.call.guard()
    setting.call.sleep(0.0)
    assert setting.call.guards_passed == 2


def test_a_cancel_reaches_a_sleeping_driver():
    setting = Setting()
    sleep = Waiting(lambda: setting.call.sleep(3000.0))
    sleep.still_waits()
    setting.lease.cancel_requested = True
    setting.call.lease_changed()
    sleep.ends_with(Cancelled)


def test_a_call_whose_deadline_passes_is_told_once_and_may_then_undo():
    setting = Setting(deadline_in=2.0)
    setting.call.guard()
    assert setting.call.remaining() == pytest.approx(2.0)
    setting.clock.advance(2.5)
    with pytest.raises(TimedOut):
        setting.call.guard()
    setting.call.guard()
    assert setting.call.remaining() == 0.0


def test_only_one_of_cancel_and_deadline_interrupts_a_call():
    setting = Setting(deadline_in=2.0)
    setting.clock.advance(3.0)
    with pytest.raises(TimedOut):
        setting.call.guard()
    setting.lease.cancel_requested = True
    setting.call.guard()
    other = Setting(deadline_in=2.0)
    other.lease.cancel_requested = True
    with pytest.raises(Cancelled):
        other.call.guard()
    other.clock.advance(3.0)
    other.call.guard()


def test_a_deadline_ends_a_guard_that_waits_for_its_lease():
    setting = Setting(deadline_in=8.0)
    setting.clock.advance(7.0)
    guard = Waiting(setting.call.guard)
    guard.still_waits()
    setting.advance(1.0)
    guard.ends_with(TimedOut)


def test_the_wall_clock_may_be_set_while_a_call_runs():
    setting = Setting(deadline_in=2.0)
    setting.clock.step_wall(3600.0)
    setting.call.guard()
    assert setting.call.remaining() == pytest.approx(2.0)


def test_revoked_wins_over_cancelled_and_over_the_deadline():
    setting = Setting(deadline_in=1.0)
    setting.lease.cancel_requested = True
    setting.clock.advance(2.0)
    setting.call.revoke()
    with pytest.raises(Revoked):
        setting.call.guard()


def test_a_driver_cannot_swallow_revoked_with_except_exception():
    assert not issubclass(Revoked, Exception)


def test_progress_keeps_the_latest_and_announces_it_once_until_it_is_taken():
    setting = Setting()
    for percent in (1, 2, 3):
        setting.call.progress(percent, f"step {percent}")
    assert setting.news == 1
    step = setting.call.take_step()
    assert (step.percent, step.stage) == (3.0, "step 3")
    assert setting.call.take_step() is None
    setting.call.progress(None, "more")
    assert setting.news == 2


@pytest.mark.parametrize(("given", "kept"), [(-5, 0.0), (250.0, 100.0), (float("nan"), None), (None, None), (7, 7.0)])
def test_progress_is_between_0_and_100_or_unknown(given, kept):
    setting = Setting()
    setting.call.progress(given, "x" * 1000 + "\ud800")
    step = setting.call.take_step()
    assert step.percent == kept
    assert len(step.stage.encode()) == 255


def test_a_later_attempt_says_that_it_recovers():
    assert not Setting(attempt=1).call.recovering
    assert Setting(attempt=2).call.recovering


def test_a_query_may_not_guard():
    call = QueryCall("c", 5.0)
    with pytest.raises(DriverBug):
        call.guard()
    assert call.tried_to_change


def test_a_query_that_nobody_waits_for_is_woken_from_its_sleep():
    call = QueryCall("c", 5.0)
    sleep = Waiting(lambda: call.sleep(3000.0))
    sleep.still_waits()
    call.give_up()
    sleep.ends_with(Revoked)
