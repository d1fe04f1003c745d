"""The call that the kit hands to a driver: the worker's own, and what a script does at a guard."""

import time

import pytest

from federation.conformance.scripted_call import UNTIL_REVOKED_SECONDS, Script, ScriptedCall, What
from federation.contract.call import Revoked
from federation.contract.errors import Cancelled, TimedOut
from federation.protocol.envelope import Command
from federation.protocol.lease import Lease, LeaseTerms
from federation.protocol.worker_actions import Held, StartCall
from federation.worker.lease_clock import lease_clock


def scripted(what, at):
    command = Command(
        operation="0197c0de-0000-7000-8000-000000000001", name="pause", revision=1, release="1.0", cluster="c", epoch=1,
        partition=0, key="i", sequence=1, round=1, deadline=time.time() + 3600, arguments={},
    )  # fmt: skip
    lease = Lease(terms=LeaseTerms(), ends=lease_clock() + 3600)
    start = StartCall(call=1, held=Held(command=command, delivery_count=0, handle=None), attempt=1, lease=lease)
    return ScriptedCall(start, Script(what=what, at=at)), lease


def test_a_lease_that_runs_out_lets_the_guard_wait_until_the_leave_is_gone_for_good():
    call, lease = scripted(What.REVOKE, 2)
    call.guard()
    began = lease_clock()
    with pytest.raises(Revoked):
        call.guard()
    assert lease_clock() - began >= UNTIL_REVOKED_SECONDS * 0.9
    assert lease.ends < lease_clock()
    assert call.revoked
    with pytest.raises(Revoked):
        call.guard()


@pytest.mark.parametrize(("what", "error"), [(What.CANCEL, Cancelled), (What.DEADLINE, TimedOut)])
def test_an_interruption_is_told_once_and_what_undoes_the_operation_gets_leave(what, error):
    call, _ = scripted(what, 1)
    with pytest.raises(error):
        call.guard()
    call.guard()
    assert [event.kind for event in call.trace] == ["guard", "guard"]
