"""The pure parts: faults, notes, names, descriptors, facts; by example and by property."""

from __future__ import annotations

import datetime as dt
import string
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import VmomiSupport, vim

from federation.contract.errors import (
    CATALOGUE,
    HypervisorRefused,
    InvalidRequest,
    InvalidState,
    OperationError,
    PermissionDenied,
)
from federation.contract.instances import GuestSetup, PowerState
from federation.contract.operations import DECLARED
from federation_vmware import (
    extensions,
    facts,
    faults,
    guest_setup,
    metrics,
    names,
    ownership,
    sizing,
    snapshots,
    uploads,
)
from federation_vmware.connection import translated
from federation_vmware.driver import _declared
from federation_vmware.facts import Look
from federation_vmware.ownership import Ownership, Stage, Volume
from federation_vmware.settings import Settings

TEXT = st.text(max_size=255)


def known_faults():
    """Every fault of the client's own tables, by its name."""
    listed = [name for name in VmomiSupport._dataDefMap if name.startswith(("vim.fault.", "vmodl.fault."))]
    kinds = {name.rsplit(".", 1)[-1]: VmomiSupport.GetVmodlType(name) for name in listed}
    return {name: kind for name, kind in kinds.items() if issubclass(kind, Exception)}


def test_every_fault_of_the_client_becomes_an_error_of_the_catalogue():
    kinds = known_faults()
    assert len(kinds) > 500
    for name, kind in kinds.items():
        error = translated(kind(msg="the server's words"), "do it")
        assert type(error) is CATALOGUE[error.code]
        assert name in error.message
        assert "the server's words" in error.message
        assert faults.fault_of(error) == name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("TaskInProgress", "conflict"),
        ("ConcurrentAccess", "conflict"),
        ("InsufficientMemoryResourcesFault", "insufficient_resources"),
        ("NoDiskSpace", "insufficient_resources"),
        ("DuplicateName", "already_exists"),
        ("InvalidPowerState", "invalid_state"),
        ("InaccessibleDatastore", "backend_unavailable"),
        ("ManagedObjectNotFound", "not_found"),
        ("NoPermission", "permission_denied"),
        ("MigrationFault", "hypervisor_refused"),
        ("ToolsUnavailable", "invalid_state"),
    ],
)
def test_a_fault_that_is_met_often_has_the_code_that_says_what_to_do(name, code):
    assert translated(known_faults()[name](), "do it").code == code


@given(name=st.text(string.ascii_letters, min_size=1, max_size=40), words=TEXT)
def test_a_fault_of_any_name_is_named_and_has_a_code(name, words):
    error = faults.translate([name], words, "do it", {})
    assert isinstance(error, OperationError)
    assert name in error.message
    if name not in faults.FAULTS:
        assert type(error) is HypervisorRefused


@given(
    operation=st.sampled_from([o.name for o in DECLARED]),
    name=st.sampled_from(sorted(faults.FAULTS)),
)
def test_no_operation_lets_out_what_it_does_not_declare(operation, name):
    declared = next(o for o in DECLARED if o.name == operation)

    def work():
        raise faults.translate([name], "", "do it", {})

    with pytest.raises(OperationError) as raised:
        _declared(operation, work)
    assert declared.may_raise(raised.value.code)


@given(
    metadata=st.dictionaries(TEXT, TEXT, max_size=20),
    volumes=st.lists(st.builds(Volume, name=TEXT, pool=TEXT, path=TEXT, operation=TEXT), max_size=4),
    stage=st.sampled_from(Stage),
)
def test_a_note_comes_back_to_the_letter_in_pieces_that_vsphere_takes(metadata, volumes, stage):
    note = Ownership(cluster="c", instance="i", operation="o", stage=stage, metadata=metadata, volumes=tuple(volumes))
    written = ownership.options(note)
    assert all(len(value) <= ownership.PIECE and value.isascii() for value in written.values())
    assert ownership.read(ownership.last_values(written.items())) == note


