"""The cloud-init medium."""

from __future__ import annotations

import io
import json

import pycdlib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import InvalidRequest
from federation.contract.instances import GuestSetup
from federation_libvirt import nocloud

ID = "3c5f1a52-1a0b-4b8e-9d0e-1f2a3b4c5d6e"
KEYS = ("ssh-ed25519 AAAA one", 'ssh-rsa BBBB "two" # \u00e9')


def files(medium: bytes, **facet: str) -> dict[str, bytes]:
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(medium))
    assert image.pvd.volume_identifier.strip() == b"cidata"
    found = {}
    for name in ("meta-data", "user-data"):
        content = io.BytesIO()
        image.get_file_from_iso_fp(content, **dict.fromkeys(facet, f"/{name}"))
        found[name] = content.getvalue()
    return found


@pytest.mark.parametrize("facet", ["rr_path", "joliet_path"])
def test_the_medium_holds_both_files_in_both_namings(facet):
    medium = nocloud.medium(ID, "web-1", GuestSetup(user_data="#cloud-config\n{}\n", ssh_keys=KEYS))
    found = files(medium, **{facet: ""})
    assert found["user-data"] == b"#cloud-config\n{}\n"
    lines = found["meta-data"].decode().splitlines()
    assert lines[:3] == [f'instance-id: "{ID}"', 'local-hostname: "web-1"', "public-keys:"]
    assert tuple(json.loads(line.removeprefix("  - ")) for line in lines[3:]) == KEYS


@given(st.text(max_size=2000))
def test_user_data_reaches_the_guest_byte_for_byte(text):
    text = text.encode("utf-8", "ignore").decode()
    found = files(nocloud.medium(ID, "n", GuestSetup(user_data=text)), joliet_path="")
    assert found["user-data"].decode() == (text or "#cloud-config\n{}\n")


@pytest.mark.parametrize("key", ["", " ", "ssh-rsa A\nssh-rsa B", "ssh-rsa A\rssh-rsa B", "ssh-rsa A\u2028B"])
def test_a_key_that_is_not_one_line_is_refused(key):
    with pytest.raises(InvalidRequest, match=r"ssh_keys\[1\]"):
        nocloud.meta_data(ID, "n", (KEYS[0], key))
