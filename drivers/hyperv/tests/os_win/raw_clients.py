"""pywinrm and pypsrp, as they are published, asking a host by raw operations; prints one JSON line of what was done.

The envelopes are those of libvirt's hyperv driver: the same classes, the same queries, one item for each Pull.
"""

from __future__ import annotations

import json
import os
import uuid
import xml.etree.ElementTree as ET

from pypsrp.exceptions import WSManFaultError
from pypsrp.wsman import SelectorSet, WSMan, WSManAction
from winrm.exceptions import WSManFaultError as PywinrmFault
from winrm.protocol import Protocol

PORT, USER, PASSWORD = int(os.environ["HYPERV_PORT"]), os.environ["HYPERV_USER"], os.environ["HYPERV_PASSWORD"]
MACHINE = os.environ["HYPERV_MACHINE"]
ROOT = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/"
V2, CIMV2 = ROOT + "virtualization/v2/", ROOT + "cimv2/"
WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
ACTIVE = "(EnabledState != 0 and EnabledState != 3 and EnabledState != 32769) "
VIRTUAL = "Name != __SERVER "
DONE: list[str] = []

# Class, query: what libvirt asks of a host when it connects, lists machines and describes one.
LIBVIRT = [
    ("Win32_ComputerSystemProduct", "cimv2", "SELECT * FROM Win32_ComputerSystemProduct", 1),
    ("Win32_OperatingSystem", "cimv2", "SELECT * FROM Win32_OperatingSystem", 1),
    ("Win32_ComputerSystem", "cimv2", "SELECT * FROM Win32_ComputerSystem", 1),
    ("Win32_Processor", "cimv2",
     ("ASSOCIATORS OF {Win32_ComputerSystem.Name='HV1'} WHERE AssocClass = Win32_ComputerSystemProcessor "
     "ResultClass = Win32_Processor"), 1),
    ("Msvm_ComputerSystem", "virtualization/v2", "SELECT * FROM Msvm_ComputerSystem WHERE " + VIRTUAL + "AND " + ACTIVE, 1),
    ("Msvm_ComputerSystem", "virtualization/v2", f"SELECT * FROM Msvm_ComputerSystem WHERE {VIRTUAL}AND Name = '{MACHINE}'", 1),
    ("Msvm_ComputerSystem", "virtualization/v2", "SELECT * FROM Msvm_ComputerSystem WHERE Name = __SERVER", 1),
    ("Msvm_ProcessorSettingData", "virtualization/v2",
     "SELECT * FROM Msvm_ProcessorSettingData WHERE InstanceID LIKE 'Microsoft:Definition%Maximum'", 1),
    ("Msvm_Keyboard", "virtualization/v2",
     (f"ASSOCIATORS OF {{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{MACHINE}'}} "
      "WHERE ResultClass = Msvm_Keyboard"), 1),
    ("Msvm_VirtualSystemSettingData", "virtualization/v2",
     (f'ASSOCIATORS OF {{Msvm_ComputerSystem.CreationClassName="Msvm_ComputerSystem",Name="{MACHINE}"}} '
     "WHERE AssocClass = Msvm_SettingsDefineState ResultClass = Msvm_VirtualSystemSettingData"), 1),
    *[
        (name, "virtualization/v2",
         (f"ASSOCIATORS OF {{Msvm_VirtualSystemSettingData.InstanceID='Microsoft:{MACHINE}'}} "
         f"WHERE AssocClass = Msvm_VirtualSystemSettingDataComponent ResultClass = {name}"), count)
        for name, count in (("Msvm_ProcessorSettingData", 1), ("Msvm_MemorySettingData", 1),
                            ("Msvm_ResourceAllocationSettingData", 6))
    ],
]  # fmt: skip


def step(name: str, *, holds: bool) -> None:
    if not holds:
        raise SystemExit(f"failed: {name}")
    DONE.append(name)


def envelope(action: str, uri: str, body: str, selectors: str = "") -> str:
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:w="'
        + WSMAN
        + '" xmlns:n="'
        + ENUMERATION
        + '"'
        ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"><s:Header>'
        f"<a:Action>{action}</a:Action><w:ResourceURI>{uri}</w:ResourceURI><a:MessageID>uuid:{uuid.uuid4()}</a:MessageID>"
        "<w:MaxEnvelopeSize>153600</w:MaxEnvelopeSize><w:OperationTimeout>PT20S</w:OperationTimeout>{selectors}</s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    )


def pull_one_by_one(client: Protocol, uri: str, query: str, mode: str = "") -> list[ET.Element]:
    text = query.replace("&", "&amp;").replace("<", "&lt;")
    body = f'<n:Enumerate>{mode}<w:Filter Dialect="{WQL}">{text}</w:Filter></n:Enumerate>'
    answer = ET.fromstring(client.send_message(envelope(f"{ENUMERATION}/Enumerate", uri, body)))
    found = []
    while context := answer.findtext(f".//{{{ENUMERATION}}}EnumerationContext"):
        pull = f"<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext></n:Pull>"
        answer = ET.fromstring(client.send_message(envelope(f"{ENUMERATION}/Pull", uri, pull)))
        items = answer.find(f".//{{{ENUMERATION}}}Items")
        found += list(items if items is not None else ())
        if len(items if items is not None else ()) > 1:
            raise SystemExit("failed: one item for each Pull")
    return found


