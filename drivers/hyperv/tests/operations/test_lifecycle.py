"""Create, power, resize, destroy: against simulated hosts over WS-Management."""

from __future__ import annotations

from federation.contract.instances import PowerState

MIB = 1 << 20


def test_an_instance_is_made_and_goes_through_its_states(lab):
    made = lab.create(start=True, metadata={"é": '✓ "'}, data_disks=[{"size_bytes": 16 * MIB}])
    assert made.power_state is PowerState.RUNNING
    assert [disk.size_bytes for disk in made.disks] == [64 * MIB, 16 * MIB]
    assert made.metadata == {"é": '✓ "'}
    for operation, state in [
        ("pause", PowerState.PAUSED), ("unpause", PowerState.RUNNING), ("suspend", PowerState.SUSPENDED),
        ("resume", PowerState.RUNNING), ("reboot", PowerState.RUNNING), ("power_off", PowerState.STOPPED),
        ("power_on", PowerState.RUNNING),
    ]:  # fmt: skip
        assert lab.ask(operation, instance=made.id).power_state is state
    assert lab.ask("power_off", instance=made.id, mode="graceful").power_state is PowerState.STOPPED
    shown = lab.ask("resize", instance=made.id, flavour={"vcpus": 2, "memory_bytes": 512 * MIB})
    assert (shown.vcpus, shown.memory_bytes) == (2, 512 * MIB)
    assert lab.ask("get_instance", instance=made.id) == shown
    lab.ask("destroy", instance=made.id)
    assert {name for name in lab.files() if name.startswith(made.id)} == set()