def test_a_note_that_was_cut_makes_the_machine_foreign():
    written = ownership.options(Ownership(cluster="c", instance="i", operation="o", stage=Stage.BUILT))
    assert ownership.read(written | {"federation.instance.0": "{"}) is None
    assert ownership.read({"federation.instance.count": "many"}) is None
    assert ownership.read({}) is None


def test_the_last_value_of_a_key_counts_and_an_empty_one_removes_it():
    pairs = [("a", "1"), ("b", "1"), ("a", "2"), ("b", "")]
    assert ownership.last_values(pairs) == {"a": "2"}
    assert ownership.cleared({"federation.instance.0": "x", "theirs": "y"}, {"new": "z"}) == {
        "federation.instance.0": "",
        "new": "z",
    }


@given(volume=st.text(min_size=1, max_size=60))
def test_a_volume_never_lies_outside_of_its_datastore(volume):
    try:
        path = names.volume_path("store", "volumes", volume)
    except InvalidRequest:
        return
    datastore, inside = names.split(path)
    assert datastore == "store"
    assert ".." not in inside.split("/")
    assert not inside.startswith("/")
    assert inside.endswith(".vmdk")


@pytest.mark.parametrize("volume", ["../x", "a/../b", "/x", "a//b", "[other] x", "..", "a\\..\\b"])
def test_a_way_out_of_the_datastore_is_refused(volume):
    with pytest.raises(InvalidRequest, match="datastore"):
        names.volume_path("store", "volumes", volume)


@given(identity=st.uuids(), number=st.integers(0, 9))
def test_derived_addresses_are_in_the_range_for_addresses_given_by_hand(identity, number):
    mac = names.mac_address(str(identity), number)
    assert mac.startswith("00:50:56:")
    assert int(mac.split(":")[3], 16) <= 0x3F
    assert mac == names.mac_address(str(identity), number)


@pytest.mark.parametrize(
    ("power", "connection", "expected"),
    [
        ("poweredOn", "connected", PowerState.RUNNING),
        ("poweredOff", "connected", PowerState.STOPPED),
        ("suspended", "connected", PowerState.SUSPENDED),
        ("poweredOn", "disconnected", PowerState.UNKNOWN),
        ("poweredOff", "inaccessible", PowerState.UNKNOWN),
        ("poweredOff", "orphaned", PowerState.UNKNOWN),
        ("somethingNew", "connected", PowerState.UNKNOWN),
    ],
)
def test_a_machine_that_cannot_be_looked_at_is_in_no_state(power, connection, expected):
    look = Look(None, {"runtime.powerState": power, "runtime.connectionState": connection})
    assert look.power_state is expected


def test_an_inaccessible_machine_is_shown_with_what_is_known_of_it():
    seen = facts.instance(Look(None, {"name": "lost%2fvm", "runtime.connectionState": "inaccessible"}), "c", "n", {})
    assert (seen.name, seen.vcpus, seen.memory_bytes, seen.owned, seen.disks) == ("lost/vm", None, None, False, ())


def test_a_disk_below_snapshots_is_known_by_the_volume_that_it_began_as():
    base = SimpleNamespace(fileName="[s] v/data.vmdk", parent=None)
    top = SimpleNamespace(fileName="[s] v/data-000001.vmdk", parent=base)
    disk = SimpleNamespace(backing=top)
    assert facts.chain_base(disk, {"[s] v/data.vmdk": None}) == "[s] v/data.vmdk"
    assert facts.chain_base(disk, {}) == "[s] v/data-000001.vmdk"


def test_the_descriptor_of_an_image_names_its_extent_and_size():
    text = uploads.descriptor_text(1 << 20, "root-flat.vmdk")
    assert 'RW 2048 VMFS "root-flat.vmdk"' in text
    assert 'createType="vmfs"' in text