def attach_as_libvirt(client: Protocol) -> None:
    """A disk as libvirt asks for one: without a class of its own, its place an array of one that looks like a scalar."""
    path = os.environ["HYPERV_DRIVE"].replace("&", "&amp;").replace('"', "&quot;")
    values = {
        "Parent": path, "HostResource": os.environ["HYPERV_DISK"], "ResourceType": "31",
        "ResourceSubType": "Microsoft:Hyper-V:Virtual Hard Disk",
    }  # fmt: skip
    inside = "".join(
        f'<PROPERTY NAME="{name}" TYPE="string"><VALUE>{value}</VALUE></PROPERTY>' for name, value in values.items()
    )
    embedded = f'<INSTANCE CLASSNAME="Msvm_ResourceAllocationSettingData">{inside}</INSTANCE>'.replace("<", "&lt;")
    service = V2 + "Msvm_VirtualSystemManagementService"
    body = (
        f'<p:AddResourceSettings_INPUT xmlns:p="{service}"><p:AffectedConfiguration>'
        "<a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address><a:ReferenceParameters>"
        f"<w:ResourceURI>{V2}Msvm_VirtualSystemSettingData</w:ResourceURI><w:SelectorSet>"
        f'<w:Selector Name="InstanceID">Microsoft:{MACHINE}</w:Selector></w:SelectorSet></a:ReferenceParameters>'
        f"</p:AffectedConfiguration><p:ResourceSettings>{embedded}</p:ResourceSettings></p:AddResourceSettings_INPUT>"
    )
    selectors = '<w:SelectorSet><w:Selector Name="CreationClassName">Msvm_VirtualSystemManagementService</w:Selector></w:SelectorSet>'
    answer = ET.fromstring(client.send_message(envelope(f"{service}/AddResourceSettings", service, body, selectors)))
    code = next(item for item in answer.iter() if item.tag.endswith("}ReturnValue")).text
    found = pull_one_by_one(client, V2 + "*", (
        f"ASSOCIATORS OF {{Msvm_VirtualSystemSettingData.InstanceID='Microsoft:{MACHINE}'}} "
        "WHERE AssocClass = Msvm_VirtualSystemSettingDataComponent ResultClass = Msvm_StorageAllocationSettingData"
    ))  # fmt: skip
    places = [child.text for item in found for child in item if child.tag.endswith("}HostResource")]
    step("libvirt's disk", holds=code == "0" and places == [os.environ["HYPERV_DISK"]])


def pywinrm() -> None:
    client = Protocol(
        f"http://127.0.0.1:{PORT}/wsman",
        transport="ntlm",
        username=USER,
        password=PASSWORD,
        message_encryption="always",
    )
    for name, namespace, query, count in LIBVIRT:
        found = pull_one_by_one(client, f"{ROOT}{namespace}/*", query)
        step(f"pywinrm {name}", holds=len(found) == count and all(item.tag.endswith("}" + name) for item in found))
        published = json.loads(os.environ["HYPERV_SCALARS"])[name]
        for item in found:
            there = {child.tag.rpartition("}")[2] for child in item}
            step(f"every scalar of {name}", holds=set(published) <= there)
    attach_as_libvirt(client)
    nils = [
        child for child in pull_one_by_one(client, V2 + "*", "SELECT * FROM Msvm_ComputerSystem")[0] if child.get(NIL)
    ]
    step("nil is allowed", holds=bool(nils))
    references = pull_one_by_one(
        client, V2 + "*", "SELECT * FROM Msvm_ComputerSystem", "<w:EnumerationMode>EnumerateEPR</w:EnumerationMode>"
    )
    step(
        "references", holds=len(references) == 2 and all(item.tag.endswith("EndpointReference") for item in references)
    )
    try:
        client.send_message(envelope("http://example.org/Nothing", V2 + "Msvm_ComputerSystem", ""))
    except PywinrmFault as fault:
        step("pywinrm reads a fault", holds="not supported" in str(fault))


def pypsrp() -> None:
    client = WSMan(
        "127.0.0.1", port=PORT, username=USER, password=PASSWORD, ssl=False, auth="ntlm", encryption="always"
    )
    keys = SelectorSet()
    keys.add_option("CreationClassName", "Msvm_ComputerSystem")
    keys.add_option("Name", MACHINE)
    uri = V2 + "Msvm_ComputerSystem"
    body = client.get(uri, selector_set=keys)
    step("pypsrp Get", holds=body.findtext(f"{{{uri}}}Msvm_ComputerSystem/{{{uri}}}EnabledState") == "2")
    request = ET.Element(f"{{{uri}}}RequestStateChange_INPUT")
    ET.SubElement(request, f"{{{uri}}}RequestedState").text = "2"
    answer = client.invoke(f"{uri}/RequestStateChange", uri, request, selector_set=keys)
    step("pypsrp Invoke", holds=next(answer.iter(f"{{{uri}}}ReturnValue")).text == "32775")
    body = ET.Element(f"{{{ENUMERATION}}}Enumerate")
    answer = client.invoke(WSManAction.ENUMERATE, uri, body)
    step("pypsrp Enumerate", holds=answer.find(f".//{{{ENUMERATION}}}EnumerationContext") is not None)
    absent = SelectorSet()
    absent.add_option("Name", "absent")
    try:
        client.get(uri, selector_set=absent)
    except WSManFaultError as fault:
        step("pypsrp reads a fault", holds=fault.code == 0x80338000)


pywinrm()
pypsrp()
print(json.dumps(DONE))
