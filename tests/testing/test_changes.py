"""The hypervisor's table of legal moves: whatever is tried, a machine stays sound."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import OperationError
from federation.contract.instances import PowerState
from federation.testing.hypervisor import changes
from federation.testing.hypervisor.records import ACTIVE, Machine, seen, usage

ARGUMENTS = {
    "allocate_disk": {"name": "root", "size_bytes": 7, "made_by": "op"},
    "delete_disk": {"name": "root"},
    "define": {
        "name": "one", "vcpus": 2, "memory_bytes": 5, "created_by": "op",
        "volumes": [{"name": "kept", "size_bytes": 0, "kept": True}],
        "interfaces": [{"mac": "52:54:00:00:00:01", "network": "lan"}],
    },
    "write_memory": {"made_by": "op"},
    "set_processors": {"vcpus": 3, "topology": [1, 3, 1], "note": "before"},
    "restore_processors": {"vcpus": 2, "topology": None, "note": ""},
    "set_memory": {"memory_bytes": 6},
    "mark": {"note": "reboot", "value": "op:1"},
    "unmark": {"note": "reboot"},
    "attach_volume": {"disk": {"name": "v", "size_bytes": 7, "kept": True, "volume": "v", "pool": "p"}},
    "reattach_volume": {"disk": {"name": "v", "size_bytes": 7, "kept": True, "volume": "v", "pool": "p"}, "index": 0},
    "detach_volume": {"name": "v", "note": "before"},
    "extend_volume": {"name": "v", "size_bytes": 8},
    "attach_interface": {"mac": "52:54:00:00:00:02", "network": "lan"},
    "detach_interface": {"mac": "52:54:00:00:00:02"},
    "freeze": {"made_by": "op"},
    "take_snapshot": {"id": "s", "name": "first", "memory": False, "created": 1.0, "owned": True},
    "revert_snapshot": {"id": "s", "made_by": "op"},
    "delete_snapshot": {"id": "s"},
    "drop_snapshot": {"id": "s"},
    "adopt": {"name": "mine", "metadata": {}, "made_by": "op"},
    "set_password": {"user": "root", "digest": "d"},
    "prepare_target": {"node_to": "m", "made_by": "op"},
    "migrate_live": {"node_to": "m", "made_by": "op"},
    "migrate_cold": {"node_to": "m", "made_by": "op"},
    "write_guest": {"name": "v", "content": "new"},
}  # fmt: skip


def test_every_kind_of_change_is_tried_here():
    assert set(ARGUMENTS) <= changes.kinds()
    assert set(changes.MOVES) <= changes.kinds()
    assert changes.kinds() >= changes.INVISIBLE


@given(st.lists(st.sampled_from(sorted(changes.kinds())), max_size=40))
def test_no_sequence_of_calls_makes_an_impossible_machine(kinds):
    machine = Machine(id="m", node="n")
    for kind in kinds:
        try:
            after = changes.apply(kind, machine, ARGUMENTS.get(kind, {}))
        except OperationError:
            continue
        assert after.boots >= machine.boots or not after.defined
        if kind in changes.INVISIBLE:
            assert seen(after) == seen(machine)
        machine = after
        assert msgspec.json.decode(msgspec.json.encode(machine), type=Machine) == machine
        assert machine.defined or machine.power_state not in ACTIVE
        assert (machine.power_state is not PowerState.SUSPENDED) or machine.memory_file
        assert machine.defined or not any(disk.kept for disk in machine.disks)
        assert all(value >= 0 for value in msgspec.structs.astuple(usage(machine)))


@pytest.mark.parametrize("kind", changes.MOVES)
@pytest.mark.parametrize("state", PowerState)
def test_an_illegal_move_raises_and_names_the_state(kind, state):
    machine = Machine(id="m", node="n", defined=True, power_state=state, memory_file="op")
    allowed, end = changes.MOVES[kind]
    if state in allowed:
        assert changes.apply(kind, machine, {}).power_state is end
    else:
        with pytest.raises(OperationError, match=f"the machine is {state}"):
            changes.apply(kind, machine, {})


def test_a_machine_cannot_be_suspended_before_its_memory_is_saved():
    machine = Machine(id="m", node="n", defined=True, power_state=PowerState.RUNNING)
    with pytest.raises(OperationError, match="memory has not been saved"):
        changes.apply("suspend", machine, {})