def test_metrics_have_the_contracts_units_and_no_sample_is_none():
    at = dt.datetime.now(dt.UTC)
    seen = metrics.measured({metrics.CPU: 2500, metrics.MEMORY: 1024}, at)
    assert (seen.cpu_fraction, seen.memory_bytes_used) == (0.25, 1 << 20)
    none = metrics.measured({metrics.CPU: -1}, at)
    assert (none.cpu_fraction, none.memory_bytes_used) == (None, None)


def test_a_snapshot_of_somebody_else_is_foreign():
    tree = SimpleNamespace(
        snapshot=vim.vm.Snapshot("snapshot-7", None),
        name="by hand",
        description='{"format": "another"}',
        state="poweredOn",
        createTime=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    shown = snapshots.shown_of("c", tree, None, "snapshot-7")
    assert (shown.id, shown.name, shown.owned, shown.current) == ("snapshot-7", "by hand", False, True)


def test_no_guest_setup_writes_nothing():
    assert guest_setup.notes("i", "n", None) == {}
    assert "guestinfo.userdata" in guest_setup.notes("i", "n", GuestSetup(user_data="x"))


@given(
    present=st.tuples(st.integers(1, 16), st.integers(1, 64)),
    more=st.tuples(st.integers(-1, 5), st.integers(-1, 5)),
    cores=st.sampled_from([1, 2, 4]),
    takes=st.tuples(st.booleans(), st.booleans()),
    limits=st.tuples(st.sampled_from([None, 0, 32 * 64]), st.sampled_from([None, 0, 128])),
)
def test_a_running_machine_is_given_what_it_can_take_and_nothing_else(present, more, cores, takes, limits):
    look = Look(
        None,
        {
            "config.hardware.numCPU": present[0] * cores,
            "config.hardware.memoryMB": present[1] * 64,
            "config.hardware.numCoresPerSocket": cores,
            "config.cpuHotAddEnabled": takes[0],
            "config.memoryHotAddEnabled": takes[1],
            "config.hotPlugMemoryLimit": limits[0],
            "config.hotPlugMemoryIncrementSize": limits[1],
        },
    )
    processors, memory = more[0], more[1] * 64
    allowed = (
        processors >= 0
        and memory >= 0
        and (processors == 0 or (takes[0] and processors % cores == 0))
        and (
            memory == 0
            or (takes[1] and memory % (limits[1] or 1) == 0 and (present[1] + more[1]) * 64 <= (limits[0] or 1 << 40))
        )
    )
    shape = {"numCPUs": present[0] * cores + processors, "memoryMB": present[1] * 64 + memory}
    if allowed:
        sizing.check_growth(look, shape)
    else:
        with pytest.raises(InvalidState, match="while it runs"):
            sizing.check_growth(look, shape)
    with pytest.raises(InvalidState, match="while it runs"):
        sizing.check_growth(look, shape | {"numCoresPerSocket": cores + 1})


@pytest.mark.parametrize(
    "given", [{"colour": "red"}, {"folder": 7}, {"guest_id": "no such; name"}, {"hot_add": "yes"}, {"folder": True}]
)
def test_an_option_that_is_not_known_or_not_right_is_named(given):
    with pytest.raises(InvalidRequest, match=next(iter(given))):
        extensions.options({"vmware": given})
    assert extensions.options({"libvirt": {"xml": "x"}}) == extensions.Options()


def test_credentials_come_from_the_environment_or_a_file_and_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDERATION_VMWARE_USERNAME", "me")
    monkeypatch.setenv("FEDERATION_VMWARE_PASSWORD", "secret")
    assert Settings(host="vc").credentials() == ("me", "secret")
    monkeypatch.delenv("FEDERATION_VMWARE_PASSWORD")
    with pytest.raises(PermissionDenied, match="FEDERATION_VMWARE_PASSWORD"):
        Settings(host="vc").credentials()
    file = tmp_path / "password"
    file.write_text("from file\n")
    assert Settings(host="vc", password_file=str(file)).credentials() == ("me", "from file")
    with pytest.raises(PermissionDenied, match="missing"):
        Settings(host="vc", password_file=str(tmp_path / "missing")).credentials()
