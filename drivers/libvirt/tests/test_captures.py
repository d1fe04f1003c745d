"""The root disk of a real machine as a template or a file, and machines made from templates and volumes."""

from __future__ import annotations

import hashlib
import http.server
import threading
import uuid
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from federation.contract import requests as r
from federation.contract.captures import CapturedImage, CaptureTemplate, CaptureUpload
from federation.contract.errors import (
    AlreadyExists,
    Cancelled,
    Conflict,
    ImageRejected,
    ImageUnavailable,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
)
from federation.contract.instances import BootTemplate, BootVolume, ImageFormat, PowerState
from federation.contract.volumes import StoredVolume

MEBIBYTE = 1 << 20
QCOW2_MAGIC = b"QFI\xfb"


class Store(http.server.BaseHTTPRequestHandler):
    """A server that takes what is PUT to it, and first gives the answers that a test has lined up."""

    kept: ClassVar[dict[str, bytes]] = {}
    answers: ClassVar[list[int]] = []

    def do_PUT(self) -> None:
        """Take a file."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.answers.pop(0) if self.answers else 201
        if status == 201:
            self.kept[self.path] = body
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@pytest.fixture
def store() -> Iterator[str]:
    """A store's address."""
    Store.kept.clear()
    Store.answers.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def stopped(lab, **boot: Any) -> str:
    return lab.create(lab.spec(lab.image(**boot)), start=False).id


def capture(lab, instance: str, target, call=None) -> CapturedImage:
    return lab.driver.capture_image(call or lab.call(), r.CaptureImage(instance=instance, target=target))


def template(name: str = "golden", pool: str = "") -> CaptureTemplate:
    return CaptureTemplate(template=name, pool=pool)


def upload(url: str, kind: ImageFormat = ImageFormat.QCOW2) -> CaptureUpload:
    return CaptureUpload(url=url, format=kind)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.slow
@pytest.mark.parametrize("linked", [False, True])
def test_a_captured_template_boots_as_a_copy_or_as_a_linked_clone(lab, linked):
    origin = stopped(lab, size_bytes=80 * MEBIBYTE)
    made = capture(lab, origin, template())
    assert (made.format, made.virtual_size_bytes, made.template) == (ImageFormat.QCOW2, 80 * MEBIBYTE, "golden")
    lab.destroy(origin)
    boot = BootTemplate(template="golden", linked=linked, size_bytes=128 * MEBIBYTE)
    clone = lab.create(lab.spec(boot))
    assert clone.disks[0].size_bytes == 128 * MEBIBYTE
    lab.wait_ready(clone.id)
    assert f"disk vda {128 * MEBIBYTE}" in lab.console(clone.id)
    root = f"{lab.folders[0]}/volumes/lab/{clone.id}-root.qcow2"
    assert bool(lab.backing_of(root)) == linked
    assert lab.create(lab.spec(BootTemplate(template="golden")), start=False).disks[0].size_bytes == 80 * MEBIBYTE


@pytest.mark.slow
def test_a_volume_boots_an_instance_and_outlives_it(lab):
    origin = stopped(lab)
    lab.copy_volume(f"{origin}-root.qcow2", "system")
    lab.destroy(origin)
    boot = BootVolume(volume="system")
    instance = lab.create(lab.spec(boot))
    assert [(disk.volume, disk.pool) for disk in instance.disks] == [("system", "lab")]
    lab.wait_ready(instance.id)
    before = lab.inventory()
    with pytest.raises(Conflict, match="is used by"):
        lab.create(lab.spec(boot))
    assert lab.inventory() == before
    with pytest.raises(InvalidState, match="boots from"):
        lab.driver.detach_volume(lab.call(), r.DetachVolume(instance=instance.id, volume="system"))
    lab.destroy(instance.id)
    assert "system" in lab.in_pool()
    assert lab.create(lab.spec(boot), start=False).power_state is PowerState.STOPPED


def test_boot_sources_that_are_not_there_are_refused_and_leave_no_trace(lab):
    capture(lab, stopped(lab), template())
    before = lab.inventory()
    with pytest.raises(ImageUnavailable, match="no template nowhere"):
        lab.create(lab.spec(BootTemplate(template="nowhere")))
    with pytest.raises(NotFound, match="no volume nowhere"):
        lab.create(lab.spec(BootVolume(volume="nowhere")))
    with pytest.raises(InvalidRequest, match="reserved"):
        lab.create(lab.spec(BootVolume(volume="template-golden")))
    with pytest.raises(NotSupported, match="vhdx"):
        lab.create(lab.spec(BootVolume(volume="x", format=ImageFormat.VHDX)))
    with pytest.raises(ImageRejected, match="needs a disk"):
        lab.create(lab.spec(BootTemplate(template="golden", size_bytes=MEBIBYTE)))
    with pytest.raises(InvalidRequest, match="is not allowed"):
        lab.create(lab.spec(BootTemplate(template="golden", pool="default")))
    assert lab.inventory() == before


