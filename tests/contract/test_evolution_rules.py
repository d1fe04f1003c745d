"""Each rule about changes of the contract is broken once, and what is compatible passes."""

import copy
import json
from pathlib import Path

import pytest

from federation.contract.evolution.comparison import BOOKS, compare
from federation.contract.evolution.rule_book import Direction, Weight

# A contract in the form of a release file, made once: the rules are tried on it whatever becomes of ours.
BASE = json.loads(Path(__file__).with_name("sample_contract.json").read_text())
NEXT = "1.1"


def operation(contract, name, revision=1):
    return next(o for o in contract["operations"] if (o["name"], o["revision"]) == (name, revision))


def fields(contract, kind):
    return contract["types"][kind]["properties"]


def enlarged(kind, field, schema, *, required=False):
    def change(contract):
        fields(contract, kind)[field] = schema
        if required:
            contract["types"][kind]["required"].append(field)

    return change


def told(name, /, **facts):
    return lambda contract: operation(contract, name).update(facts)


def said(kind, field, **schema):
    return lambda contract: fields(contract, kind)[field].update(schema)


def required(kind, field, *, must):
    def change(contract):
        names = contract["types"][kind]["required"]
        if must:
            names.append(field)
            fields(contract, kind)[field].pop("default")
        else:
            names.remove(field)
            fields(contract, kind)[field]["default"] = None

    return change


def without(kind, field):
    def change(contract):
        del fields(contract, kind)[field]
        must = contract["types"][kind]["required"]
        contract["types"][kind]["required"] = [name for name in must if name != field]

    return change


def replaced(kind, field, schema):
    return lambda contract: fields(contract, kind).update({field: schema})


def values(kind, *, add=(), remove=()):
    def change(contract):
        held = contract["types"][kind]["enum"]
        contract["types"][kind]["enum"] = sorted({*held, *add} - {*remove})

    return change


def dropped(part, name):
    return lambda contract: contract[part].pop(name)


def put(part, name, value):
    return lambda contract: contract[part].update({name: value})


def raising(name, *codes, without=()):
    def change(contract):
        facts = operation(contract, name)
        facts["errors"] = sorted({*facts["errors"], *codes} - {*without})

    return change


def gone(name):
    return lambda contract: contract["operations"].remove(operation(contract, name))


def revised(name, /, since=NEXT, **facts):
    def change(contract):
        contract["operations"].append({**operation(contract, name), "revision": 2, "since": since, **facts})

    return change


def deprecated(name, since=NEXT, removal="1.3", replaced_by=None):
    terms = {"replaced_by": replaced_by or [name, 2], "since": since, "removal": removal}
    return told(name, deprecated=terms)


def both(*changes):
    def change(contract):
        for each in changes:
            each(contract)

    return change


def boot(contract):
    return fields(contract, "InstanceSpec")["boot"]


def retagged(contract):
    contract["types"]["BootImage"]["properties"]["kind"]["enum"] = ["picture"]


def tag_moved(contract):
    image = contract["types"]["BootImage"]
    image["properties"] = {"type": {"enum": ["image"]}, **{k: v for k, v in image["properties"].items() if k != "kind"}}
    image["required"] = ["type", *image["required"][1:]]


def without_alternative(contract):
    boot(contract)["anyOf"].pop()


def with_alternative(contract):
    contract["types"]["BootNetwork"] = {
        "title": "BootNetwork",
        "type": "object",
        "properties": {"kind": {"enum": ["network"]}, "url": {"type": "string"}},
        "required": ["kind", "url"],
        "additionalProperties": False,
    }
    boot(contract)["anyOf"].append({"$ref": "#/types/BootNetwork"})


def type_renamed(contract):
    contract["types"]["Flavor"] = contract["types"].pop("Flavour")
    fields(contract, "InstanceSpec")["flavour"] = {"$ref": "#/types/Flavor"}
    fields(contract, "Resize")["flavour"] = {"$ref": "#/types/Flavor"}


def opened(contract):
    del contract["types"]["Create"]["additionalProperties"]


