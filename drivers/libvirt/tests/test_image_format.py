"""What the first bytes of an image give away."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import ImageRejected
from federation.contract.instances import ImageFormat
from federation_libvirt.image_format import HEAD_BYTES, virtual_size, with_backing

QCOW2, RAW = ImageFormat.QCOW2, ImageFormat.RAW


def qcow2(*, version=3, backing=0, size=1 << 30, encryption=0, features=0) -> bytes:
    head = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 0, 16, size, encryption)
    return head.ljust(72, b"\0") + struct.pack(">Q", features) + b"\0" * 64


def test_the_virtual_size_of_a_real_image_is_read(guest_image):
    with Path(guest_image["image"]).open("rb") as image:
        head = image.read(HEAD_BYTES)
    assert virtual_size(head, 10**6, QCOW2) == 64 << 20


@given(st.integers(0, (1 << 64) - 1), st.sampled_from([2, 3]))
def test_the_virtual_size_is_read_back(size, version):
    assert virtual_size(qcow2(size=size, version=version), 4096, QCOW2) == size


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (qcow2(backing=512), "backing file"),
        (qcow2(features=1 << 2), "external data file"),
        (qcow2(encryption=1), "encrypted"),
        (qcow2(version=1), "version 1"),
        (qcow2()[:40], "ends after 40 bytes"),
        (b"KDMV" + b"\0" * 100, "format is vmdk"),
        (b"vhdxfile" + b"\0" * 100, "format is vhdx"),
        (b"\0" * 512, "format is raw"),
        (b"", "format is raw"),
    ],
)
def test_an_image_that_is_not_what_it_should_be_or_names_other_files_is_rejected(head, words):
    with pytest.raises(ImageRejected, match=words):
        virtual_size(head, len(head), QCOW2)


def test_a_raw_image_may_not_be_any_other_format_in_disguise():
    with pytest.raises(ImageRejected, match="format is qcow2, the request says raw"):
        virtual_size(qcow2(backing=512), 4096, RAW)
    with pytest.raises(ImageRejected, match="empty"):
        virtual_size(b"", 0, RAW)


@given(st.integers(1, 1 << 40))
def test_a_raw_image_is_rounded_up_to_whole_sectors(length):
    size = virtual_size(b"\x33\xc0", length, RAW)
    assert size % 512 == 0
    assert 0 <= size - length < 512


@given(st.binary(max_size=HEAD_BYTES), st.sampled_from([QCOW2, RAW]))
def test_no_bytes_get_anything_out_but_a_size_or_a_rejection(head, declared):
    try:
        assert virtual_size(head, len(head), declared) >= 0
    except ImageRejected:
        return


def test_a_qcow2_file_is_put_on_another_backing_file_as_qemu_img_would_do_it(tmp_path):
    """For shorter and for longer names; QEMU reads the new name, and everything else is as it was."""
    for folder in ("a", "a-much-longer-folder-name-than-the-first-one"):
        (tmp_path / folder).mkdir()
        run("create", "-f", "qcow2", f"{tmp_path}/{folder}/base.qcow2", "64M")
    top, path = tmp_path / "top.qcow2", f"{tmp_path}/a/base.qcow2"
    run("create", "-f", "qcow2", "-b", path, "-F", "qcow2", str(top))
    before = {name: value for name, value in info(top).items() if "backing" not in name}
    for folder in ("a-much-longer-folder-name-than-the-first-one", "a"):
        wanted = f"{tmp_path}/{folder}/base.qcow2"
        top.write_bytes(with_backing(top.read_bytes(), wanted))
        found = info(top)
        assert (found["backing-filename"], found["backing-filename-format"]) == (wanted, "qcow2")
        assert {name: value for name, value in found.items() if "backing" not in name} == before
        assert "No errors" in run("check", "-f", "qcow2", str(top))


def test_a_file_that_names_no_backing_file_or_has_no_room_for_the_name_is_not_changed(tmp_path):
    run("create", "-f", "qcow2", f"{tmp_path}/plain.qcow2", "64M")
    for head in ((tmp_path / "plain.qcow2").read_bytes(), b"raw", qcow2(backing=600)):
        with pytest.raises(ImageRejected):
            with_backing(head, "/base.qcow2")


def run(*arguments: str) -> str:
    done = subprocess.run(["qemu-img", *arguments], check=True, timeout=60, capture_output=True, text=True)
    return done.stdout


def info(path: Path) -> dict:
    found = json.loads(run("info", "-f", "qcow2", "--output=json", str(path)))
    return {name: value for name, value in found.items() if name not in {"actual-size", "children"}}