def test_a_template_that_is_there_is_not_overwritten_and_a_repeat_finds_its_own(lab):
    instance = stopped(lab)
    call = lab.call()
    made = capture(lab, instance, template(), call)
    before = lab.inventory()
    again = call.again()
    assert lab.another_driver().capture_image(again, r.CaptureImage(instance=instance, target=template())) == made
    assert again.guards == 0
    with pytest.raises(AlreadyExists, match="golden"):
        capture(lab, instance, template())
    assert lab.inventory() == before


def test_of_two_captures_of_one_name_at_the_same_moment_the_one_that_sees_the_other_yields(lab):
    instance, other = stopped(lab), stopped(lab)
    call = lab.meddling(1, lambda: capture(lab, other, template()))
    with pytest.raises(AlreadyExists, match="golden"):
        capture(lab, instance, template(), call)
    assert len([name for name in lab.in_pool() if name.startswith("template-golden.")]) == 2
    assert lab.create(lab.spec(BootTemplate(template="golden")), start=False).disks


def test_templates_lie_in_another_pool_when_the_request_says_so(lab):
    pool = lab.extra_pool()
    assert capture(lab, stopped(lab), template(pool=pool)).pool == pool
    assert lab.create(lab.spec(BootTemplate(template="golden", pool=pool)), start=False).disks
    with pytest.raises(ImageUnavailable):
        lab.create(lab.spec(BootTemplate(template="golden")))


@pytest.mark.parametrize("kind", [ImageFormat.QCOW2, ImageFormat.RAW])
def test_an_uploaded_image_is_whole_and_boots_where_its_checksum_says(lab, extra_directory, kind):
    instance = stopped(lab)
    file = extra_directory / f"{uuid.uuid4()}.img"
    call = lab.call()
    made = capture(lab, instance, upload(f"file://{file}", kind), call)
    content = file.read_bytes()
    assert (made.checksum, made.size_bytes, made.url) == (sha256(content), len(content), f"file://{file}")
    assert content.startswith(QCOW2_MAGIC) == (kind is ImageFormat.QCOW2)
    assert any(percent is not None and 0 <= percent <= 100 for percent, _ in call.progressed)
    assert not [name for name in lab.in_pool() if "capture" in name]
    assert [path.name for path in extra_directory.iterdir() if path.name.endswith(".part")] == []
    boot = lab.image(url=made.url, checksum=made.checksum, format=kind)
    assert lab.create(lab.spec(boot), start=False).disks[0].size_bytes == made.virtual_size_bytes
    with pytest.raises(AlreadyExists, match="is there already"):
        capture(lab, instance, upload(f"file://{file}", kind))
    assert file.read_bytes() == content


def test_an_image_is_put_to_a_server_again_after_an_answer_that_may_pass(lab, store):
    instance = stopped(lab)
    Store.answers[:] = [503]
    made = capture(lab, instance, upload(f"{store}/images/golden?token=x"))
    assert sha256(Store.kept["/images/golden?token=x"]) == made.checksum
    assert not [name for name in lab.in_pool() if "capture" in name]


@pytest.mark.parametrize(("answers", "words"), [([403], "HTTP 403"), ([503] * 3, "HTTP 503")])
def test_a_server_that_refuses_leaves_nothing_on_the_host(lab, store, answers, words):
    instance = stopped(lab)
    before = lab.inventory()
    Store.answers[:] = answers
    with pytest.raises(ImageUnavailable, match=words):
        capture(lab, instance, upload(f"{store}/golden"))
    assert lab.inventory() == before


def test_uploads_go_only_where_the_settings_say(lab):
    instance = stopped(lab)
    before = lab.inventory()
    for url in ("https://127.0.0.1/x", "http://example.org/x", "file:///etc/passwd", "http://u:p@127.0.0.1/x"):
        with pytest.raises(InvalidRequest, match="not allowed"):
            capture(lab, instance, upload(url))
    with pytest.raises(NotSupported, match="vmdk"):
        capture(lab, instance, upload("http://127.0.0.1/x", ImageFormat.VMDK))
    assert lab.inventory() == before


