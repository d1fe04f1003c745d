"""The readers of VMDK and OVA: by example, by property, and against what qemu-img and tarfile write and read."""

from __future__ import annotations

import importlib.util
import io
import shutil
import struct
import sys
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_utils.imageutils import format_inspector

from federation.contract.errors import ImageRejected
from federation_vmware import ova, vmdk, vmdk_sparse
from federation_vmware.vmdk_stream import StreamChecker

_spec = importlib.util.spec_from_file_location("vmware_disk_files", Path(__file__).with_name("disk_files.py"))
made: Any = importlib.util.module_from_spec(_spec)
sys.modules["vmware_disk_files"] = made
_spec.loader.exec_module(made)

SECTOR = 512
GRAIN = 128 * SECTOR
pieces_of_disk = st.lists(
    st.tuples(st.integers(0, 1300), st.integers(1, 255), st.integers(1, 3)), max_size=6, unique_by=lambda one: one[0]
)
"""Grains that hold anything: number, what they are filled with, and how many sectors of it."""


def disk(capacity: int, pieces) -> bytes:
    whole = bytearray(capacity * SECTOR)
    for number, fill, sectors in pieces:
        at = (number * 128 % capacity) * SECTOR
        end = min(len(whole), at + sectors * SECTOR)
        whole[at:end] = bytes([fill]) * (end - at)
    return bytes(whole)


def stream(content: bytes) -> bytes:
    """A stream-optimized disk by our own writer."""
    file = io.BytesIO()
    grains = ((at // SECTOR, content[at : at + GRAIN]) for at in range(0, len(content), GRAIN))
    vmdk_sparse.write_stream(file, len(content) // SECTOR, grains, lambda _: None)
    return file.getvalue()


SMALL = disk(3 * 128 + 5, [(0, 7, 3), (2, 9, 1), (3, 1, 3)])
STREAM = stream(SMALL)


def check(content: bytes, step: int = 4096) -> StreamChecker:
    checker = StreamChecker()
    for at in range(0, len(content), step):
        checker.feed(content[at : at + step])
    checker.finish()
    return checker


@settings(max_examples=15, deadline=None)
@given(capacity=st.integers(1, 600 * 128), pieces=pieces_of_disk)
def test_what_is_written_as_a_stream_reads_back_to_the_byte(capacity, pieces):
    content = disk(capacity, pieces)
    written = stream(content)
    checker = check(written)
    assert checker.header.capacity_bytes == len(content)
    assert made.stored(written) == content


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.integers(1, 3000), min_size=1, max_size=40))
def test_a_stream_is_judged_alike_in_whatever_pieces_it_comes(steps):
    checker, at = StreamChecker(), 0
    for step in [*steps, len(STREAM)]:
        checker.feed(STREAM[at : at + step])
        at += step
    checker.finish()
    assert (checker.grains, checker.header.capacity_bytes) == (3, len(SMALL))


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(STREAM) - 1), value=st.integers(0, 255))
def test_a_stream_with_any_byte_changed_is_taken_with_the_same_size_or_refused_in_words(at, value):
    changed = STREAM[:at] + bytes([value]) + STREAM[at + 1 :]
    try:
        checker = check(changed)
    except ImageRejected:
        return
    assert checker.header.capacity_bytes == len(SMALL)


@given(length=st.integers(0, len(STREAM) - 1))
def test_a_stream_that_was_cut_anywhere_is_refused(length):
    with pytest.raises(ImageRejected):
        check(STREAM[:length])


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=3000))
def test_what_is_no_disk_is_refused_and_nothing_else_is_raised(content):
    for start in (b"", vmdk.MAGIC, STREAM[:700]):
        with pytest.raises(ImageRejected):
            check(start + content)


def test_a_long_stream_is_looked_through_in_little_memory():
    checker = StreamChecker()
    file = io.BytesIO()
    grain = bytes(range(256)) * 256
    count = 4096
    vmdk_sparse.write_stream(file, count * 128, ((n * 128, grain) for n in range(count)), lambda _: None)
    content = file.getvalue()
    tracemalloc.start()
    for at in range(0, len(content), 1 << 20):
        checker.feed(content[at : at + (1 << 20)])
    checker.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert checker.grains == count
    assert peak < 8 << 20, f"{peak} bytes for a disk of {count * GRAIN}"


@pytest.mark.vcenter
@pytest.mark.parametrize("sectors", [1, 127, 128 * 600 + 3])
@pytest.mark.parametrize("subformat", ["streamOptimized", "monolithicSparse"])
def test_what_qemu_img_writes_is_taken_and_comes_to_vsphere_as_it_was(vcenter_simulator, tmp_path, subformat, sectors):
    vcenter_simulator.install()
    assert shutil.which("qemu-img"), "the simulator's part installs it"
    raw = tmp_path / "disk.raw"
    raw.write_bytes(disk(sectors, [(0, 3, 1), (1, 200, 3), (599, 9, 2)]))
    written = made.qemu_img(raw, tmp_path / "disk.vmdk", subformat)
    if subformat == "monolithicSparse":
        header, grains = vmdk_sparse.read_sparse(io.BytesIO(written))
        file = io.BytesIO()
        vmdk_sparse.write_stream(file, header.capacity, grains, lambda _: None)
        written = file.getvalue()
    size = check(written).header.capacity_bytes
    assert made.stored(written) == raw.read_bytes().ljust(size, b"\0")
    (tmp_path / "ours.vmdk").write_bytes(written)
    assert made.compared(raw, tmp_path / "ours.vmdk") == "Images are identical."


