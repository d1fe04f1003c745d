"""The pure parts: notes, names, paths, states, settings."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import CATALOGUE, InvalidRequest, OperationError, PermissionDenied
from federation.contract.instances import PowerState
from federation.contract.operations import DECLARED
from federation_hyperv import extensions, msvm, names, notes
from federation_hyperv.cim.codes import JOB_MEANINGS, RETURN_MEANINGS
from federation_hyperv.connection import error_of_job, error_of_meaning
from federation_hyperv.driver import HypervDriver
from federation_hyperv.notes import Note, Stage
from federation_hyperv.settings import Settings

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=60)
LINES = st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40), max_size=5)
NOTES = st.builds(
    Note,
    cluster=TEXT, instance=TEXT, operation=TEXT, stage=st.sampled_from(Stage), name=TEXT, boot=TEXT,
    known=st.lists(TEXT, max_size=3).map(tuple), disks=st.dictionaries(TEXT, st.integers(0, 1 << 50), max_size=4),
    metadata=st.dictionaries(TEXT, TEXT, max_size=4),
)  # fmt: skip


@given(note=NOTES, newer=NOTES, others=LINES)
def test_notes_come_back_to_the_letter_and_other_lines_stay(note, newer, others):
    others = [line for line in others if not line.startswith(notes.PREFIX)]
    text = notes.write(["\n".join(others)], note)
    again = notes.write([text], newer)
    assert notes.read([text]) == note
    assert notes.read([again]) == newer
    kept = [line for line in notes.lines_of([again]) if not line.startswith(notes.PREFIX)]
    assert kept == (others if any(others) else [])


def test_a_note_that_cannot_be_read_makes_a_machine_foreign():
    assert notes.read([notes.PREFIX + "{broken"]) is None
    assert notes.read(None) is None


@given(st.uuids().map(str), st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40))
def test_a_path_names_the_setting_that_it_was_made_of(guid, rest):
    identity = f"Microsoft:{guid.upper()}\\{rest}"
    path = msvm.setting_path("Msvm_ResourceAllocationSettingData", identity)
    assert msvm.instance_id(path) == identity
    assert msvm.machine_of(identity) == guid.upper()


@given(st.integers(0, (1 << 48) - 1))
def test_a_mac_address_comes_back(number):
    mac = ":".join(f"{number:012x}"[at : at + 2] for at in range(0, 12, 2))
    port = msvm.port(mac, "name")
    assert msvm.mac_of(str(port["Address"])) == mac


@given(st.integers(0, 33000))
def test_nothing_reads_as_running_that_is_not(state):
    expected = {
        2: "running",
        4: "running",
        3: "stopped",
        6: "suspended",
        9: "paused",
        32768: "paused",
        32769: "suspended",
    }
    assert msvm.power_state(state) == PowerState(expected.get(state, "unknown"))


def test_files_of_one_instance_are_no_others_and_no_volumes():
    instance, other = "0b9ee2a4-3b1f-4f0c-9a53-3d1d3f1a2b3c", "1b9ee2a4-3b1f-4f0c-9a53-3d1d3f1a2b3c"
    own = [names.root_disk(instance), names.data_disk(instance, 0), names.guest_setup(instance),
           names.fetching(instance, "op", 1), names.capturing(instance, "op"), f"{instance}-root_9F.avhdx"]  # fmt: skip
    for file in own:
        assert names.belongs_to(instance, file)
        assert names.belongs_to(instance, file.upper().lower())
        assert not names.belongs_to(other, file)
        assert names.reserved(file)
    for file in ("cached-sha256-00.vhdx", names.template("t", instance), names.maintenance_mark("lab")):
        assert names.reserved(file)
    assert names.volume_name("my volume.vhdx") == "my volume"


def test_a_template_is_found_by_its_whole_name_only():
    operation = "0b9ee2a4-3b1f-4f0c-9a53-3d1d3f1a2b3c"
    files = [
        names.template("web", operation).upper(),
        "template-web2.vhdx",
        "template-webserver.vhdx",
        "template-web.vhdx",
    ]
    assert names.templates("web", files) == ["TEMPLATE-WEB." + operation.upper() + ".VHDX", "template-web.vhdx"]


@pytest.mark.parametrize("code", sorted(RETURN_MEANINGS))
def test_every_return_code_becomes_an_error_of_the_catalogue(code):
    error = error_of_meaning(RETURN_MEANINGS[code], "told")
    assert error.code in CATALOGUE


@pytest.mark.parametrize("code", [*sorted(JOB_MEANINGS), 4711])
def test_a_failed_job_s_error_keeps_its_words_and_its_code(code):
    error = error_of_job("HV1: copy", {"ErrorCode": code, "ErrorDescription": "The\n disk  is full."})
    assert isinstance(error, OperationError)
    assert "HV1: copy: The disk is full." in error.message
    assert str(code) in error.message


def test_a_timeout_inside_the_host_leaves_the_outcome_unknown():
    assert error_of_meaning(RETURN_MEANINGS[32772], "told").code == "outcome_unknown"


SETTINGS = {"hosts": {"hv1": {"address": "hv1"}}}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"hosts": {}}, "hosts"),
        ({"surprise": 1}, "surprise"),
        ({"tls": False, "authentication": "basic"}, "tls"),
        ({"tls": False, "authentication": "certificate"}, "tls"),
        ({"authentication": "certificate"}, "certificate_file"),
        ({"hosts": {"hv1": {"address": "hv1", "folder": "relative\\folder"}}}, "folder"),
        ({"hosts": {"hv1": {"address": "hv1", "folder": "C:\\a\\..|b"}}}, "folder"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(more, told):
    with pytest.raises(msgspec.ValidationError, match=told):
        msgspec.convert(SETTINGS | more, Settings)


def test_the_password_comes_from_a_file_or_the_environment_and_its_lack_is_named(tmp_path, monkeypatch):
    file = tmp_path / "password"
    file.write_text("secret one\n")
    settings = msgspec.convert(
        SETTINGS | {"authentication": "ntlm", "username": "me", "password_file": str(file)}, Settings
    )
    assert settings.credentials() == ("me", "secret one")
    bare = msgspec.convert(SETTINGS | {"authentication": "ntlm", "username": "me"}, Settings)
    with pytest.raises(PermissionDenied, match="FEDERATION_HYPERV_PASSWORD"):
        bare.credentials()
    monkeypatch.setenv("FEDERATION_HYPERV_PASSWORD", "secret two")
    assert bare.credentials() == ("me", "secret two")


def test_unknown_options_of_the_driver_s_own_are_refused_and_others_ignored():
    assert extensions.options({"libvirt": {"xml": "<domain/>"}}) == extensions.Options()
    with pytest.raises(InvalidRequest, match="surprise"):
        extensions.options({"hyperv": {"surprise": True}})


def test_every_operation_whose_capability_is_declared_has_a_method():
    driver = HypervDriver.open(msgspec.convert(SETTINGS, Settings), "lab")
    flags = driver.description().capabilities.flags
    missing = [
        one.name
        for one in DECLARED
        if (one.capability is None or one.capability in flags) and not hasattr(driver, one.name)
    ]
    assert missing == []