def closed(contract):
    contract["types"]["Instance"]["additionalProperties"] = False


STRING, NULL = {"type": "string"}, {"type": "null"}
BREAKING = {
    # operations
    "an operation is removed": ("operation-removed", gone("pause")),
    "an operation is removed right after it was deprecated": ("operation-removed", both(revised("pause"), gone("pause"))),
    "a new operation says an older release": ("since-wrong", revised("pause", since="1.0")),
    "a new operation says a later release": ("since-wrong", revised("pause", since="1.2")),
    "an operation forgets when it came": ("since-wrong", told("pause", since=NEXT)),
    "a change becomes a query": ("lane-changed", told("pause", lane="query")),
    "an operation is ordered by node": ("ordering-changed", told("pause", ordering="node")),
    "a repeat converges by another rule": ("convergence-changed", told("reboot", convergence="target")),
    "a capability is newly required": ("capability-required", told("power_on", capability="reboot")),
    "another capability is required": ("capability-required", told("pause", capability="suspend")),
    "a capability is no longer required": ("capability-dropped", told("pause", capability=None)),
    "an operation declares one more error": ("error-declared", raising("pause", "image_rejected")),
    "a request is another class": ("request-or-result-renamed", told("pause", request="Unpause")),
    "a result is another class": ("request-or-result-renamed", told("pause", result="Empty")),
    "a deprecation says an older release": ("deprecation-dated-wrong", both(revised("pause"), deprecated("pause", "1.0"))),
    "a deprecation lasts for one release": ("deprecation-too-short", both(revised("pause"), deprecated("pause", removal="1.2"))),
    "a deprecation names no replacement": ("replacement-missing", deprecated("pause")),
    "a deprecation replaces by what is deprecated": ("replacement-missing", deprecated("pause", replaced_by=["pause", 1])),
    "create no longer makes the instance": ("operation-fact-changed", told("create", makes_instance=False)),
    # errors and capabilities
    "a code leaves the catalogue": ("error-removed", dropped("errors", "conflict")),
    "a code blames somebody else": ("error-fault-changed", lambda c: c["errors"]["conflict"].update(fault="caller")),
    "a code has another effect": ("error-effect-changed", lambda c: c["errors"]["timed_out"].update(effect="unknown")),
    "a code has another next move": ("error-next-move-changed", lambda c: c["errors"]["timed_out"].update(next_move="Wait.")),
    "a flag is removed": ("capability-removed", dropped("capabilities", "pause")),
    "a type asks for a flag": ("need-added", put("needs", "Topology", "uefi")),
    "a value asks for a flag": ("need-added", put("needs", "RebootMode=hard", "reboot")),
    "a type asks for another flag": ("need-changed", put("needs", "DataDisk", "interfaces")),
    "a value asks for no flag any more": ("need-changed", dropped("needs", "RebootMode=soft")),
    # types
    "a field has another type": ("type-changed", replaced("Create", "start", {"type": "integer", "default": 1})),
    "a list becomes one item": ("type-changed", replaced("GuestSetup", "ssh_keys", {**STRING, "default": ""})),
    "items of a list have another type": ("type-changed", said("GuestSetup", "ssh_keys", items={"type": "integer"})),
    "values of a map have another type": ("type-changed", said("InstanceSpec", "metadata", additionalProperties={"type": "integer"})),
    "a tag is renamed": ("tag-renamed", retagged),
    "another field holds the tag": ("tag-renamed", tag_moved),
    "a request loses an alternative": ("request-alternative-removed", without_alternative),
    "a request has a new alternative without a date": ("request-alternative-undated", with_alternative),
    "a request refuses null": ("request-null-refused", replaced("InstanceSpec", "node", {**STRING, "default": None})),
    "a result may be null": ("result-null-allowed", replaced("Node", "name", {"anyOf": [STRING, NULL]})),
    "a result is never null": ("result-null-refused", replaced("DiskFacts", "size_bytes", {"type": "integer", "default": None})),
    "a result may be a number, too": ("result-alternative-added", replaced("Node", "name", {"anyOf": [STRING, {"type": "integer"}]})),
    "a result is no longer a whole number": ("result-number-widened", said("Node", "instances", type="number")),
    "a type bears another name": ("type-renamed", type_renamed),
    "a request loses a value": ("request-value-removed", values("RebootMode", remove=["soft"])),
    "a request has a new value without a date": ("request-value-undated", values("RebootMode", add=["warm"])),
    "a result has a new value": ("result-value-added", values("Health", add=["fair"])),
    "a result loses a value": ("result-value-removed", values("Health", remove=["bad"])),
    "an open enumeration in a result loses a value": ("result-value-removed", values("Capability", remove=["pause"])),
    "a request's maximum is lowered": ("request-limit-narrowed", said("ListInstances", "limit", maximum=500)),
    "a request's minimum is raised": ("request-limit-narrowed", said("ListInstances", "limit", minimum=10)),
    "a request's text has a limit": ("request-limit-narrowed", said("GuestSetup", "user_data", maxLength=10)),
    "a request's text must match": ("request-limit-narrowed", said("GuestSetup", "user_data", pattern="^#cloud-config")),
    "a request's sizes come in larger steps": ("request-limit-narrowed", said("DataDisk", "size_bytes", multipleOf=1 << 30)),
    "a request takes fewer items": ("request-limit-narrowed", said("InstanceSpec", "data_disks", maxItems=2)),
    "a request's map takes shorter names": ("request-limit-narrowed", said("InstanceSpec", "metadata", propertyNames={"maxLength": 9})),
    "a result loses its pattern": ("result-limit-widened", lambda c: fields(c, "InstancePage")["next"]["anyOf"][0].pop("pattern")),
    "a result has a limit": ("result-limit-narrowed", said("Node", "instances", maximum=100)),
    "a pattern is another one": ("pattern-changed", said("BootImage", "checksum", pattern="^md5:")),
    "a request takes unknown fields": ("unknown-fields-treated-otherwise", opened),
    "a result refuses unknown fields": ("unknown-fields-treated-otherwise", closed),
    "a type says what no rule knows": ("keyword-changed", said("Node", "name", contentEncoding="base64")),
    # fields
    "a request loses a field": ("request-field-removed", without("Create", "start")),
    "a request has a new required field": ("request-field-added-required", enlarged("Create", "owner", STRING, required=True)),
    "a part of a request has a new required field": ("request-field-added-required", enlarged("Flavour", "numa", STRING, required=True)),
    "a request's field becomes required": ("request-field-became-required", required("PowerOff", "mode", must=True)),
    "a new field of a request has no date": ("request-field-undated", enlarged("Create", "owner", {**STRING, "default": ""})),
    "a new field of a request has an old date": (
        "request-field-undated", enlarged("Create", "owner", {**STRING, "default": "", "since": "1.0"}),
    ),
    "a field has another date": ("field-redated", said("Create", "start", since=NEXT)),
    "a result loses a field": ("result-field-removed", without("Node", "hypervisor")),
    "a part of a result loses a field": ("result-field-removed", without("DiskFacts", "source")),
    "a result has a new required field": ("result-field-added-required", enlarged("Node", "rack", STRING, required=True)),
    "a result may leave a field out": ("result-field-became-optional", required("Node", "vcpus_used", must=False)),
    "a result must have a field": ("result-field-became-required", required("Node", "message", must=True)),
    "a request's default is another one": ("default-changed", said("PowerOff", "timeout_seconds", default=30.0)),
    "a mode's default is another one": ("default-changed", said("Reboot", "mode", default="soft")),
    "a result's default is another one": ("default-changed", said("Instance", "owned", default=False)),
}  # fmt: skip