def test_openstacks_inspector_finds_our_streams_safe_and_as_large():
    inspector = format_inspector.VMDKInspector()
    inspector.eat_chunk(STREAM)
    inspector.finish()
    inspector.safety_check()
    assert inspector.virtual_size == len(SMALL)


def described(text: bytes, **fields: int) -> bytes:
    """The stream with another description, or other fields in its header."""
    values = list(vmdk.HEADER.unpack_from(STREAM))
    names = ["magic", "version", "flags", "capacity", "grain", "offset", "sectors", "entries", "rgd", "gd", "overhead"]
    for name, value in fields.items():
        values[names.index(name)] = value
    head = vmdk.HEADER.pack(*values).ljust(SECTOR, b"\0")
    return head + text.ljust(20 * SECTOR, b"\0") + STREAM[21 * SECTOR :]


TEXT = STREAM[SECTOR : 21 * SECTOR].rstrip(b"\0")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"disk.vmdk", b"../other/root-flat.vmdk", "path"),
        (b"disk.vmdk", b"[other] vm/root.vmdk", "path"),
        (b"SPARSE", b"FLAT", "another file"),
        (b"RDONLY 389", b"RDONLY 4096", "4096"),
        (b"parentCID=ffffffff", b"parentCID=12345678", "parent"),
        (b"ffffffff", b'ffffffff\nparentFileNameHint="base.vmdk"', "parent"),
        (b"# The Disk", b'RW 1 FLAT "more.vmdk"\n# The Disk', "2 extents"),
        (b"streamOptimized", b"monolithicFlat", "createType"),
        (b"streamOptimized", b"monolithicSparse", "createType"),
    ],
)
def test_a_description_that_leads_out_of_its_file_is_refused(old, new, words):
    assert old in TEXT
    with pytest.raises(ImageRejected, match=words):
        check(described(TEXT.replace(old, new, 1)))


@pytest.mark.parametrize(
    "fields",
    [
        {"capacity": 0},
        {"capacity": 1 << 60},
        {"grain": 3},
        {"grain": 1 << 40},
        {"offset": 1 << 50},
        {"sectors": 1 << 50},
        {"overhead": 1 << 62},
        {"entries": 0},
        {"version": 9},
        {"flags": 1},
    ],
)
def test_a_header_that_cannot_be_is_refused_before_anything_is_read_by_it(fields):
    with pytest.raises(ImageRejected):
        check(described(TEXT, **fields))


@pytest.mark.parametrize(
    ("start", "words"),
    [(b"# Disk DescriptorFile\nversion=1\n", "-flat file as raw"), (b"COWD", "old host"), (b"QFI\xfb", "no VMDK")],
)
def test_other_files_are_refused_with_what_to_do(start, words):
    with pytest.raises(ImageRejected, match=words):
        check(start.ljust(1024, b"\0"))


