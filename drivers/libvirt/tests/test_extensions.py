"""What may be added to a domain, and what may not."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import InvalidRequest
from federation_libvirt import extensions

DOMAIN = """<domain><clock offset='utc'/><features><acpi/></features>
  <cpu mode='maximum'><topology sockets='1' cores='2' threads='1'/></cpu>
  <devices><memballoon model='virtio'/><disk/></devices></domain>"""


def merged(xml: str) -> ET.Element:
    domain = ET.fromstring(DOMAIN)
    extensions.merge(domain, f"<domain>{xml}</domain>")
    return domain


def test_an_element_that_is_there_once_replaces_ours_and_features_and_devices_are_added():
    domain = merged(
        "<clock offset='localtime'/><features><hyperv/><acpi/></features><title>x</title>"
        "<devices><watchdog model='i6300esb'/><memballoon model='none'/></devices>"
    )
    assert domain.find("clock").get("offset") == "localtime"
    assert sorted(node.tag for node in domain.find("features")) == ["acpi", "hyperv"]
    assert domain.findtext("title") == "x"
    assert [node.tag for node in domain.find("devices")] == ["memballoon", "disk", "watchdog"]
    assert domain.find("devices/memballoon").get("model") == "none"


def test_another_processor_keeps_the_topology_of_the_flavour():
    domain = merged("<cpu mode='host-model'><topology sockets='64' cores='1' threads='1'/></cpu>")
    assert domain.find("cpu").get("mode") == "host-model"
    assert [node.attrib for node in domain.iterfind("cpu/topology")] == [{"sockets": "1", "cores": "2", "threads": "1"}]


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<name>other</name>", "<name>"),
        ("<uuid/>", "<uuid>"),
        ("<metadata/>", "<metadata>"),
        ("<os><kernel>vmlinuz</kernel></os>", "<os>"),
        ("<memory>1</memory>", "<memory>"),
        ("<devices><emulator>sh</emulator></devices>", "<emulator>"),
        ("<devices><filesystem/></devices>", "<filesystem>"),
        ("<devices><hostdev/></devices>", "<hostdev>"),
        ("<devices><interface/></devices>", "<interface>"),
        ("<devices><input type='evdev'><source dev='/dev/input/event1'/></input></devices>", "'/dev/input/event1'"),
        ("<description> /etc/shadow</description>", "'/etc/shadow'"),
        (
            "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='x'/></q:commandline>",
            "commandline",
        ),
        ("<!-- hidden --><clock/>", "declarations, comments"),
    ],
)
def test_what_would_reach_the_host_is_refused_by_name(xml, words):
    with pytest.raises(InvalidRequest) as caught:
        merged(xml)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<domain",
        "<network/>",
        "<!DOCTYPE domain [<!ENTITY a 'b'>]><domain/>",
        "<domain>" + " " * extensions.MAX_XML_CHARACTERS + "</domain>",
        "\x00",
    ],
)
def test_what_is_not_a_small_plain_domain_is_refused(text):
    with pytest.raises(InvalidRequest):
        extensions.merge(ET.fromstring(DOMAIN), text)


@given(st.text(max_size=200))
def test_no_text_gets_anything_out_but_a_refusal_or_a_domain(text):
    domain = ET.fromstring(DOMAIN)
    try:
        extensions.merge(domain, text)
    except InvalidRequest:
        return
    assert domain.tag == "domain"


@pytest.mark.parametrize(
    "given_options", [{"xmll": "x"}, {"xml": 5}, {"machine": True}, {"machine": "q35 -drive"}, {"machine": "q35\n"}]
)
def test_options_that_are_not_known_or_not_right_are_refused(given_options):
    with pytest.raises(InvalidRequest):
        extensions.options({"libvirt": given_options})


def test_options_of_other_drivers_are_not_looked_at():
    assert extensions.options({"vmware": {"anything": 5}, "libvirt": {"machine": "pc"}}) == {"machine": "pc"}
