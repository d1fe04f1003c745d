"""Resources of machines: AddResourceSettings, ModifyResourceSettings, RemoveResourceSettings, and the features of ports.

What Hyper-V refuses is refused here: a drive on a controller that is not there or on a slot that is taken, memory or
processors of a running machine, a disk file that does not exist or that another running machine has open.
"""

from __future__ import annotations

import itertools
from typing import Any

from federation_hyperv.cim import Instance, Reference
from federation_hyperv.cim.codes import ReturnCode
from federation_hyperv.cim.errors import BadValue
from federation_hyperv.cim.paths import parse_path
from federation_hyperv.testing import words
from federation_hyperv.testing.files import BadPath
from federation_hyperv.testing.host import Refused, SimulatedHost, new_identifier
from federation_hyperv.testing.parameters import embedded, settings_from

Arguments = dict[str, Any]
_DRIVES = {words.DISK_DRIVE, words.DVD_DRIVE, words.PHYSICAL_DRIVE}
_DISKS = {words.HARD_DISK, words.DVD_DISK}
_MAC_COUNTER = itertools.count(1)
_MEMORY_LIMIT_MEGABYTES = 12 << 20


def add_resources(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """AddResourceSettings: all of them or none."""
    settings = settings_from(host, arguments.get("AffectedConfiguration"))
    wanted = [embedded(text, "") for text in arguments.get("ResourceSettings") or []]
    if not wanted:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    made: list[Instance] = []
    try:
        for item in wanted:
            made.append(add(host, settings, item))  # noqa: PERF401  # what was made is undone when a later one is refused
    except Refused:
        for item in made:
            host.repository.remove(item.reference)
        raise
    identifier = str(settings["VirtualSystemIdentifier"])
    for item in made:
        host.record(identifier, "add_resource", str(item["InstanceID"]), subtype=item["ResourceSubType"])
    return {
        "ResultingResourceSettings": [item.reference for item in made], "ReturnValue": ReturnCode.COMPLETED,
    }  # fmt: skip


def modify_resources(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """ModifyResourceSettings: the properties that are given replace those that are there."""
    pairs = [_held(host, text) for text in arguments.get("ResourceSettings") or []]
    if not pairs:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    for held, given in pairs:
        _check_modification(host, held, given)
    for held, given in pairs:
        for name, value in given.properties.items():
            if name not in {"InstanceID", "ResourceType", "ResourceSubType"} and value is not None:
                held[name] = value
        changed = sorted(set(given.properties) - {"InstanceID"})
        host.record(_owner_of(held), "modify_resource", str(held["InstanceID"]), properties=changed)
    return {"ResultingResourceSettings": [held.reference for held, _ in pairs], "ReturnValue": ReturnCode.COMPLETED}


def remove_resources(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """RemoveResourceSettings: a drive goes only after its disk, a controller only after its drives."""
    references = arguments.get("ResourceSettings") or []
    found = [host.repository.find(reference) for reference in references if isinstance(reference, Reference)]
    held = [item for item in found if item is not None]
    if not held or len(held) != len(references):
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    paths = {item.reference.identity() for item in held}
    for item in held:
        children = [child for child in _children(host, item) if child.reference.identity() not in paths]
        if item["ResourceSubType"] in {words.SCSI, words.IDE} and children:
            raise Refused(ReturnCode.V2_INVALID_STATE)
        _check_removal(host, item)
    for item in held:
        for child in _children(host, item):
            _remove_one(host, child)
        _remove_one(host, item)
    for item in held:
        host.record(_owner_of(item), "remove_resource", str(item["InstanceID"]), subtype=item["ResourceSubType"])
    return {"ReturnValue": ReturnCode.COMPLETED}


def add_features(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """AddFeatureSettings: one of a kind for each port, except access lists."""
    reference = arguments.get("AffectedConfiguration")
    port = host.repository.find(reference) if isinstance(reference, Reference) else None
    if port is None or port.class_name != "Msvm_EthernetPortAllocationSettingData":
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    made = []
    for text in arguments.get("FeatureSettings") or []:
        given = embedded(text, "")
        same = [
            item for item in host.repository.associated(port, "Msvm_EthernetPortSettingDataComponent")
            if item.class_name == given.class_name
        ]  # fmt: skip
        if same and "Acl" not in given.class_name:
            raise Refused(ReturnCode.V2_INVALID_STATE)
        feature = host.repository.add(given.copy(InstanceID=f"{port['InstanceID']}\\{new_identifier()}"))
        host.repository.tie("Msvm_EthernetPortSettingDataComponent", GroupComponent=port, PartComponent=feature)
        host.record(_owner_of(port), "add_feature", str(feature["InstanceID"]), feature=feature.class_name)
        made.append(feature.reference)
    return {"ResultingFeatureSettings": made, "ReturnValue": ReturnCode.COMPLETED}


def modify_features(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """ModifyFeatureSettings."""
    references = []
    for held, given in [_held(host, text) for text in arguments.get("FeatureSettings") or []]:
        for name, value in given.properties.items():
            if name != "InstanceID" and value is not None:
                held[name] = value
        host.record(_owner_of(held), "modify_feature", str(held["InstanceID"]), feature=held.class_name)
        references.append(held.reference)
    return {"ResultingFeatureSettings": references, "ReturnValue": ReturnCode.COMPLETED}


def remove_features(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """RemoveFeatureSettings."""
    for reference in arguments.get("FeatureSettings") or []:
        held = host.repository.find(reference)
        if held is None:
            raise Refused(ReturnCode.V2_INVALID_PARAMETER)
        host.repository.remove(reference)
        host.record(_owner_of(held), "remove_feature", str(held["InstanceID"]), feature=held.class_name)
    return {"ReturnValue": ReturnCode.COMPLETED}


def add_default(host: SimulatedHost, settings: Instance, subtype: str, **changes: Any) -> Instance:
    """Add a resource from the host's default for its kind."""
    default = host.defaults[subtype]
    return add(host, settings, default.copy(**changes))


def add(host: SimulatedHost, settings: Instance, asked: Instance) -> Instance:
    """Add one resource to settings; refused when Hyper-V would refuse it."""
    subtype = str(asked["ResourceSubType"] or "")
    if subtype not in words.RESOURCE_TYPES:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    asked = _completed(host.defaults[subtype], asked)
    machine = host.machine(str(settings["VirtualSystemIdentifier"]))
    running = machine is not None and host.is_running(machine)
    _check_hot(settings, subtype, running=running)
    root = str(settings["InstanceID"])
    if subtype in {words.MEMORY, words.PROCESSOR}:
        if host.resources(settings, asked.class_name):
            raise Refused(ReturnCode.V2_INVALID_PARAMETER)
        guid = words.MEMORY_GUID if subtype == words.MEMORY else f"{words.PROCESSOR_GUID}\\0"
        made = asked.copy(InstanceID=f"{root}\\{guid}")
    elif subtype in _DRIVES:
        made = _drive(host, settings, asked)
    elif subtype in _DISKS:
        made = _disk(host, asked)
    elif subtype == words.CONNECTION:
        made = _port(host, asked)
    else:
        made = asked.copy(InstanceID=f"{root}\\{new_identifier()}" + ("" if _is_adapter(subtype) else "\\0"))
        if _is_adapter(subtype) and not made["StaticMacAddress"]:
            made["Address"] = f"00155D{next(_MAC_COUNTER):06X}"
    host.repository.add(made)
    host.repository.tie("Msvm_VirtualSystemSettingDataComponent", GroupComponent=settings, PartComponent=made)
    return made


def _completed(default: Instance, asked: Instance) -> Instance:
    """What was asked for on top of the default of its kind.

    The kind decides on the class: libvirt asks for virtual hard disks as Msvm_ResourceAllocationSettingData.
    """
    made = default.copy()
    for name, value in asked.properties.items():
        if value is not None and name in made.cim_class.properties:
            made[name] = value
    made["ResourceType"] = default["ResourceType"]
    return made


def _is_adapter(subtype: str) -> bool:
    return subtype in {words.NETWORK_ADAPTER, words.LEGACY_ADAPTER}


def _check_hot(settings: Instance, subtype: str, *, running: bool) -> None:
    if not running:
        return
    hot = {words.DISK_DRIVE, words.DVD_DRIVE, words.PHYSICAL_DRIVE, words.HARD_DISK, words.DVD_DISK, words.CONNECTION}
    if settings["VirtualSystemSubType"] == words.GENERATION_2:
        hot.add(words.NETWORK_ADAPTER)
    if subtype not in hot:
        raise Refused(ReturnCode.V2_INVALID_STATE)


def _drive(host: SimulatedHost, settings: Instance, asked: Instance) -> Instance:
    controller = _parent(host, asked, {words.SCSI, words.IDE})
    slots = words.SCSI_SLOTS if controller["ResourceSubType"] == words.SCSI else words.IDE_SLOTS
    taken = {int(item["AddressOnParent"]) for item in _children(host, controller)}
    text = str(asked["AddressOnParent"] if asked["AddressOnParent"] is not None else asked["Address"] or "")
    slot = int(text) if text.isdigit() else next((n for n in range(slots) if n not in taken), slots)
    if slot in taken or slot >= slots:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    base = str(controller["InstanceID"]).removesuffix("\\0")
    return asked.copy(
        InstanceID=f"{base}\\0\\{slot}\\D",
        Parent=controller.path,
        AddressOnParent=str(slot),
        PoolID=asked["PoolID"] or "",
        Caption=settings["ElementName"],
    )


def _disk(host: SimulatedHost, asked: Instance) -> Instance:
    drive = _parent(host, asked, _DRIVES)
    paths = asked["HostResource"] or []
    if len(paths) != 1 or _children(host, drive):
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    check_file(host, paths[0])
    return asked.copy(InstanceID=str(drive["InstanceID"]).removesuffix("\\D") + "\\L", Parent=drive.path)


def check_file(host: SimulatedHost, path: str) -> None:
    """Refused when a disk file is not there."""
    try:
        if not host.files.exists(path):
            raise Refused(ReturnCode.FILE_NOT_FOUND)
    except BadPath as error:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER) from error


def _port(host: SimulatedHost, asked: Instance) -> Instance:
    adapter = _parent(host, asked, {words.NETWORK_ADAPTER, words.LEGACY_ADAPTER})
    if _children(host, adapter):
        raise Refused(ReturnCode.V2_INVALID_STATE)
    made = asked.copy(InstanceID=f"{adapter['InstanceID']}\\C", Parent=adapter.path)
    made["ElementName"] = adapter["ElementName"]
    _check_switch(host, made)
    return made


def _check_switch(host: SimulatedHost, port: Instance) -> None:
    for path in port["HostResource"] or []:
        try:
            switch = host.repository.find(parse_path(path))
        except BadValue as error:
            raise Refused(ReturnCode.V2_INVALID_PARAMETER) from error
        if switch is None or switch.class_name != "Msvm_VirtualEthernetSwitch":
            raise Refused(ReturnCode.V2_INVALID_PARAMETER)
        port["LastKnownSwitchName"] = switch["ElementName"]


def _parent(host: SimulatedHost, asked: Instance, subtypes: set[str]) -> Instance:
    try:
        found = host.repository.find(parse_path(str(asked["Parent"] or "")))
    except BadValue as error:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER) from error
    if found is None or found["ResourceSubType"] not in subtypes:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    return found


def _children(host: SimulatedHost, parent: Instance) -> list[Instance]:
    identity = parent.reference.identity()
    settings = host.repository.associated(parent, "Msvm_VirtualSystemSettingDataComponent")
    return [
        item for owner in settings for item in host.resources(owner)
        if "Parent" in item.cim_class.properties and item["Parent"]
        and parse_path(item["Parent"]).identity() == identity
    ]  # fmt: skip


def _held(host: SimulatedHost, text: str) -> tuple[Instance, Instance]:
    given = embedded(text, "")
    held = host.repository.find(Reference(given.class_name, (("InstanceID", str(given["InstanceID"])),)))
    if held is None or str(given["InstanceID"]).endswith("\\Default"):
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    return held, given


def _check_modification(host: SimulatedHost, held: Instance, given: Instance) -> None:
    machine = host.machine(_owner_of(held))
    running = machine is not None and host.is_running(machine)
    if held.class_name == "Msvm_MemorySettingData":
        amount = given["VirtualQuantity"] if given["VirtualQuantity"] is not None else held["VirtualQuantity"]
        if not 32 <= amount <= _MEMORY_LIMIT_MEGABYTES or amount % 2:  # Hyper-V's least memory
            raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    if held.class_name == "Msvm_ProcessorSettingData":
        count = given["VirtualQuantity"] if given["VirtualQuantity"] is not None else held["VirtualQuantity"]
        if not 1 <= count <= host.facts.processors:
            raise Refused(ReturnCode.V2_INVALID_PARAMETER)
        if running and count != held["VirtualQuantity"]:
            raise Refused(ReturnCode.V2_INVALID_STATE)
    if held["ResourceSubType"] in _DISKS:
        for path in given["HostResource"] or []:
            check_file(host, path)
    if held["ResourceSubType"] == words.CONNECTION:
        _check_switch(host, given)


def _check_removal(host: SimulatedHost, held: Instance) -> None:
    machine = host.machine(_owner_of(held))
    if machine is None or not host.is_running(machine):
        return
    settings = host.settings_of(machine)
    _check_hot(settings, str(held["ResourceSubType"]), running=True)
    parents = [str(held["Parent"] or ""), *(str(item["Parent"] or "") for item in _parents(host, held))]
    if any(words.IDE in _subtype_at(host, path) for path in parents if path):
        raise Refused(ReturnCode.V2_INVALID_STATE)


def _parents(host: SimulatedHost, held: Instance) -> list[Instance]:
    found = host.repository.find(parse_path(str(held["Parent"]))) if held["Parent"] else None
    return [found] if found is not None else []


def _subtype_at(host: SimulatedHost, path: str) -> str:
    found = host.repository.find(parse_path(path))
    return (
        str(found["ResourceSubType"] or "")
        if found is not None and "ResourceSubType" in found.cim_class.properties
        else ""
    )


def _remove_one(host: SimulatedHost, item: Instance) -> None:
    for feature in host.repository.associated(item, "Msvm_EthernetPortSettingDataComponent"):
        host.repository.remove(feature.reference)
    host.repository.remove(item.reference)


def _owner_of(item: Instance) -> str:
    """The machine's id, which every resource's InstanceID starts with."""
    return str(item["InstanceID"]).removeprefix("Microsoft:").partition("\\")[0]
