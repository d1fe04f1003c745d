"""The mapping between specifications and domain XML, by example and by property."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import InvalidRequest
from federation.contract.instances import (
    BootKernel,
    Flavour,
    InstanceSpec,
    Interface,
    InterfaceFacts,
    PowerState,
    Topology,
)
from federation_libvirt import domain_xml, facts, names, ownership
from federation_libvirt.device_xml import Disk, disk_target
from federation_libvirt.domain_xml import Places, Platform
from federation_libvirt.facts import Look
from federation_libvirt.ownership import Ownership, Stage
from federation_libvirt.settings import DomainType

ID = "3c5f1a52-1a0b-4b8e-9d0e-1f2a3b4c5d6e"
PLATFORM = Platform(architecture="x86_64", domain_type=DomainType.QEMU, machine="q35")
PLACES = Places(
    disks=(
        Disk(path="/pool/root.qcow2", format="qcow2", serial="root"),
        Disk(path="/pool/cidata.iso", format="raw", serial="cidata", read_only=True),
    ),
    console_log="/logs/console.log",
    kernel="/pool/kernel",
    initrd="/pool/initrd",
)
RUNNING = Look(state="running", active=True)
KERNEL = BootKernel(
    kernel_url="https://x/k",
    kernel_checksum="sha256:" + "0" * 64,
    initrd_url="https://x/i",
    initrd_checksum="sha256:" + "0" * 64,
    command_line="console=ttyS0 <&>\"'",
)


def owner(**changes) -> Ownership:
    return Ownership(**{"cluster": "c1", "instance": ID, "operation": "op", "stage": Stage.COMPLETE, **changes})


def spec(**changes) -> InstanceSpec:
    return InstanceSpec(
        **{"name": "web-1", "flavour": Flavour(vcpus=2, memory_bytes=512 << 20), "boot": KERNEL, **changes}
    )


def rendered(**changes) -> ET.Element:
    return domain_xml.parse(domain_xml.render(ID, spec(**changes), PLATFORM, PLACES, owner()))


def test_a_specification_becomes_the_domain_that_it_describes():
    domain = rendered(interfaces=(Interface(network="lan", mac="52:54:00:00:00:01"), Interface(network="wan")))
    assert (domain.get("type"), domain.findtext("name"), domain.findtext("uuid")) == ("qemu", "web-1", ID)
    assert domain.find("os/type").attrib == {"arch": "x86_64", "machine": "q35"}
    assert domain.findtext("os/kernel") == "/pool/kernel"
    assert domain.findtext("os/cmdline") == "console=ttyS0 <&>\"'"
    assert [disk.find("target").get("dev") for disk in domain.iterfind("devices/disk")] == ["vda", "vdb"]
    assert [disk.find("readonly") is not None for disk in domain.iterfind("devices/disk")] == [False, True]
    assert [node.get("address") for node in domain.iterfind("devices/interface/mac")] == [
        "52:54:00:00:00:01",
        names.mac_address(ID, 1),
    ]
    assert domain.find("devices/serial/log").attrib == {"file": "/logs/console.log", "append": "on"}


def test_disks_are_lettered_past_the_alphabet():
    assert [disk_target(n) for n in (0, 25, 26, 27, 51, 52, 701, 702)] == [
        "vda", "vdz", "vdaa", "vdab", "vdaz", "vdba", "vdzz", "vdaaa",
    ]  # fmt: skip


text = st.text(max_size=40)
names_of_instances = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
topologies = st.none() | st.builds(
    Topology, sockets=st.integers(1, 4), cores=st.integers(1, 8), threads=st.integers(1, 2)
)
flavours = st.builds(
    lambda topology, vcpus, mebibytes: Flavour(
        vcpus=vcpus if topology is None else topology.sockets * topology.cores * topology.threads,
        memory_bytes=mebibytes << 20,
        topology=topology,
    ),
    topologies,
    st.integers(1, 4096),
    st.integers(16, 1 << 25),
)
macs = st.none() | st.from_regex(r"\A([0-9a-f]{2}:){5}[0-9a-f]{2}\Z")
xml_text = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=40)
interfaces = st.lists(st.builds(Interface, network=xml_text, mac=macs), max_size=8).map(tuple)


@given(names_of_instances, flavours, interfaces, st.dictionaries(text, text, max_size=5), xml_text)
def test_what_is_written_is_read_back(name, flavour, cards, metadata, cluster):
    wanted = spec(name=name, flavour=flavour, interfaces=cards)
    mark = owner(metadata=metadata, disks={"vda": 5}, cluster=cluster)
    domain = domain_xml.parse(domain_xml.render(ID, wanted, PLATFORM, PLACES, mark))
    found = facts.instance(domain, RUNNING, "node", mark.cluster)
    assert (found.id, found.name, found.owned, found.metadata) == (ID, name, True, metadata)
    assert (found.vcpus, found.memory_bytes) == (flavour.vcpus, flavour.memory_bytes)
    assert [disk.size_bytes for disk in found.disks] == [5]
    assert found.interfaces == tuple(
        InterfaceFacts(mac=card.mac or names.mac_address(ID, number), network=card.network)
        for number, card in enumerate(cards)
    )
    assert ownership.read(domain) == mark


@given(flavours, flavours)
def test_another_flavour_changes_processors_and_memory_and_nothing_else(first, second):
    before = domain_xml.render(ID, spec(flavour=first), PLATFORM, PLACES, owner())
    after = domain_xml.parse(domain_xml.with_flavour(before, second))
    topology = second.topology and (second.topology.sockets, second.topology.cores, second.topology.threads)
    assert facts.flavour(after) == (second.vcpus, second.memory_bytes, topology)
    back = domain_xml.parse(domain_xml.with_flavour(domain_xml.serialise(after), first))
    original = domain_xml.parse(before)
    for root in (back, original):
        root[:] = sorted(root, key=lambda node: node.tag)
    assert domain_xml.serialise(back) == domain_xml.serialise(original)


def test_the_memory_of_a_ballooned_domain_goes_with_the_flavour():
    xml = "<domain><memory unit='MiB'>512</memory><currentMemory unit='MiB'>256</currentMemory><vcpu current='1'>4</vcpu></domain>"
    after = domain_xml.parse(domain_xml.with_flavour(xml, Flavour(vcpus=2, memory_bytes=1 << 30)))
    assert facts.flavour(after) == (2, 1 << 30, None)
    assert after.find("currentMemory") is None


@pytest.mark.parametrize("bad", ["\x00", "\x1b", "\ufffe", "\ud800"])
def test_a_character_that_xml_cannot_carry_is_refused_by_name(bad):
    with pytest.raises(InvalidRequest, match=rf"U\+{ord(bad):04X}"):
        rendered(interfaces=(Interface(network=f"lan{bad}"),))


@pytest.mark.parametrize(
    ("look", "state"),
    [
        (Look(state="running", active=True), PowerState.RUNNING),
        (Look(state="blocked", active=True), PowerState.RUNNING),
        (Look(state="shutdown", active=True), PowerState.RUNNING),
        (Look(state="paused", active=True), PowerState.PAUSED),
        (Look(state="paused", active=True, guest_crashed=True), PowerState.CRASHED),
        (Look(state="pmsuspended", active=True), PowerState.PAUSED),
        (Look(state="crashed", active=True, guest_crashed=True), PowerState.CRASHED),
        (Look(state="shutoff", active=False), PowerState.STOPPED),
        (Look(state="shutoff", active=False, saved=True), PowerState.SUSPENDED),
    ],
)
def test_every_state_of_libvirt_has_a_power_state(look, state):
    assert look.power_state is state


def test_a_domain_without_our_mark_or_with_anothers_is_foreign():
    domain = rendered()
    assert facts.instance(domain, RUNNING, "n", "c1").owned
    assert not facts.instance(domain, RUNNING, "n", "another cluster").owned
    domain.find("uuid").text = "00000000-0000-4000-8000-000000000000"  # a copy that somebody made
    assert not facts.instance(domain, RUNNING, "n", "c1").owned
    domain.find("metadata").clear()
    assert not facts.instance(domain, RUNNING, "n", "c1").owned


@pytest.mark.parametrize("content", ["{", "[]", '{"metadata": 5}', '{"surprise": 1}'])
def test_a_mark_that_cannot_be_read_makes_the_domain_foreign(content):
    domain = rendered()
    domain.find(f"metadata/{{{ownership.NAMESPACE}}}instance").text = content
    assert ownership.read(domain) is None


def test_foreign_domains_of_every_shape_have_facts():
    xml = f"""<domain type='kvm'><uuid>{ID}</uuid><name>old</name><memory>1048576</memory><vcpu current='2'>8</vcpu><devices>
      <disk type='block'><source dev='/dev/sdb'/><target dev='sda'/></disk>
      <disk type='network'><source protocol='rbd' name='pool/image'/><target dev='vdb'/></disk>
      <disk type='volume'><source pool='p' volume='v'/><target dev='vdc'/></disk>
      <disk device='cdrom'><target dev='hdc'/></disk><disk device='floppy'/>
      <interface type='bridge'><mac address='52:54:00:12:34:56'/><source bridge='br0'/></interface>
      <interface type='user'/></devices></domain>"""
    found = facts.instance(domain_xml.parse(xml), RUNNING, "n", "c1")
    assert (found.vcpus, found.memory_bytes, found.owned) == (2, 1 << 30, False)
    assert [(d.name, d.source) for d in found.disks] == [("sda", "/dev/sdb"), ("vdb", "pool/image"), ("vdc", "v")]
    assert [(i.mac, i.network) for i in found.interfaces] == [("52:54:00:12:34:56", "br0"), ("", "")]