def test_a_grain_that_grows_without_end_is_refused():
    bomb = __import__("zlib").compress(bytes(64 << 20), 9)
    grain = struct.pack("<QI", 0, len(bomb)) + bomb
    with pytest.raises(ImageRejected, match="has not the 65536 bytes"):
        check(STREAM[: 128 * SECTOR] + grain.ljust(-(-len(grain) // SECTOR) * SECTOR, b"\0"))


# Sparse files


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 4095), value=st.integers(0, 255))
def test_a_sparse_disk_with_any_byte_changed_is_read_or_refused_in_words(sparse_disk, at, value):
    at = at * len(sparse_disk) // 4096
    changed = sparse_disk[:at] + bytes([value]) + sparse_disk[at + 1 :]
    file = io.BytesIO()
    try:
        header, grains = vmdk_sparse.read_sparse(io.BytesIO(changed))
        vmdk_sparse.write_stream(file, header.capacity, grains, lambda _: None)
    except ImageRejected:
        return
    assert check(file.getvalue()).header.capacity == header.capacity


@pytest.fixture(scope="module")
def sparse_disk() -> bytes:
    """A monolithic sparse disk of two grains, written by hand after the specification."""
    text = TEXT.replace(b"streamOptimized", b"monolithicSparse").replace(b"RDONLY 389", b"RW 256")
    packed = vmdk.HEADER.pack(vmdk.MAGIC, 1, 1, 256, 128, 1, 20, 512, 0, 21, 128, 0, vmdk.LINE_ENDS, 0)
    head = packed.ljust(SECTOR, b"\0") + text.ljust(20 * SECTOR, b"\0")
    directory = struct.pack("<I", 22).ljust(SECTOR, b"\0")
    table = struct.pack("<2I", 256, 128).ljust(4 * SECTOR, b"\0")
    tables = (head + directory + table).ljust(128 * SECTOR, b"\0")
    return tables + b"b" * GRAIN + b"a" * GRAIN


def test_the_grains_of_a_sparse_disk_are_put_where_its_tables_say(sparse_disk):
    header, grains = vmdk_sparse.read_sparse(io.BytesIO(sparse_disk))
    file = io.BytesIO()
    vmdk_sparse.write_stream(file, header.capacity, grains, lambda _: None)
    assert made.stored(file.getvalue()) == b"a" * GRAIN + b"b" * GRAIN


# Packages


def read(package: bytes, step: int = 1000) -> bytes:
    reader = ova.OvaReader(package[at : at + step] for at in range(0, len(package), step))
    content = b"".join(reader.disk(reader.find_disk()))
    reader.finish()
    return content


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("signed", ["first", "last", "none"])
@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_the_disk_of_a_package_comes_out_to_the_byte(kind, signed, algorithm):
    assert read(made.ova(STREAM, signed=signed, algorithm=algorithm, kind=kind)) == STREAM


@settings(max_examples=60, deadline=None)
@given(step=st.integers(1, 20_000))
def test_a_package_is_read_alike_in_whatever_pieces_it_comes(step):
    assert read(made.ova(STREAM), step) == STREAM


PACKAGE = made.ova(STREAM)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(PACKAGE) - 1), value=st.integers(0, 255))
def test_a_signed_package_with_any_byte_changed_gives_the_same_disk_or_is_refused(at, value):
    changed = PACKAGE[:at] + bytes([value]) + PACKAGE[at + 1 :]
    try:
        content = read(changed)
    except ImageRejected:
        return
    assert content == STREAM


@given(length=st.integers(0, 2 * SECTOR + len(STREAM)))
def test_a_package_that_was_cut_is_refused(length):
    with pytest.raises(ImageRejected):
        read(PACKAGE[:length])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("disk.vmdk", STREAM)], "first file"),
        ([("vm.ovf", made.ovf())], "not there"),
        ([("vm.ovf", made.ovf(disks=2 * made.DISK)), ("disk.vmdk", STREAM)], "2 disks"),
        ([("vm.ovf", made.ovf(disks="")), ("disk.vmdk", STREAM)], "0 disks"),
        ([("vm.ovf", made.ovf(file=' ovf:compression="gzip"')), ("disk.vmdk", STREAM)], "compressed"),
        ([("vm.ovf", made.ovf(file=' ovf:chunkSize="7"')), ("disk.vmdk", STREAM)], "chunks"),
        ([("vm.ovf", made.ovf(disks=made.DISK.replace("vmdk.html", "vhd"))), ("disk.vmdk", STREAM)], "format"),
        ([("vm.ovf", made.ovf(disks=made.DISK.replace("file1", "file2"))), ("disk.vmdk", STREAM)], "blank"),
        ([("vm.ovf", made.ovf().replace(b"VirtualSystem", b"VirtualSystemCollection"))], "several machines"),
        ([("vm.ovf", b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>")], "document type"),
        ([("vm.ovf", b"no xml")], "no XML"),
        ([("vm.ovf", bytes(2 << 20))], "at most"),
        ([("../vm.ovf", made.ovf())], "plain file"),
        ([("vm.ovf", made.ovf()), ("vm.mf", b"MD5(x)= 00\n")], "manifest cannot be read"),
        ([("vm.ovf", made.ovf()), ("disk.vmdk", STREAM), ("disk.vmdk", STREAM)], "two files"),
        (
            [("vm.ovf", made.ovf()), ("vm.mf", made.manifest([("vm.ovf", made.ovf())])), ("disk.vmdk", STREAM)],
            "does not list 'disk.vmdk'",
        ),
        (
            [
                ("vm.ovf", made.ovf()),
                ("vm.mf", made.manifest([("vm.ovf", made.ovf()), ("disk.vmdk", STREAM), ("nvram", b"x")])),
                ("disk.vmdk", STREAM),
            ],
            "'nvram', which is not there",
        ),
    ],
)
def test_a_package_that_is_not_one_machine_with_one_disk_is_refused_in_words(files, words):
    with pytest.raises(ImageRejected, match=words):
        read(made.tar(files))


def test_a_digest_that_is_not_the_manifests_is_named():
    files = [("vm.ovf", made.ovf()), ("disk.vmdk", STREAM)]
    listed = made.manifest([files[0], ("disk.vmdk", STREAM + b"x")])
    for package in ([files[0], ("vm.mf", listed), files[1]], [*files, ("vm.mf", listed)]):
        with pytest.raises(ImageRejected, match=r"'disk.vmdk' has the sha256"):
            read(made.tar(package))
