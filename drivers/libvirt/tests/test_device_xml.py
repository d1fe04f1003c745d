"""Single devices in a domain's XML, by example and by property."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from federation_libvirt import device_xml
from federation_libvirt.device_xml import Disk


def domain(*targets: str) -> ET.Element:
    root = ET.Element("domain")
    devices = ET.SubElement(root, "devices")
    for target in targets:
        devices.append(device_xml.disk(Disk(path=f"/pool/{target}", format="qcow2", serial=target), target))
    return root


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_a_free_device_name_is_one_that_neither_definition_nor_running_domain_has(defined, running):
    both = [domain(*map(device_xml.disk_target, sorted(numbers))) for numbers in (defined, running)]
    expected = next(number for number in range(200) if number not in defined | running)
    assert device_xml.free_target(*both) == device_xml.disk_target(expected)


def test_a_disk_is_found_by_its_path_and_an_operation_by_its_mark():
    root = domain("vda", "vdb")
    wanted = Disk(path="/pool/x", format="raw", serial="x", read_only=True)
    root.find("devices").append(device_xml.disk(wanted, "vdc", "some-operation"))
    found = device_xml.disk_at(root, "/pool/x")
    assert (device_xml.target_of(found), device_xml.format_of(found)) == ("vdc", "raw")
    assert found.find("readonly") is not None
    assert device_xml.added_by(found, "some-operation")
    assert not device_xml.added_by(found, "another")
    assert not device_xml.added_by(device_xml.disk_at(root, "/pool/vda"), "")
    assert device_xml.disk_at(root, "/pool") is None


def test_files_below_a_disk_count_as_used():
    disk = ET.fromstring(
        "<disk><source file='/pool/top'/><backingStore type='file'><source file='/pool/base'/></backingStore></disk>"
    )
    assert list(device_xml.paths_below(disk)) == ["/pool/top", "/pool/base"]


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=128))
def test_a_serial_number_fits_and_short_names_are_their_own(volume):
    serial = device_xml.volume_serial(volume)
    assert len(serial) <= 20
    assert (serial == volume) == (len(volume) <= 20)


def test_an_instance_boots_from_its_first_disk_unless_it_has_a_kernel():
    root = domain("vda", "vdb")
    assert device_xml.boots_from(root, device_xml.disk_at(root, "/pool/vda"))
    assert not device_xml.boots_from(root, device_xml.disk_at(root, "/pool/vdb"))
    ET.SubElement(ET.SubElement(root, "os"), "kernel").text = "/pool/kernel"
    assert not device_xml.boots_from(root, device_xml.disk_at(root, "/pool/vda"))
