"""What every declared operation must fulfil, and what the edges refuse."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.capabilities import Capabilities, Capability, Limits
from federation.contract.errors import CATALOGUE, ContractMismatch, Effect, InvalidRequest, NotSupported
from federation.contract.operations import DECLARED, Convergence, Lane, find
from federation.contract.release import Release
from federation.contract.validation import check_capabilities, parse_request, required_capabilities

INSTANCE = "01a20336-0c59-7465-9ed0-fa7d41e2d169"
SPEC = {
    "name": "web-1",
    "flavour": {"vcpus": 2, "memory_bytes": 1 << 30},
    "boot": {"kind": "template", "template": "debian"},
}
EVERYTHING = Capabilities(flags=frozenset(Capability))


@pytest.mark.parametrize("operation", DECLARED, ids=lambda o: f"{o.name}-{o.revision}")
def test_a_change_is_ordered_and_convergent_and_a_query_is_neither(operation):
    changes = operation.lane is Lane.ORDERED
    assert changes == (operation.ordering is not None) == (operation.convergence is not Convergence.READ)


@pytest.mark.parametrize("operation", DECLARED, ids=lambda o: f"{o.name}-{o.revision}")
def test_declared_errors_are_in_the_catalogue(operation):
    assert operation.errors <= CATALOGUE.keys()


@pytest.mark.parametrize("operation", DECLARED, ids=lambda o: f"{o.name}-{o.revision}")
def test_an_unknown_field_is_refused_by_its_name(operation):
    with pytest.raises(InvalidRequest, match="surprise"):
        parse_request(
            operation, {"instance": INSTANCE, "surprise": 1} if "instance" in _fields(operation) else {"surprise": 1}
        )


def _fields(operation):
    return {field.name for field in msgspec.structs.fields(operation.request)}


def test_no_two_operations_share_name_and_revision():
    assert len({(o.name, o.revision) for o in DECLARED}) == len(DECLARED)


def test_an_unknown_operation_is_told_which_are_known():
    with pytest.raises(ContractMismatch, match="power_on"):
        find("fly")


def test_every_error_says_what_to_do_next():
    assert all(error.next_move and error.__doc__ for error in CATALOGUE.values())
    assert {error.effect for error in CATALOGUE.values()} == set(Effect)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "web\n"}, "name"),
        ({"flavour": {"vcpus": 0, "memory_bytes": 1 << 30}}, "vcpus"),
        ({"flavour": {"vcpus": 1, "memory_bytes": 1000}}, "memory_bytes"),
        ({"flavour": {"vcpus": 2, "memory_bytes": 1 << 30, "topology": {"sockets": 3}}}, "topology"),
        ({"boot": {"kind": "floppy"}}, "boot"),
        ({"boot": {"kind": "image", "url": "http://x/y", "checksum": "md5:1", "format": "raw"}}, "checksum"),
        ({"extensions": {"libvirt": {"xml": ["list"]}}}, "extensions"),
    ],
)
def test_a_bad_create_names_the_field(change, named):
    with pytest.raises(InvalidRequest, match=named):
        parse_request(find("create"), {"instance": INSTANCE, "spec": {**SPEC, **change}})


def test_an_instance_id_must_be_a_lower_case_uuid():
    with pytest.raises(InvalidRequest, match="instance"):
        parse_request(find("destroy"), {"instance": INSTANCE.upper()})


@pytest.mark.parametrize("name", ["destroy", "get_instance"])
def test_a_line_break_behind_an_id_is_not_overlooked(name):
    with pytest.raises(InvalidRequest, match="instance"):
        parse_request(find(name), {"instance": INSTANCE + "\n"})


def test_a_request_needs_the_flags_of_all_its_parts_and_modes():
    spec = {**SPEC, "data_disks": [{"size_bytes": 1 << 30}], "interfaces": [{"network": "default"}], "guest": {}}
    spec["flavour"] = {**SPEC["flavour"], "firmware": "uefi"}
    request = parse_request(find("create"), {"instance": INSTANCE, "spec": spec})
    assert required_capabilities(find("create"), request) == {
        Capability.BOOT_TEMPLATE,
        Capability.DATA_DISKS,
        Capability.INTERFACES,
        Capability.USER_DATA,
        Capability.UEFI,
    }


@given(st.frozensets(st.sampled_from(Capability)))
def test_what_is_not_declared_is_refused_by_its_name(flags):
    request = parse_request(find("power_off"), {"instance": INSTANCE, "mode": "graceful"})
    if Capability.GRACEFUL_POWER_OFF in flags:
        check_capabilities(find("power_off"), request, Capabilities(flags=flags))
    else:
        with pytest.raises(NotSupported, match="graceful_power_off"):
            check_capabilities(find("power_off"), request, Capabilities(flags=flags))


@pytest.mark.parametrize(
    ("limits", "named"),
    [(Limits(max_vcpus=1), "vcpus"), (Limits(max_memory_bytes=1 << 29), "memory_bytes")],
)
def test_a_declared_limit_is_kept(limits, named):
    request = parse_request(find("create"), {"instance": INSTANCE, "spec": SPEC})
    with pytest.raises(InvalidRequest, match=named):
        check_capabilities(find("create"), request, Capabilities(flags=EVERYTHING.flags, limits=limits))


@given(st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True))
def test_a_release_is_major_dot_minor(text):
    assert Release.parse(str(Release.parse(text))) == Release.parse(text)


@given(st.text(max_size=6).filter(lambda text: not re.fullmatch(r"[0-9]+\.[0-9]+", text, re.ASCII)))
def test_nothing_else_is_a_release(text):
    with pytest.raises(InvalidRequest, match=re.escape(repr(text))):
        Release.parse(text)