DATED = {"since": NEXT}
COMPATIBLE = {
    "nothing": (None, both()),
    "a new operation": ("operation-added", revised("pause", name="freeze")),
    "a new revision": ("operation-added", revised("pause")),
    "a revision is deprecated": ("operation-deprecated", both(revised("pause"), deprecated("pause"))),
    "a revision is deprecated until the next major": ("operation-deprecated", both(revised("pause"), deprecated("pause", removal="2.0"))),
    "an operation no longer ends with a code": ("error-withdrawn", raising("pause", without=["conflict"])),
    "a deadline is longer": ("deadline-changed", told("pause", default_deadline_seconds=7200.0)),
    "a summary reads better": ("summary-changed", told("pause", summary="Halt.")),
    "a code is added": ("error-added", put("errors", "asleep", dict.fromkeys(("fault", "effect", "next_move"), "x"))),
    "a flag is added": ("capability-added", both(put("capabilities", "teleport", "x"), values("Capability", add=["teleport"]))),
    "an open enumeration in a result has a new value": ("result-open-value-added", values("Capability", add=["teleport"])),
    "a flag's meaning reads better": ("capability-meaning-changed", put("capabilities", "pause", "it can pause")),
    "a new type asks for a flag": (None, put("needs", "BootNetwork", "boot_image")),
    "a request's new field has default and date": ("request-field-added", enlarged("Create", "owner", {**STRING, "default": "", **DATED})),
    "a request's new field may be null": (
        "request-field-added", enlarged("Create", "owner", {"anyOf": [{**STRING, **DATED}, NULL], "default": None}),
    ),
    "a request's field becomes optional": ("request-field-became-optional", required("BootImage", "format", must=False)),
    "a request takes null": ("request-null-allowed", replaced("BootTemplate", "template", {"anyOf": [{**STRING, "maxLength": 255}, NULL]})),
    "a request has a new alternative with a date": (
        "request-alternative-added", both(with_alternative, put("since", "BootNetwork", NEXT)),
    ),
    "a request has a new value with a date": (
        "request-value-added", both(values("RebootMode", add=["warm"]), put("since", "RebootMode=warm", NEXT)),
    ),
    "a request takes any number": ("request-number-widened", said("ListInstances", "limit", type="number")),
    "a request's maximum is raised": ("request-limit-widened", said("ListInstances", "limit", maximum=2000)),
    "a request's minimum goes": ("request-limit-widened", lambda c: fields(c, "ListInstances")["limit"].pop("minimum")),
    "a request's pattern goes": ("request-limit-widened", lambda c: fields(c, "BootImage")["url"].pop("pattern")),
    "a request's sizes come in smaller steps": ("request-limit-widened", said("DataDisk", "size_bytes", multipleOf=1 << 19)),
    "a result has a new field with a default": ("result-field-added", enlarged("Node", "rack", {**STRING, "default": ""})),
    "a driver may declare one more limit": (
        "result-field-added",
        both(
            enlarged("Limits", "max_gpus", {"anyOf": [{"type": "integer"}, NULL], "default": None}),
            lambda c: fields(c, "Capabilities")["limits"]["default"].update(max_gpus=None),
        ),
    ),
    "a field reads better": ("description-changed", said("Create", "start", description="Whether it runs in the end.")),
    "a type reads better": ("description-changed", lambda c: c["types"]["Node"].update(description="One host.")),
    "a field of a named type reads better": ("field-description-changed", said("PowerOff", "mode", description="How.")),
    "a type is no longer used": (None, lambda c: c["types"].update(Unused={"type": "object", "properties": {}})),
}  # fmt: skip


