"""What changes in a machine's definition when it goes to another node, and what its counters and addresses are called."""

from __future__ import annotations

import datetime as dt
import xml.etree.ElementTree as ET

import msgspec
import pytest

from federation.contract.instances import Instance, InterfaceFacts, PowerState
from federation_libvirt import facts, metrics, moved_xml, ownership
from federation_libvirt.console import without_secret
from federation_libvirt.ownership import Ownership, Stage

OWNER = Ownership(cluster="c", instance="i", operation="o", stage=Stage.COMPLETE, arrived="op host0")
DOMAIN = """<domain type='qemu' id='3'><name>x</name><uuid>i</uuid>
  <metadata><mine xmlns='urn:somebody'>keep</mine></metadata>
  <os><type>hvm</type><kernel>/a/vmlinuz</kernel><initrd>/a/initrd</initrd></os>
  <devices>
    <disk type='file' device='disk'><source file='/a/root'/><backingStore type='file'><source file='/a/base'/></backingStore>
      <target dev='vda'/></disk>
    <disk type='file' device='disk'><source file='/elsewhere/data'/><target dev='vdb'/></disk>
    <interface type='network'><mac address='52:54:00:AA:00:01'/><source network='n'/><target dev='vnet7'/></interface>
    <serial type='pty'><log file='/a/log' append='on'/></serial>
  </devices></domain>"""


def test_every_file_that_moves_is_named_anew_and_nothing_else_changes():
    paths = {"/a/root": "/b/root", "/a/log": "/b/log", "/a/vmlinuz": "/b/vmlinuz", "/a/initrd": "/b/initrd"}
    moved = ET.fromstring(moved_xml.moved(ET.fromstring(DOMAIN), paths, OWNER))
    assert [source.get("file") for source in moved.iterfind("devices/disk/source")] == ["/b/root", "/elsewhere/data"]
    assert moved.find("devices/disk/backingStore") is None
    assert moved.find("devices/serial/log").get("file") == "/b/log"
    assert moved_xml.boot_files(moved) == ["/b/vmlinuz", "/b/initrd"]
    assert ownership.read(moved) == OWNER
    assert moved.findtext("metadata/{urn:somebody}mine") == "keep"
    again = ET.fromstring(moved_xml.moved(moved, {}, msgspec.structs.replace(OWNER, arrived="")))
    assert ownership.read(again).arrived == ""
    assert len(again.findall("metadata/*")) == 2


@pytest.mark.parametrize(
    ("device", "words"), [("<hostdev/>", "hostdev"), ("<filesystem/>", "filesystem"), ("<disk/>", "")]
)
def test_what_binds_a_machine_to_its_node_is_named(device, words):
    found = moved_xml.immovable(ET.fromstring(f"<domain><devices>{device}</devices></domain>"))
    assert words in found
    assert bool(found) == bool(words)


def test_counters_go_by_the_contracts_names_and_units():
    stats = {
        "cpu.time": 2_500_000_000,
        "balloon.rss": 1024,
        "block.count": 2,
        "block.0.name": "vda",
        "block.0.rd.bytes": 1,
        "block.0.wr.bytes": 2,
        "block.0.rd.reqs": 3,
        "block.0.wr.reqs": 4,
        "block.1.name": "sda",
        "block.1.rd.bytes": 9,
        "net.count": 2,
        "net.0.name": "vnet7",
        "net.0.rx.bytes": 5,
        "net.0.tx.bytes": 6,
        "net.0.rx.pkts": 7,
        "net.0.tx.pkts": 8,
        "net.1.name": "tap-of-somebody",
        "net.1.rx.bytes": 9,
    }
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    found = msgspec.to_builtins(metrics.measured(ET.fromstring(DOMAIN), stats, at))
    assert (found["cpu_seconds"], found["memory_bytes_used"]) == (2.5, 1 << 20)
    assert list(found["disks"]) == [
        {"name": "vda", "read_bytes": 1, "written_bytes": 2, "read_requests": 3, "write_requests": 4}
    ]
    assert list(found["interfaces"]) == [
        {"mac": "52:54:00:aa:00:01", "received_bytes": 5, "sent_bytes": 6, "received_packets": 7, "sent_packets": 8}
    ]


def test_addresses_go_to_the_interface_with_their_mac_each_once():
    mac = "52:54:00:aa:00:01"
    instance = Instance(
        id="i", name="x", node="n", power_state=PowerState.RUNNING, interfaces=(InterfaceFacts(mac=mac),)
    )
    answers = [
        {"vnet7": {"hwaddr": mac.upper(), "addrs": [{"addr": "192.0.2.7", "type": 0}]}},
        {"vnet7": {"hwaddr": mac, "addrs": [{"addr": "192.0.2.7", "type": 0}, {"addr": "2001:db8::7", "type": 1}]}},
        {"vnet8": {"hwaddr": "52:54:00:00:00:09", "addrs": None}},
    ]
    assert facts.with_addresses(instance, answers).interfaces[0].addresses == ("192.0.2.7", "2001:db8::7")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("qemu+tls://node.example.org/system", "qemu+tls://node.example.org/system"),
        ("qemu+ssh://me@node:22/system?no_tty=1", "qemu+ssh://me@node:22/system?no_tty=1"),
        ("qemu+tcp://me:secret@node/system", "qemu+tcp://me@node/system"),
        ("qemu:///system", "qemu:///system"),
    ],
)
def test_the_address_of_a_serial_console_holds_no_password(uri, shown):
    assert without_secret(uri) == shown
