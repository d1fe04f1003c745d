"""How long a machine has run since its last start: what its counters count."""

from __future__ import annotations

import msgspec

from federation.contract.instances import PowerState
from federation.testing.hypervisor.records import Machine


def clocked(before: Machine, after: Machine, now: float) -> Machine:
    """The machine after a change that took effect at ``now`` (monotonic seconds), its running time brought up to date."""
    was, runs = _runs(before), _runs(after)
    if after.boots > before.boots and runs:
        return msgspec.structs.replace(after, ran_seconds=0.0, running_since=now)
    if was and not runs:
        ran = ran_seconds(before, now) if after.active else 0.0
        return msgspec.structs.replace(after, ran_seconds=ran, running_since=None)
    if runs and not was:
        return msgspec.structs.replace(after, running_since=now)
    if not after.active and after.ran_seconds:
        return msgspec.structs.replace(after, ran_seconds=0.0)
    return after


def ran_seconds(machine: Machine, now: float) -> float:
    """Running time since the last start, pauses not counted."""
    since = machine.running_since
    return machine.ran_seconds + (0.0 if since is None else max(0.0, now - since))


def _runs(machine: Machine) -> bool:
    return machine.defined and machine.power_state is PowerState.RUNNING
