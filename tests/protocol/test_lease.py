"""Leases and waits: pure arithmetic, on clocks that may be different ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.protocol.lease import Lease, LeaseTerms, Leave, Stamp, remaining_wait

seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)


@st.composite
def some_terms(draw: st.DrawFn) -> LeaseTerms:
    lease = draw(st.floats(min_value=0.1, max_value=600))
    return LeaseTerms(lease=lease, margin=draw(st.floats(min_value=0.001, max_value=0.99)) * lease)


@pytest.mark.parametrize(("lease", "margin"), [(6.0, 6.0), (6.0, 7.0), (6.0, 0.0), (6.0, -1.0), (0.0, 0.0)])
def test_terms_under_which_no_guard_could_pass_are_refused(lease: float, margin: float) -> None:
    with pytest.raises(ValueError, match="margin is"):
        LeaseTerms(lease=lease, margin=margin)


@given(some_terms(), seconds)
def test_a_guard_passes_while_the_margin_is_left_and_waits_after_that(terms: LeaseTerms, now: float) -> None:
    assert Lease(terms, ends=now + terms.margin * 1.01).leave(now) is Leave.GO
    assert Lease(terms, ends=now + terms.margin * 0.99 - 1e-6).leave(now) is Leave.WAIT
    assert Lease(terms, ends=now - 1).leave(now) is Leave.WAIT


@given(some_terms(), seconds)
def test_a_revoked_lease_never_lets_anything_through_again(terms: LeaseTerms, now: float) -> None:
    lease = Lease(terms, ends=now + terms.lease, revoked=True, cancel_requested=True)
    assert lease.leave(now) is Leave.REVOKED
    lease.extend(now + 100)
    assert lease.leave(now) is Leave.REVOKED


def test_a_cancelled_lease_tells_of_it_until_somebody_has_heard_and_then_lets_the_driver_undo() -> None:
    lease = Lease(LeaseTerms(), ends=10.0, cancel_requested=True)
    assert lease.leave(0.0) is Leave.CANCEL
    assert lease.leave(0.0) is Leave.CANCEL
    lease.cancel_told = True
    assert lease.leave(0.0) is Leave.GO


@given(some_terms(), seconds, st.lists(seconds, max_size=8))
def test_a_lease_never_gets_shorter(terms: LeaseTerms, now: float, sent: list[float]) -> None:
    lease = Lease(terms, ends=now)
    for first_sent in sent:
        before = lease.ends
        lease.extend(first_sent, terms.lease)
        assert lease.ends >= max(before, first_sent + terms.lease) - 1e-6


@given(some_terms(), seconds, seconds)
def test_on_one_clock_the_wait_is_what_is_left_of_lease_and_margin(
    terms: LeaseTerms, then: float, passed: float
) -> None:
    wait = remaining_wait(Stamp("a", then), Stamp("a", then + passed), terms)
    assert wait == pytest.approx(max(0.0, terms.lease + terms.margin - passed), abs=1e-6)


@given(some_terms(), seconds, seconds)
def test_on_two_clocks_the_whole_is_waited_for(terms: LeaseTerms, then: float, now: float) -> None:
    assert remaining_wait(Stamp("a", then), Stamp("b", now), terms) == terms.lease + terms.margin
    assert remaining_wait(None, Stamp("b", now), terms) == terms.lease + terms.margin


@given(some_terms(), seconds, seconds)
def test_a_clock_that_reads_earlier_than_its_stamp_never_makes_the_wait_longer_than_the_whole(
    terms: LeaseTerms, then: float, back: float
) -> None:
    assert remaining_wait(Stamp("a", then + back), Stamp("a", then), terms) <= terms.lease + terms.margin


@given(some_terms(), seconds, st.floats(min_value=0, max_value=60), st.floats(min_value=0, max_value=60))
def test_no_guard_of_the_older_attempt_passes_once_the_newer_one_may_start(
    terms: LeaseTerms, sent: float, answered_after: float, asked_after: float
) -> None:
    """The rule that the whole lease rests on: both sides count from opposite ends of the same message."""
    older = Lease(terms, ends=sent + terms.lease)
    answered = sent + answered_after
    asked = answered + asked_after
    starts = asked + remaining_wait(Stamp("m", answered), Stamp("m", asked), terms)
    assert older.leave(starts) is not Leave.GO
    assert starts - older.ends >= terms.margin - 1e-6, (
        "and a call let through at the last instant has a margin to arrive"
    )