def test_an_image_larger_than_allowed_is_not_sent(lab, extra_directory):
    instance = stopped(lab)
    before = lab.inventory()
    rules = lab.settings.uploads
    small = lab.another_driver(uploads=type(rules)(schemes=rules.schemes, directories=rules.directories, max_bytes=99))
    request = r.CaptureImage(instance=instance, target=upload(f"file://{extra_directory}/large"))
    with pytest.raises(InvalidRequest, match="at most 99"):
        small.capture_image(lab.call(), request)
    assert lab.inventory() == before


def test_only_a_stopped_instance_with_a_root_disk_is_captured(lab):
    with pytest.raises(InvalidState, match="no root disk"):
        capture(lab, lab.create(start=False).id, template())
    running = lab.create(lab.spec(lab.image())).id
    with pytest.raises(InvalidState, match=r"running.*stopped"):
        capture(lab, running, template())


def test_a_raw_root_disk_that_pretends_to_be_qcow2_is_not_copied(lab):
    lab.make_volume("system", "raw", size=8 * MEBIBYTE)
    instance = lab.create(lab.spec(BootVolume(volume="system", format=ImageFormat.RAW)), start=False).id
    assert capture(lab, instance, template("plain")).virtual_size_bytes == 8 * MEBIBYTE
    disk = lab.folders[0] / "volumes" / "lab" / "system"
    head = lab.qcow2_with_backing("/etc/passwd")
    with disk.open("r+b") as file:
        file.write(head)
    assert capture(lab, instance, template("still-plain")).virtual_size_bytes == 8 * MEBIBYTE
    before = lab.inventory()
    lab.native().storagePoolLookupByName("lab").refresh(0)
    with pytest.raises(InvalidState, match="used as raw, libvirt reads qcow2"):
        capture(lab, instance, template("evil"))
    assert lab.inventory() == before


def test_a_raw_root_disk_that_turns_into_qcow2_while_it_is_copied_gives_no_image(lab):
    lab.make_volume("system", "raw", size=8 * MEBIBYTE)
    instance = lab.create(lab.spec(BootVolume(volume="system", format=ImageFormat.RAW)), start=False).id
    disk = lab.folders[0] / "volumes" / "lab" / "system"
    with disk.open("r+b") as file:
        file.write(lab.qcow2_with_backing("/etc/passwd"))
    before = lab.inventory()
    call = lab.meddling(1, lambda: lab.native().storagePoolLookupByName("lab").refresh(0))
    with pytest.raises(InvalidState, match="used as raw, libvirt reads qcow2"):
        capture(lab, instance, template("evil"), call)
    assert lab.inventory() == before


@pytest.mark.parametrize("target", ["template", "file", "http"])
def test_a_capture_cancelled_at_any_change_leaves_nothing(lab, extra_directory, store, target):
    instance = stopped(lab)
    targets = {
        "template": lambda: template("cut"),
        "file": lambda: upload(f"file://{extra_directory}/{uuid.uuid4()}"),
        "http": lambda: upload(f"{store}/cut"),
    }
    call = lab.call()
    capture(lab, instance, template("whole") if target == "template" else targets[target](), call)
    before, files = lab.inventory(), set(extra_directory.iterdir())
    arrived = 0
    for n in range(1, call.guards + 1):
        try:
            capture(lab, instance, targets[target](), lab.call(cancel_at=n))
        except Cancelled:
            assert lab.inventory() == before, f"cancelled at {n} of {call.guards}"
            assert set(extra_directory.iterdir()) == files
        else:
            arrived += 1
            assert target != "template"
            before, files = lab.inventory(), set(extra_directory.iterdir())
    assert arrived <= 1


class CancelledWhileCopying:
    """Cancels a call at its first wait."""

    def __init__(self, call: Any) -> None:
        self._call, self._sleep = call, call.sleep
        call.sleep = self.sleep

    def sleep(self, seconds: float) -> None:
        self._call.sleep = self._sleep
        self._call.cancel()
        self._sleep(seconds)


def test_a_capture_cancelled_while_it_copies_waits_for_the_copy_and_removes_it(lab):
    instance = stopped(lab)
    before, call = lab.inventory(), lab.call()
    CancelledWhileCopying(call)
    with pytest.raises(Cancelled):
        capture(lab, instance, template(), call)
    assert lab.inventory() == before


def test_a_captured_volume_of_another_instance_stays_attached_as_it_was(lab):
    instance = stopped(lab)
    lab.make_volume("vol-a", "qcow2")
    request = r.AttachVolume(instance=instance, volume=StoredVolume(volume="vol-a"))
    lab.driver.attach_volume(lab.call(), request)
    before = lab.get(instance)
    capture(lab, instance, template())
    assert lab.get(instance) == before