def changed(change, release=NEXT):
    contract = copy.deepcopy(BASE)
    contract["release"] = release
    change(contract)
    return contract


def breaks(findings):
    return {finding.rule for finding in findings if finding.weight is Weight.BREAK}


@pytest.mark.parametrize(("rule", "change"), BREAKING.values(), ids=BREAKING)
def test_a_breaking_change_is_caught(rule, change):
    findings = compare(BASE, changed(change))
    assert rule in breaks(findings), findings
    for finding in findings:
        assert finding.path
        assert finding.message
        assert finding.action


@pytest.mark.parametrize(("rule", "change"), COMPATIBLE.values(), ids=COMPATIBLE)
def test_a_compatible_change_passes(rule, change):
    findings = compare(BASE, changed(change))
    assert breaks(findings) == set()
    assert {rule} - {None} <= {finding.rule for finding in findings}, findings


def test_every_rule_is_broken_once():
    shown = {rule for rule, _ in (*BREAKING.values(), *COMPATIBLE.values())}
    by_history = {"operation-dropped", "deprecation-withdrawn", "removal-brought-forward"}
    # Rules that only a union of types in a result breaks, of which the contract has none: see the test of unions.
    of_unions = {"result-alternative-removed"}
    declared = {rule.name for book in BOOKS for rule in book.rules}
    assert declared - shown == by_history | of_unions


