"""What can be seen from outside happens once, however often an operation is attempted."""

from __future__ import annotations

import pytest

from federation.contract.call import Revoked
from federation.contract.instances import PowerState


def _effects(lab, made, kind):
    return len([one for one in lab.cluster.effects() if one.kind == kind and one.name == made.name])


def _interrupted_everywhere(lab, call_of, operation, made, **arguments):
    """Run it to its end in attempts that each end at their second guard, but for the first, which ends at its first."""
    call = call_of(stop_at=1)
    for _ in range(12):
        try:
            return lab.ask(operation, call, driver=lab.another_driver(), instance=made.id, **arguments)
        except Revoked:
            call = call_of(call.operation, call.attempt + 1, recovering=True, stop_at=2)
    raise AssertionError("it does not come to its end")


@pytest.mark.parametrize(("mode", "stopped"), [("hard", "disabled"), ("soft", "guest_shutdown")])
def test_a_reboot_in_many_attempts_restarts_once(lab, call_of, mode, stopped):
    made = lab.create(start=True)
    started = _effects(lab, made, "enabled")
    shown = _interrupted_everywhere(lab, call_of, "reboot", made, mode=mode)
    assert shown.power_state is PowerState.RUNNING
    assert _effects(lab, made, stopped) == 1
    assert _effects(lab, made, "enabled") - started == 1


def test_a_finished_reboot_is_not_repeated(lab, call_of):
    made, call = lab.create(start=True), call_of()
    lab.ask("reboot", call, instance=made.id)
    before = lab.kinds()
    lab.ask("reboot", call.again(), driver=lab.another_driver(), instance=made.id)
    assert lab.kinds() == before


def test_a_revert_does_not_throw_away_what_the_guest_did_after_it(lab, call_of):
    made, call = lab.create(start=True), call_of()
    taken = lab.ask("create_snapshot", instance=made.id, name="a", memory=True)
    shown = lab.ask("revert_snapshot", call, instance=made.id, snapshot=taken.id)
    assert shown.power_state is PowerState.RUNNING
    before = lab.kinds()
    lab.ask("revert_snapshot", call.again(), driver=lab.another_driver(), instance=made.id, snapshot=taken.id)
    assert lab.kinds() == before


def test_a_snapshot_in_many_attempts_is_one_and_bears_its_operation(lab, call_of):
    made = lab.create()
    taken = _interrupted_everywhere(lab, call_of, "create_snapshot", made, name="nightly")
    listed = lab.ask("list_snapshots", instance=made.id).snapshots
    assert [(one.id, one.name, one.current) for one in listed] == [(taken.id, "nightly", True)]
    assert _effects(lab, made, "create_checkpoint") == 1


def test_a_machine_that_changes_hosts_while_they_are_asked_is_found(lab, monkeypatch):
    """The one was asked before it came, the other after it had gone."""
    made = lab.create()
    driver = lab.another_driver()
    fleet, seen = driver._fleet, []

    def on(host, instance):
        seen.append(host.node)
        return None if len(seen) <= len(fleet.hosts) else type(fleet).on(fleet, host, instance)

    monkeypatch.setattr(fleet, "on", on)
    assert fleet.see(made.id).instance == made.id
    assert len(seen) == 2 * len(fleet.hosts) > 2


def test_a_machine_that_an_earlier_attempt_removes_while_it_is_looked_at_is_destroyed(lab, call_of, monkeypatch):
    made, call = lab.create(), call_of()
    driver = lab.another_driver()
    fleet, found = driver._fleet, []

    def find_any(instance):
        found.append(type(fleet).find_any(fleet, instance))
        if len(found) == 1:
            lab.ask("destroy", call_of(call.operation, 1), driver=lab.another_driver(), instance=instance)
        return found[-1]

    monkeypatch.setattr(fleet, "find_any", find_any)
    lab.ask("destroy", call_of(call.operation, 2, recovering=True), driver=driver, instance=made.id)
    assert found[0] is not None
    assert lab.kinds().count("destroy") == 1
    assert not [name for node in fleet.hosts for name in lab.files(node) if made.id in name]
