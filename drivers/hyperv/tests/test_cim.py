"""Typed CIM: what is written is read again, and what is wrong is refused before a host sees it."""

import datetime as dt
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation_hyperv.cim import Instance, Reference, load_schemas, names
from federation_hyperv.cim.codes import RETURN_MEANINGS, Meaning, job_meaning, return_meaning
from federation_hyperv.cim.embedded import read_embedded, write_embedded
from federation_hyperv.cim.errors import BadValue, UnknownClass
from federation_hyperv.cim.paths import parse_path
from federation_hyperv.cim.reading import read_instance
from federation_hyperv.cim.values import cim_instant, cim_interval, duration, read_time
from federation_hyperv.testing.soap import instance_text

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=40)
WORDS = st.text(
    alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=20
)
INSTANCES = st.builds(
    lambda name, notes, limit, enabled, created: Instance(
        "Msvm_VirtualSystemSettingData",
        {"InstanceID": "Microsoft:X", "ElementName": name, "Notes": notes, "BIOSNumLock": enabled, "CreationTime": created,
         "LowMmioGapSize": limit},
    ),
    TEXT, st.lists(WORDS, min_size=1, max_size=4), st.integers(0, (1 << 64) - 1), st.booleans(),
    st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2090, 1, 1), timezones=st.just(dt.UTC)),  # noqa: DTZ001
)  # fmt: skip


@given(INSTANCES)
def test_an_embedded_instance_is_read_as_it_was_written(instance):
    assert read_embedded(write_embedded(instance)).properties == instance.properties


@given(INSTANCES)
def test_what_a_host_writes_is_read_with_its_types(instance):
    text = instance_text(instance)
    opened = f'<x xmlns:xsi="{names.INSTANCE}" xmlns:cim="{names.CIM_COMMON}">{text}</x>'
    found = read_instance(next(iter(ET.fromstring(opened))))
    assert {name: value for name, value in found.properties.items() if value is not None} == instance.properties


def test_an_array_of_one_stays_an_array():
    instance = Instance("Msvm_VirtualSystemSettingData", {"Notes": "only"})
    assert instance["Notes"] == ["only"]
    assert read_embedded(write_embedded(instance))["Notes"] == ["only"]


@given(st.dictionaries(st.from_regex(r"\A[A-Za-z]\w{0,10}\Z"), TEXT, min_size=1, max_size=4))
def test_an_object_path_names_what_it_was_made_of(keys):
    reference = Reference("Msvm_ComputerSystem", tuple(keys.items()), host="HV1")
    assert parse_path(reference.path()) == reference


@given(st.timedeltas(dt.timedelta(0), dt.timedelta(days=10**6)))
def test_an_interval_survives_both_of_its_forms(span):
    assert read_time(cim_interval(span)) == span
    assert abs(read_time(duration(span)) - span) <= dt.timedelta(microseconds=1)


@given(st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2090, 1, 1), timezones=st.just(dt.UTC)))  # noqa: DTZ001
def test_an_instant_survives(moment):
    assert read_time(cim_instant(moment)) == moment


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EnabledState", "2"),
        ("EnabledState", 70000),
        ("EnabledState", True),
        ("Name", 5),
        ("Name", ["a", "b"]),
        ("EnabledState", -1),
    ],
)
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(BadValue):
        Instance("Msvm_ComputerSystem", {name: value})


def test_what_no_page_publishes_is_refused():
    with pytest.raises(UnknownClass):
        Instance("Msvm_Imaginary")
    with pytest.raises(UnknownClass):
        Instance("Msvm_ComputerSystem", {"Imaginary": 1})


def test_entities_in_an_embedded_instance_are_refused():
    with pytest.raises(BadValue):
        read_embedded('<!DOCTYPE x [<!ENTITY y "z">]><INSTANCE CLASSNAME="Msvm_ComputerSystem"/>')


def test_every_class_names_its_page_and_its_keys():
    keyless = {"Msvm_VirtualHardDiskState", "Msvm_Error"}
    for cim_class in load_schemas():
        assert cim_class.source.startswith("https://learn.microsoft.com/windows/win32/")
        assert cim_class.properties
        assert bool(cim_class.keys) is (cim_class.name not in keyless), cim_class.name


@given(st.integers(0, (1 << 32) - 1))
def test_every_code_has_a_meaning(code):
    assert return_meaning(code) is RETURN_MEANINGS.get(code, Meaning.HYPERVISOR_REFUSED)
    assert isinstance(job_meaning(code), Meaning)


def test_the_codes_of_the_documentation_mean_what_it_says():
    assert [return_meaning(code) for code in (32769, 32770, 32773, 32775, 32778)] == [
        Meaning.PERMISSION_DENIED, Meaning.NOT_SUPPORTED, Meaning.INVALID_REQUEST, Meaning.INVALID_STATE,
        Meaning.INSUFFICIENT_RESOURCES,
    ]  # fmt: skip
    assert job_meaning(0x80070070) is Meaning.INSUFFICIENT_RESOURCES
