"""Volumes, interfaces, snapshots and captures, killed at every changing call and taken up by another worker.

As in ``test_recovery``: the kill is a call whose n-th guard raises what no driver catches, the recovery a new driver with the
next attempt.  What is compared is the result and everything that libvirt and the files of the hosts show.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from federation.contract import requests as r
from federation.contract.call import Revoked
from federation.contract.captures import CaptureTemplate, CaptureUpload
from federation.contract.instances import BootTemplate, BootVolume, DataDisk, ImageFormat, Interface
from federation.contract.volumes import NewVolume, StoredVolume
from federation.testing.calls import RecordedCall, SimulatedCrash
from federation_libvirt import connection, device_xml
from federation_libvirt.domain_xml import parse

MEBIBYTE = 1 << 20
SIZE = 4 * MEBIBYTE
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CHANGES_EACH_TIME = re.compile(r"datetime\.datetime\([^)]*\)|52:54:00(:[0-9a-f]{2}){3}|x?lab-[0-9a-f]{8}")


class Case(msgspec.Struct):
    """What to kill: ``prepare`` makes what must be there and returns the request."""

    operation: str
    prepare: Callable[[Any], r.Request]


def with_disk(lab, *, start: bool) -> str:
    return lab.create(lab.spec(data_disks=(DataDisk(size_bytes=SIZE),)), start=start).id


def booted(lab) -> str:
    instance = with_disk(lab, start=True)
    lab.wait_ready(instance)
    return instance


def attached(lab, instance: str) -> str:
    volume = NewVolume(volume="vol-a", size_bytes=SIZE)
    lab.driver.attach_volume(lab.call(), r.AttachVolume(instance=instance, volume=volume))
    return instance


def plugged(lab, instance: str) -> str:
    interface = Interface(network="wire-k", mac="52:54:00:00:00:01")
    lab.driver.attach_interface(lab.call(), r.AttachInterface(instance=instance, interface=interface))
    return instance


def kept(lab, instance: str, *, memory: bool = False) -> tuple[str, str]:
    request = r.CreateSnapshot(instance=instance, name="x", memory=memory)
    return instance, lab.driver.create_snapshot(lab.call(), request).id


def suspended(lab, pair: tuple[str, str]) -> tuple[str, str]:
    lab.driver.suspend(lab.call(), r.Suspend(instance=pair[0]))
    return pair


def attach_new(instance: str) -> r.Request:
    return r.AttachVolume(instance=instance, volume=NewVolume(volume="vol-a", size_bytes=SIZE))


def attach_stored(lab, instance: str) -> r.Request:
    lab.make_volume("vol-s", "qcow2")
    return r.AttachVolume(instance=instance, volume=StoredVolume(volume="vol-s"))


def detach(instance: str) -> r.Request:
    return r.DetachVolume(instance=instance, volume="vol-a", delete=True)


def extend(instance: str) -> r.Request:
    return r.ExtendVolume(instance=instance, volume="vol-a", size_bytes=2 * SIZE)


def add_interface(instance: str) -> r.Request:
    return r.AttachInterface(instance=instance, interface=Interface(network="wire-k"))


def drop_interface(instance: str) -> r.Request:
    return r.DetachInterface(instance=instance, mac="52:54:00:00:00:01")


def take(instance: str, *, memory: bool = False) -> r.Request:
    return r.CreateSnapshot(instance=instance, name="x", memory=memory)


def revert(pair: tuple[str, str]) -> r.Request:
    return r.RevertSnapshot(instance=pair[0], snapshot=pair[1])


def delete(pair: tuple[str, str]) -> r.Request:
    return r.DeleteSnapshot(instance=pair[0], snapshot=pair[1])


def capture(lab, target) -> r.Request:
    return r.CaptureImage(instance=lab.create(lab.spec(lab.image()), start=False).id, target=target)


def make(lab, boot) -> r.Request:
    return r.Create(instance=str(uuid.uuid4()), spec=lab.spec(boot), start=False)


def from_template(lab, *, linked: bool) -> r.Request:
    lab.driver.capture_image(lab.call(), capture(lab, CaptureTemplate(template="golden")))
    return make(lab, BootTemplate(template="golden", linked=linked, size_bytes=128 * MEBIBYTE))


def from_volume(lab) -> r.Request:
    lab.make_volume("system", "qcow2")
    return make(lab, BootVolume(volume="system"))


def destroy_with_snapshots(lab) -> r.Request:
    instance, _ = kept(lab, attached(lab, with_disk(lab, start=True)), memory=True)
    return r.Destroy(instance=instance)


CASES = {
    "attach_volume, stored, stopped": Case("attach_volume", lambda b: attach_stored(b, with_disk(b, start=False))),
    "attach_volume, new, running": Case("attach_volume", lambda b: attach_new(with_disk(b, start=True))),
    "detach_volume, stopped": Case("detach_volume", lambda b: detach(attached(b, with_disk(b, start=False)))),
    "detach_volume, running": Case("detach_volume", lambda b: detach(attached(b, booted(b)))),
    "extend_volume, stopped": Case("extend_volume", lambda b: extend(attached(b, with_disk(b, start=False)))),
    "extend_volume, running": Case("extend_volume", lambda b: extend(attached(b, with_disk(b, start=True)))),
    "attach_interface, running": Case("attach_interface", lambda b: add_interface(with_disk(b, start=True))),
    "detach_interface, running": Case("detach_interface", lambda b: drop_interface(plugged(b, booted(b)))),
    "create_snapshot, stopped": Case("create_snapshot", lambda b: take(attached(b, with_disk(b, start=False)))),
    "create_snapshot, memory": Case("create_snapshot", lambda b: take(with_disk(b, start=True), memory=True)),
    "delete_snapshot": Case("delete_snapshot", lambda b: delete(kept(b, attached(b, with_disk(b, start=False))))),
    "revert_snapshot, memory": Case(
        "revert_snapshot", lambda b: revert(suspended(b, kept(b, with_disk(b, start=True), memory=True)))
    ),
    "revert_snapshot, no memory": Case("revert_snapshot", lambda b: revert(kept(b, with_disk(b, start=True)))),
    "revert_snapshot, stopped": Case("revert_snapshot", lambda b: revert(kept(b, with_disk(b, start=False)))),
    "capture_image, template": Case("capture_image", lambda b: capture(b, CaptureTemplate(template="golden"))),
    "capture_image, file": Case("capture_image", lambda b: capture(b, to_file(b))),
    "create, copied template": Case("create", lambda b: from_template(b, linked=False)),
    "create, linked template": Case("create", lambda b: from_template(b, linked=True)),
    "create, volume": Case("create", from_volume),
    "destroy, snapshots and volume": Case("destroy", destroy_with_snapshots),
}


def to_file(lab) -> CaptureUpload:
    return CaptureUpload(url=f"file://{uploads(lab)}/{uuid.uuid4()}", format=ImageFormat.QCOW2)


def uploads(lab) -> Path:
    return Path(lab.settings.uploads.directories[0])


@pytest.fixture
def wire(lab):
    network = lab.native().networkDefineXML(
        f"<network><name>wire-k</name><bridge name='fk{uuid.uuid4().hex[:10]}'/></network>"
    )
    network.create()
    yield
    lab.clear()
    network.destroy()
    network.undefine()


def devices(xml: str) -> list[tuple[Any, ...]]:
    domain = parse(xml)
    disks = [
        (
            device_xml.target_of(disk),
            device_xml.path_of(disk).rpartition("/")[2],
            device_xml.format_of(disk),
            disk.find("readonly") is not None,
        )
        for disk in domain.iterfind("devices/disk")
    ]
    return disks + [("interface", device_xml.network_of(node)) for node in domain.iterfind("devices/interface")]


def picture(lab, call: RecordedCall, request: r.Request, result: Any) -> str:
    """The result and everything on the hosts."""
    native = lab.native()
    found: dict[str, Any] = {"result": result, "uploads": len(list(uploads(lab).iterdir()))}
    for domain in native.listAllDomains():
        if domain.UUIDString() == request.instance:
            found["state"] = (domain.state()[0], domain.hasManagedSaveImage())
            found["defined"] = devices(domain.XMLDesc(connection.XML_INACTIVE))
            found["running"] = devices(domain.XMLDesc()) if domain.isActive() else None
            found["snapshots"] = [(s.getName(), s.isCurrent()) for s in domain.listAllSnapshots()]
    for name in (name for name in lab.in_pool() if not name.startswith("cached-")):
        path = lab.folders[0] / "volumes" / "lab" / name
        if path.read_bytes()[:4] == b"QFI\xfb":
            found[f"in {name}"] = sorted(lab.snapshots_in(str(path)))
    files = [path for key, value in lab.inventory().items() if key.endswith(" files") for path in value]
    found["files"] = sorted(masked(path, call, request) for path in files if "/cached-" not in path)
    return "\n".join(sorted(masked(str(item), call, request) for item in found.items()))


def masked(text: str, call: RecordedCall, request: r.Request) -> str:
    """The text without what is another each time."""
    text = text.replace(request.instance, "INSTANCE").replace(call.operation, "OPERATION")
    return CHANGES_EACH_TIME.sub("OTHER", UUID.sub("ID", text))


def run(driver: Any, case: Case, call: RecordedCall, request: r.Request) -> Any:
    return getattr(driver, case.operation)(call, request)


def empty(lab) -> None:
    lab.clear()
    for file in uploads(lab).iterdir():
        file.unlink()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("wire")
@pytest.mark.parametrize("name", CASES)
def test_an_operation_killed_at_any_changing_call_ends_as_if_nothing_had_happened(lab, name):
    case = CASES[name]
    empty(lab)
    request, call = case.prepare(lab), lab.call()
    expected = picture(lab, call, request, run(lab.driver, case, call, request))
    assert call.guards >= 1
    for n in range(1, call.guards + 2):
        empty(lab)
        request, dying = case.prepare(lab), lab.call(crash_at=n)
        try:
            run(lab.driver, case, dying, request)
        except SimulatedCrash:
            assert n <= call.guards
        driver = lab.another_driver()
        result = run(driver, case, dying.again(), request)
        assert picture(lab, dying, request, result) == expected, f"killed at {n} of {call.guards}"
        driver.close()


@pytest.mark.slow
@pytest.mark.usefixtures("wire")
@pytest.mark.parametrize("name", [name for name in CASES if "detach" not in name])
def test_an_operation_that_is_revoked_before_its_first_change_changes_nothing(lab, name):
    case = CASES[name]
    empty(lab)
    request = case.prepare(lab)
    before = lab.inventory()
    with pytest.raises(Revoked):
        run(lab.driver, case, lab.call(revoke_at=1), request)
    assert lab.inventory() == before
