"""What a driver refuses, with which code, and that a refusal touches nothing."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest

from federation.conformance.asking import METADATA, creation, spec_of
from federation.conformance.bench import Bench, Subject
from federation.conformance.mistakes import mistakes_of
from federation.conformance.scenarios import SCENARIOS
from federation.conformance.trying import expect_refusal, require, usable_scenario
from federation.contract.capabilities import Capability
from federation.contract.operations import DECLARED, Lane, Operation, find, on_lane
from federation.contract.validation import parse_request, required_capabilities

CHANGES = sorted({scenario.name for scenario in SCENARIOS} - {"create"})
LEAVES_ABSENT_ALONE = {"destroy"}
READS = [o.name for o in on_lane(Lane.QUERY) if any(f.name == "instance" for f in msgspec.structs.fields(o.request))]
_PLAIN = {"get_console": {"kind": "vnc"}}


def _request(bench: Bench, operation: str, subject: Subject) -> dict[str, Any]:
    scenario = usable_scenario(bench, operation)
    return scenario.ask(bench, subject)


@pytest.mark.clause("ERR-4", "ERR-1", "ERR-3")
@pytest.mark.parametrize("operation", [name for name in CHANGES if name not in LEAVES_ABSENT_ALONE])
def test_a_change_of_an_instance_that_is_not_there_is_not_found(bench: Bench, subject: Subject, operation: str) -> None:
    """The driver says not_found, and makes nothing of that name."""
    request = _request(bench, operation, subject)
    expect_refusal(bench.do(operation, request, bare=True), "not_found")
    assert bench.observer.look(subject.instance) is None


@pytest.mark.clause("ERR-4", "CHG-6")
@pytest.mark.parametrize("operation", READS)
def test_a_read_of_an_instance_that_is_not_there_is_not_found(bench: Bench, subject: Subject, operation: str) -> None:
    """The driver says not_found."""
    request = {"instance": subject.instance} | _PLAIN.get(operation, {})
    if operation == "get_console":
        kinds = [flag for flag in sorted(bench.flags) if flag.startswith("console_") and flag != "console_output"]
        require(bench, [Capability.CONSOLE_VNC] if not kinds else [])
        request["kind"] = kinds[0].removeprefix("console_")
    declared = find(operation)
    require(bench, required_capabilities(declared, parse_request(declared, request)))
    expect_refusal(bench.do(operation, request, bare=True), "not_found")


@pytest.mark.clause("FOR-3")
@pytest.mark.parametrize("operation", CHANGES)
def test_a_foreign_machine_is_refused_and_not_touched(bench: Bench, operation: str) -> None:
    """invalid_state that says that the machine is foreign; nothing of it changes."""
    scenario = usable_scenario(bench, operation)
    foreign = bench.plant_foreign()
    before = bench.observer.look(foreign)
    stranger = Subject(bench.nodes[0], instance=foreign)
    run = bench.do(operation, scenario.ask(bench, stranger), bare=True)
    expect_refusal(run, "invalid_state", told="foreign")
    assert bench.observer.look(foreign) == before


@pytest.mark.clause("FOR-3", "REQ-7")
def test_create_does_not_take_a_foreign_machine_s_id(bench: Bench) -> None:
    """already_exists, and the machine stays as it is."""
    foreign = bench.plant_foreign()
    before = bench.observer.look(foreign)
    stranger = Subject(bench.nodes[0], instance=foreign)
    expect_refusal(bench.do("create", creation()(bench, stranger), bare=True), "already_exists")
    assert bench.observer.look(foreign) == before


@pytest.mark.clause("FOR-1", "FOR-2")
def test_a_foreign_machine_is_shown_as_foreign_and_only_when_asked(bench: Bench) -> None:
    """Listed with ``owned`` false when foreign ones are asked for, else not listed; get_instance says so, too."""
    foreign = bench.plant_foreign()
    shown = {one["id"]: one for one in _all(bench, foreign=True)}
    assert foreign in shown
    assert not shown[foreign]["owned"]
    assert foreign not in {one["id"] for one in _all(bench, foreign=False)}
    assert not bench.succeed("get_instance", {"instance": foreign})["owned"]


def _all(bench: Bench, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = bench.succeed("list_instances", {"after": after, "limit": 1000} | more)
        found += page["instances"]
        after = page.get("next")
        if after is None:
            return found


STATES = [
    ("power_on", "paused", {}),
    ("power_off", "suspended", {"mode": "graceful", "timeout_seconds": 5.0}),
    ("reboot", "stopped", {}),
    ("reboot", "suspended", {}),
    ("pause", "stopped", {}),
    ("pause", "suspended", {}),
    ("unpause", "stopped", {}),
    ("unpause", "suspended", {}),
    ("suspend", "stopped", {}),
    ("resume", "stopped", {}),
    ("resize", "running", {"flavour": {"vcpus": 1, "memory_bytes": 1 << 28}}),
    ("resize", "paused", {"flavour": {"vcpus": 1, "memory_bytes": 1 << 28}}),
    ("resize", "suspended", {"flavour": {"vcpus": 1, "memory_bytes": 1 << 28}}),
    ("send_nmi", "stopped", {}),
    ("set_admin_password", "stopped", {"password": "Conform-1!"}),
    ("capture_image", "running", {"target": {"kind": "template", "template": "conf-refused"}}),
    ("migrate", "stopped", {"mode": "live"}),
    ("migrate", "running", {"mode": "cold"}),
]
"""Operation, the state that does not allow it, and the rest of the request."""


@pytest.mark.clause("STA-1", "STA-2", "STA-3", "STA-4", "MIG-2", "IMG-1")
@pytest.mark.parametrize(("operation", "state", "more"), STATES, ids=[f"{name}-{state}" for name, state, _ in STATES])
def test_a_state_that_does_not_allow_it_is_invalid(
    bench: Bench, subject: Subject, operation: str, state: str, more: dict[str, Any]
) -> None:
    """invalid_state, naming the state, and nothing is touched."""
    request = {"instance": subject.instance} | more
    if operation == "migrate":
        request["node"] = bench.nodes[-1]
    declared = find(operation)
    start = next(one for one in SCENARIOS if one.start == state and not one.before)
    flags = required_capabilities(declared, parse_request(declared, request))
    for step in start.steps():
        flags |= required_capabilities(find(step.name), parse_request(find(step.name), step.ask(bench, subject)))
    require(bench, flags)
    start.prepare(bench, subject)
    before = bench.settle(subject)
    expect_refusal(bench.do(operation, request, bare=True), "invalid_state", told=state)
    assert bench.settle(subject) == before


@pytest.mark.clause("STA-5")
def test_resize_does_not_change_the_firmware(bench: Bench, subject: Subject) -> None:
    """A guest does not start with other firmware: invalid_request."""
    require(bench, [Capability.RESIZE, Capability.UEFI])
    bench.succeed("create", creation(start=False)(bench, subject))
    before = bench.settle(subject)
    flavour = {"vcpus": 1, "memory_bytes": bench.target.conformance.memory_bytes, "firmware": "uefi"}
    run = bench.do("resize", {"instance": subject.instance, "flavour": flavour}, bare=True)
    expect_refusal(run, "invalid_request", told="firmware")
    assert bench.settle(subject) == before


# Creations that cannot be


def _refused_creation(bench: Bench, subject: Subject, codes: tuple[str, ...], told: str = "", **more: Any) -> None:
    request = creation()(bench, subject)
    request["spec"] |= more
    expect_refusal(bench.do("create", request, bare=True), *codes, told=told)
    assert bench.observer.look(subject.instance) is None, "a refused creation left something behind"


@pytest.mark.clause("REQ-5")
def test_create_needs_a_node(bench: Bench, subject: Subject) -> None:
    """The manager chooses the node before it sends; without one the request is invalid."""
    _refused_creation(bench, subject, ("invalid_request",), "node", node=None)


@pytest.mark.clause("REQ-6")
def test_create_on_a_node_that_is_not_there_is_not_found(bench: Bench, subject: Subject) -> None:
    """not_found that names the node."""
    _refused_creation(bench, subject, ("not_found",), "no-such-node", node="no-such-node")


@pytest.mark.clause("REQ-9", "ERR-3")
def test_create_of_more_than_the_node_has_is_refused(bench: Bench, subject: Subject) -> None:
    """insufficient_resources before anything is made (or invalid_request where it is beyond a declared limit)."""
    flavour = {"vcpus": 1, "memory_bytes": 1 << 45}
    _refused_creation(bench, subject, ("insufficient_resources", "invalid_request"), flavour=flavour)


@pytest.mark.clause("REQ-8", "ERR-3")
def test_an_image_that_cannot_be_read_is_unavailable(bench: Bench, subject: Subject) -> None:
    """image_unavailable, and nothing is left behind."""
    require(bench, [Capability.BOOT_IMAGE])
    boots = bench.target.conformance.unavailable_boots
    assert boots, "[conformance] unavailable_boots is empty, but the driver declares boot_image"
    _refused_creation(bench, subject, ("image_unavailable",), boot=msgspec.to_builtins(boots[0]))


@pytest.mark.clause("REQ-8", "ERR-3")
def test_an_image_that_is_not_what_the_request_says_is_rejected(bench: Bench, subject: Subject) -> None:
    """image_rejected, and nothing is left behind."""
    require(bench, [Capability.BOOT_IMAGE])
    boots = bench.target.conformance.rejected_boots
    assert boots, "[conformance] rejected_boots is empty, but the driver declares boot_image"
    _refused_creation(bench, subject, ("image_rejected",), boot=msgspec.to_builtins(boots[0]))


@pytest.mark.clause("REQ-7", "ERR-3")
def test_a_name_belongs_to_one_instance(bench: Bench, subject: Subject) -> None:
    """already_exists for the second instance of a name, and the first stays as it is."""
    first = bench.subject()
    bench.succeed("create", creation(start=False)(bench, first))
    before = bench.settle(first)
    _refused_creation(bench, subject, ("already_exists",), first.name, name=first.name)
    assert bench.settle(first) == before


@pytest.mark.clause("REQ-7", "ERR-3")
def test_an_id_belongs_to_one_instance(bench: Bench, subject: Subject) -> None:
    """already_exists for another creation under the id, by another operation; the instance stays as it is."""
    bench.succeed("create", creation(start=False)(bench, subject), operation=subject.operation)
    before = bench.settle(subject)
    request = creation(start=False)(bench, subject)
    request["spec"]["name"] = f"{subject.name}-b"
    expect_refusal(bench.do("create", request, bare=True), "already_exists")
    assert bench.settle(subject) == before


@pytest.mark.clause("REQ-3", "ERR-3")
def test_an_unknown_extension_of_its_own_is_refused(bench: Bench, subject: Subject) -> None:
    """invalid_request that names the option: what a user asked for is never dropped silently."""
    extensions = {bench.description.driver: {"surprising_option": 1}}
    _refused_creation(bench, subject, ("invalid_request",), "surprising_option", extensions=extensions)


@pytest.mark.clause("REQ-3")
def test_another_driver_s_extension_is_ignored(bench: Bench, subject: Subject) -> None:
    """Options under another driver's name are not this driver's business."""
    extensions = {"conformance-of-another-driver": {"surprising_option": 1}}
    bench.succeed("create", creation(start=False, extensions=extensions)(bench, subject))


@pytest.mark.clause("REQ-4")
@pytest.mark.parametrize(
    "metadata",
    [
        {},
        METADATA,
        {"k" * 255: "v" * 255},
        {f"key {number}": "é" * 64 for number in range(128)},
        {"k": ""},
        {"<&>\"'": "]]>&amp;"},
    ],
    ids=["none", "unicode", "longest", "most", "empty", "markup"],
)
def test_metadata_comes_back_as_it_was_given(bench: Bench, subject: Subject, metadata: dict[str, str]) -> None:
    """All that the contract allows is kept to the letter."""
    bench.succeed("create", creation(start=False, metadata=metadata)(bench, subject))
    assert bench.succeed("get_instance", {"instance": subject.instance})["metadata"] == metadata


@pytest.mark.clause("REQ-4")
@pytest.mark.parametrize("length", [1, 63], ids=["shortest", "longest"])
def test_names_of_every_length_are_kept(bench: Bench, subject: Subject, length: int) -> None:
    """From one letter to 63."""
    letters = subject.instance.replace("-", "")
    subject.name = letters[:1].upper() if length == 1 else (letters * 2)[: length - 2] + ".z"
    bench.succeed("create", creation(start=False)(bench, subject))
    assert bench.succeed("get_instance", {"instance": subject.instance})["name"] == subject.name


@pytest.mark.clause("REQ-4")
def test_the_longest_user_data_is_taken(bench: Bench, subject: Subject) -> None:
    """65,535 characters, unicode among them, and many keys."""
    require(bench, [Capability.USER_DATA])
    guest = {"user_data": ("#cloud-config\n# " + "ü✓" * 40_000)[:65535], "ssh_keys": ["ssh-ed25519 " + "A" * 500] * 64}
    bench.succeed("create", creation(start=False, guest=guest)(bench, subject))


@pytest.mark.clause("REQ-10")
def test_a_mac_address_that_was_asked_for_is_given(bench: Bench, subject: Subject) -> None:
    """The interface has the address of the request."""
    require(bench, [Capability.INTERFACES])
    networks = bench.target.conformance.networks
    assert networks, "[conformance] networks is empty, but the driver declares interfaces"
    mac = "52:54:00:" + ":".join(subject.instance[at : at + 2] for at in (0, 2, 4))
    made = bench.succeed(
        "create", creation(start=False, interfaces=[{"network": networks[0], "mac": mac}])(bench, subject)
    )
    assert [one["mac"] for one in made["interfaces"]] == [mac]


@pytest.mark.clause("REQ-2")
@pytest.mark.parametrize("operation", DECLARED, ids=lambda o: f"{o.name}-{o.revision}")
def test_a_request_that_breaks_a_rule_never_gets_through(bench: Bench, operation: Operation) -> None:
    """Unknown fields, wrong types and every limit of every field: refused without asking for leave."""
    for told, arguments in mistakes_of(operation):
        run = bench.do(operation.name, arguments)
        assert run.code == "invalid_request", f"{told}: {run.outcome}"
        assert run.guards == 0, told


# Capabilities


@pytest.mark.clause("CAP-2")
@pytest.mark.parametrize("flag", Capability, ids=str)
def test_a_capability_that_is_not_declared_is_refused_and_touches_nothing(bench: Bench, flag: Capability) -> None:
    """Asked directly, the driver itself says not_supported; where it declares the flag, another case shows that it works."""
    if flag in bench.flags:
        return
    subject = bench.subject()
    bench.succeed("create", creation(start=False)(bench, subject))
    before = bench.settle(subject)
    for name, request in _needing(bench, flag, subject):
        _refused(bench, name, request)
    assert bench.settle(subject) == before


def _refused(bench: Bench, name: str, request: dict[str, Any]) -> None:
    run = bench.do(name, request, bare=True)
    assert run.outcome.code in {"not_supported", "no_method"}, f"{name} with {request} ended {run.outcome}"
    assert run.guards == 0, f"{name} asked for leave before it refused"
    assert bench.do(name, request).code in {"not_supported", "contract_mismatch"}


def _needing(bench: Bench, flag: Capability, subject: Subject) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    with bench.imagining():
        for scenario in SCENARIOS:
            request = scenario.ask(bench, Subject(bench.nodes[0]) if scenario.name == "create" else subject)
            declared = find(scenario.name)
            if flag in required_capabilities(declared, parse_request(declared, request)):
                found.append((scenario.name, request))
    found += [(name, request) for name, request, needs in _others(subject, bench) if needs is flag]
    assert found, f"no request of the table needs {flag}: the kit lacks a row"
    return found


def _others(subject: Subject, bench: Bench) -> list[tuple[str, dict[str, Any], Capability]]:
    this = {"instance": subject.instance}
    consoles = [
        ("get_console", this | {"kind": flag.removeprefix("console_")}, flag)
        for flag in Capability
        if flag.startswith("console_") and flag is not Capability.CONSOLE_OUTPUT
    ]
    uefi = Subject(bench.nodes[0])
    flavour = {"vcpus": 1, "memory_bytes": bench.target.conformance.memory_bytes, "firmware": "uefi"}
    return [
        *consoles,
        ("get_console_output", this, Capability.CONSOLE_OUTPUT),
        ("list_snapshots", this, Capability.SNAPSHOTS),
        ("get_metrics", this, Capability.METRICS),
        ("set_node_maintenance", {"node": subject.node, "enabled": True}, Capability.NODE_MAINTENANCE),
        ("adopt", {"instance": str(uuid.uuid4()), "name": uefi.name, "node": subject.node}, Capability.ADOPT),
        ("set_admin_password", this | {"password": "Conform-1!"}, Capability.ADMIN_PASSWORD),
        ("create_snapshot", this | {"name": "quiesced", "quiesce": True}, Capability.QUIESCED_SNAPSHOTS),
        ("create", {"instance": uefi.instance, "spec": spec_of(bench, uefi, flavour=flavour)}, Capability.UEFI),
    ]


@pytest.mark.clause("CAP-3")
def test_a_limit_that_is_declared_is_kept(bench: Bench, subject: Subject) -> None:
    """One beyond a declared limit is invalid_request, before anything is made."""
    limits = bench.description.capabilities.limits
    memory = bench.target.conformance.memory_bytes
    for field, value in (("vcpus", limits.max_vcpus), ("memory_bytes", limits.max_memory_bytes)):
        if value is not None:
            beyond = value + (1 if field == "vcpus" else 1 << 20)
            flavour = {"vcpus": 1, "memory_bytes": memory} | {field: beyond}
            run = bench.do("create", creation()(bench, subject) | {"spec": spec_of(bench, subject, flavour=flavour)})
            assert run.code == "invalid_request", run.outcome
    if limits.max_data_disks is not None and limits.max_data_disks < 32:  # noqa: PLR2004 (the contract's own limit)
        disks = [{"size_bytes": 1 << 20}] * (limits.max_data_disks + 1)
        assert bench.do("create", creation(data_disks=disks)(bench, subject)).code == "invalid_request"
    assert bench.observer.look(subject.instance) is None