def test_every_rule_says_when_it_fires_and_what_to_do():
    rules = [rule for book in BOOKS for rule in book.rules]
    assert len({rule.name for rule in rules}) == len(rules)
    assert [rule.name for rule in rules if not (rule.text and rule.action)] == []


def test_a_union_in_a_result_neither_grows_nor_shrinks():
    union = {"anyOf": [STRING, {"type": "integer"}]}
    old, new = changed(replaced("Node", "name", union), "1.0"), changed(replaced("Node", "name", STRING))
    assert breaks(compare(old, new)) == {"result-alternative-removed"}
    new["release"], old["release"] = "1.0", NEXT
    assert breaks(compare(new, old)) == {"result-alternative-added"}


def test_a_finding_names_direction_place_and_the_operations_that_it_reaches():
    (finding,) = compare(BASE, changed(said("DataDisk", "size_bytes", maximum=1 << 30)))
    assert (finding.direction, finding.path) == (Direction.REQUEST, "types/DataDisk/size_bytes")
    assert finding.operations == ("create",)


def test_a_type_that_travels_both_ways_is_judged_both_ways():
    instance = {"$ref": "#/types/Flavour"}
    old = changed(enlarged("Instance", "flavour", instance, required=True), "1.0")
    new = changed(
        both(enlarged("Instance", "flavour", instance, required=True), said("Flavour", "vcpus", maximum=9999))
    )
    rules = {(finding.rule, finding.direction) for finding in compare(old, new)}
    assert rules == {
        ("request-limit-widened", Direction.REQUEST),
        ("result-limit-widened", Direction.RESULT),
    }


def test_a_renamed_operation_is_one_removed_and_one_added():
    rules = {finding.rule for finding in compare(BASE, changed(told("pause", name="halt", since=NEXT)))}
    assert rules == {"operation-removed", "operation-added"}


@pytest.mark.parametrize(
    ("deprecated_in", "removal", "now", "may_go"),
    [
        ("1.1", "1.3", "1.3", True),
        ("1.1", "1.3", "1.4", True),
        ("1.1", "1.3", "1.2", False),
        ("1.1", "1.5", "1.4", False),
        ("1.1", "1.2", "1.2", False),
        (None, None, "1.3", False),
    ],
)
def test_a_deprecated_revision_may_go_after_one_whole_release(deprecated_in, removal, now, may_go):
    history = [BASE]
    for release in ("1.1", "1.2"):
        terms = (
            both(revised("pause"), deprecated("pause", deprecated_in, removal)) if deprecated_in else revised("pause")
        )
        history.append(changed(terms, release))
    tree = changed(both(revised("pause"), gone("pause")), now)
    findings = [f for f in compare(BASE, tree, history) if f.rule in {"operation-removed", "operation-dropped"}]
    assert [f.rule for f in findings] == ["operation-dropped" if may_go else "operation-removed"]


def test_a_promised_release_of_removal_is_not_brought_forward():
    old = changed(both(revised("pause"), deprecated("pause", removal="1.5")), NEXT)
    new = changed(both(revised("pause"), deprecated("pause", removal="1.4")), "1.2")
    assert breaks(compare(old, new)) == {"removal-brought-forward"}
    assert breaks(compare(new, {**old, "release": "1.3"})) == set()


def test_a_deprecation_may_be_withdrawn():
    old = changed(both(revised("pause"), deprecated("pause")), NEXT)
    findings = compare(old, changed(revised("pause"), "1.2"))
    assert {(f.rule, f.weight) for f in findings} == {("deprecation-withdrawn", Weight.NOTE)}
