"""VMDK and OVA images on VMware's simulator: what is sent, what is refused, what a broken transfer leaves behind.

The simulator throws away what it is sent over a lease, so a proxy before it keeps the bytes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import ssl
import sys
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyVmomi import vim

from federation.contract import requests as r
from federation.contract.call import Revoked
from federation.contract.errors import (
    Cancelled,
    HypervisorRefused,
    ImageRejected,
    ImageUnavailable,
    InsufficientResources,
    OutcomeUnknown,
    TimedOut,
)
from federation.contract.instances import BootImage, DataDisk, Flavour, ImageFormat, PowerState
from federation.testing.calls import RecordedCall
from federation_vmware.settings import ImageRules, Timeouts

MEBIBYTE = 1 << 20


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"vmware_import_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


made, _proxies = _load("disk_files"), _load("faulty_proxy")
KINDS = ("streamOptimized", "monolithicSparse", "ova")


@pytest.fixture(scope="module")
def raw() -> bytes:
    content = bytearray(9 * MEBIBYTE)
    content[:4096] = b"boot" * 1024
    content[5 * MEBIBYTE : 5 * MEBIBYTE + 70_000] = hashlib.shake_256(b"data").digest(70_000)
    return bytes(content)


@pytest.fixture(scope="module")
def images(vcenter, raw, tmp_path_factory) -> dict[str, bytes]:
    """The same disk in each form."""
    folder = tmp_path_factory.mktemp("disks")
    (folder / "disk.raw").write_bytes(raw)
    found = {kind: made.qemu_img(folder / "disk.raw", folder / f"{kind}.vmdk", kind) for kind in KINDS[:2]}
    return found | {"ova": made.ova(found["streamOptimized"])}


@pytest.fixture
def proxy(lab, tmp_path):
    proxy = _proxies.FaultyProxy(lab.vcenter, tmp_path / "proxy")
    yield proxy
    proxy.close()


@pytest.fixture
def driver(lab, proxy, tmp_path):
    quick = Timeouts(request_seconds=5, task_seconds=20, busy_seconds=3, cancel_seconds=5, settle_tries=3)
    (tmp_path / "spool").mkdir()
    rules = msgspec.structs.replace(lab.settings.images, spool_directory=str(tmp_path / "spool"))
    return lab.another_driver(port=proxy.port, ca_file=proxy.ca_file, timeouts=quick, images=rules)


def boot(lab, content: bytes, **changes: Any) -> BootImage:
    (lab.images / "disk.img").write_bytes(content)
    fields = {
        "url": f"file://{lab.images}/disk.img",
        "checksum": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "format": ImageFormat.VMDK,
    }
    return BootImage(**(fields | changes))


def request(lab, content: bytes, *, image: dict[str, Any] | None = None, **changes: Any) -> r.Create:
    return r.Create(instance=str(uuid.uuid4()), spec=lab.spec(boot(lab, content, **(image or {})), **changes))


def sent(proxy) -> list[bytes]:
    return [body for method, body in proxy.bodies if method == "POST"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_comes_to_vcenter_as_it_is_in_the_image_and_its_machine_runs(
    lab, proxy, driver, images, raw, kind, tmp_path
):
    call, wanted = (
        lab.call(),
        request(
            lab,
            images[kind],
            image={"size_bytes": 16 * MEBIBYTE},
            flavour=Flavour(vcpus=2, memory_bytes=256 * MEBIBYTE),
            data_disks=(DataDisk(size_bytes=MEBIBYTE),),
        ),
    )
    seen = driver.create(call, wanted)
    assert (seen.power_state, seen.node, seen.vcpus) == (PowerState.RUNNING, lab.nodes[0], 2)
    assert [disk.size_bytes for disk in seen.disks] == [16 * MEBIBYTE, MEBIBYTE]
    [content] = sent(proxy)
    assert made.stored(content) == raw
    assert any(percent is not None and 20 < percent <= 80 for percent, _ in call.progressed)
    assert [proxy.seen[name] for name in ("HttpNfcLeaseProgress", "HttpNfcLeaseComplete", "HttpNfcLeaseAbort")] == [
        1,
        1,
        0,
    ]
    assert not list((tmp_path / "spool").iterdir())
    lab.destroy(wanted.instance)
    assert not [path for path in lab.eyes.files() if wanted.spec.name in path]


def test_an_image_without_a_size_makes_a_disk_of_its_own_size(lab, driver, images, raw):
    assert driver.create(lab.call(), request(lab, images["streamOptimized"])).disks[0].size_bytes == len(raw)


def broken(images: dict[str, bytes], how: str) -> tuple[bytes, dict[str, Any]]:
    whole = images["streamOptimized"]
    other = made.tar(
        [
            ("vm.ovf", made.ovf()),
            ("vm.mf", made.manifest([("vm.ovf", made.ovf()), ("disk.vmdk", b"?")])),
            ("disk.vmdk", whole),
        ]
    )
    return {
        "checksum": (whole, {"checksum": "sha256:" + 64 * "0"}),
        "checksum of a sparse disk": (images["monolithicSparse"], {"checksum": "sha256:" + 64 * "0"}),
        "grain": (whole[: 70 * 1024] + b"XXXXXXXX" + whole[70 * 1024 + 8 :], {}),
        "size": (whole, {"size_bytes": MEBIBYTE}),
        "cut sparse disk": (images["monolithicSparse"][:-70_000], {}),
        "manifest": (other, {}),
        "no disk": (b"no disk at all" * 1000, {}),
        "parent": (whole.replace(b"parentCID=ffffffff", b"parentCID=abcdef01"), {}),
    }[how]  # fmt: skip


@pytest.mark.parametrize(
    ("how", "begun"),
    [
        ("checksum", True),
        ("grain", False),
        ("manifest", True),
        ("checksum of a sparse disk", False),
        ("cut sparse disk", False),
        ("size", False),
        ("no disk", False),
        ("parent", False),
    ],
)
def test_an_image_that_is_not_right_is_rejected_and_leaves_nothing(lab, proxy, driver, images, how, begun, tmp_path):
    content, changes = broken(images, how)
    files, machines = lab.eyes.files(), len(lab.eyes.machines())
    with pytest.raises(ImageRejected):
        driver.create(lab.call(), request(lab, content, image=changes))
    assert (lab.eyes.files(), len(lab.eyes.machines())) == (files, machines)
    assert proxy.seen["ImportVApp"] == proxy.seen["HttpNfcLeaseAbort"] == (1 if begun else 0)
    assert proxy.seen["HttpNfcLeaseComplete"] == 0
    assert not list((tmp_path / "spool").iterdir())


def test_a_worker_without_room_for_a_conversion_says_so(lab, images):
    rules = ImageRules(schemes=frozenset({"file"}), directories=(str(lab.images),), spool_directory="/proc/no/such")
    driver = lab.another_driver(images=rules)
    with pytest.raises(InsufficientResources, match="spool directory /proc/no/such"):
        driver.create(lab.call(), request(lab, images["monolithicSparse"]))


def guards_of(lab, content: bytes) -> int:
    call, wanted = lab.call(), request(lab, content)
    lab.driver.create(call, wanted)
    lab.destroy(wanted.instance)
    return call.guards


@pytest.mark.slow
def test_an_import_killed_at_any_changing_call_ends_as_one_machine_that_was_started_once(lab, images):
    files = lab.eyes.files()
    for n in range(1, guards_of(lab, images["ova"]) + 2):
        wanted, call = request(lab, images["ova"]), lab.call(crash_at=n)
        lab.killed("create", call, wanted)
        seen = lab.another_driver().create(call.again(), wanted)
        assert (seen.power_state, len(seen.disks)) == (PowerState.RUNNING, 1), f"killed at {n}"
        mine = [one for one in lab.eyes.machines() if one.name == wanted.spec.name]
        started = [e for e in lab.eyes.events(vim.event.VmPoweredOnEvent) if e.vm.name == wanted.spec.name]
        assert (len(mine), len(started)) == (1, 1), f"killed at {n}"
        lab.destroy(wanted.instance)
        assert lab.eyes.files() == files, f"killed at {n}"


class OutOfTime(RecordedCall):
    """Its deadline passes at a guard: the worker raises timed_out there, once."""

    late_at = 0

    def guard(self) -> None:
        super().guard()
        if self.guards == self.late_at:
            raise TimedOut("the deadline has passed")


@pytest.mark.slow
@pytest.mark.parametrize("ending", [Cancelled, TimedOut])
def test_an_import_that_is_given_up_at_any_changing_call_leaves_nothing(lab, images, ending):
    count = guards_of(lab, images["streamOptimized"])
    files, machines = lab.eyes.files(), len(lab.eyes.machines())
    for n in range(1, count + 1):
        call = OutOfTime(clock=lab.call().clock, cluster="lab-cluster", cancel_at=n if ending is Cancelled else None)
        call.late_at = n if ending is TimedOut else 0
        with pytest.raises(ending):
            lab.driver.create(call, request(lab, images["streamOptimized"]))
        assert (lab.eyes.files(), len(lab.eyes.machines())) == (files, machines), f"given up at {n} of {count}"


def test_a_revoked_import_sends_nothing_more_and_undoes_nothing(lab, proxy, driver, images):
    with pytest.raises(Revoked):
        driver.create(lab.call(revoke_at=2), request(lab, images["streamOptimized"]))
    assert (proxy.seen["ImportVApp"], proxy.seen["HttpNfcLeaseAbort"], proxy.seen["Destroy_Task"]) == (1, 0, 0)


@pytest.mark.parametrize(("method", "after"), [("POST", False), ("ImportVApp", True), ("HttpNfcLeaseComplete", True)])
def test_a_transfer_that_breaks_off_is_made_anew_and_makes_one_machine(lab, proxy, driver, images, raw, method, after):
    proxy.break_off(method, after=after)
    wanted = request(lab, images["streamOptimized"])
    assert driver.create(lab.call(), wanted).power_state is PowerState.RUNNING
    assert len([one for one in lab.eyes.machines() if one.name == wanted.spec.name]) == 1
    assert made.stored(sent(proxy)[-1]) == raw


def test_a_machine_that_an_abandoned_lease_still_holds_is_waited_for(lab, proxy, driver, images):
    wanted, call = request(lab, images["streamOptimized"]), lab.call(crash_at=3)
    lab.killed("create", call, wanted)
    proxy.refuse("Destroy_Task", "InvalidState", times=2)
    again = call.again()
    assert driver.create(again, wanted).power_state is PowerState.RUNNING
    assert proxy.seen["Destroy_Task"] == 3
    assert any("earlier attempt" in stage for _, stage in again.progressed)


def by_its_host(proxy, thumbprint: str = "") -> None:
    """The disk is to be sent to a host that has a certificate of its own: the simulator, past the proxy."""
    host = f"https://{proxy.vcenter.host}:{proxy.vcenter.port}/nfc".encode()
    named = f"<sslThumbprint>{thumbprint}</sslThumbprint>".encode()

    def moved(answer: bytes) -> bytes:
        return re.sub(rb"<sslThumbprint>[^<]*</sslThumbprint>", named, answer.replace(b"https://*/nfc", host))

    proxy.rules.append(_proxies.Rule("RetrievePropertiesEx", after=moved, times=-1, contains=b"HttpNfcLease"))


def test_a_host_whose_certificate_no_known_authority_signed_gets_nothing(lab, proxy, driver, images):
    machines = len(lab.eyes.machines())
    by_its_host(proxy)
    with pytest.raises(HypervisorRefused, match="ca_file has to hold"):
        driver.create(lab.call(), request(lab, images["streamOptimized"]))
    assert (proxy.seen["ImportVApp"], len(lab.eyes.machines())) == (1, machines)


def test_where_vcenter_is_known_by_its_thumbprint_its_hosts_are_by_what_it_says_of_them(lab, proxy, images):
    def digest(pem: str, algorithm: str) -> str:
        return hashlib.new(algorithm, ssl.PEM_cert_to_DER_cert(Path(pem).read_text())).hexdigest()

    pinned = lab.another_driver(port=proxy.port, ca_file="", thumbprint=digest(proxy.certificate, "sha256"))
    theirs = hashlib.sha1(_certificate_of(lab.vcenter), usedforsecurity=False).hexdigest().upper()
    by_its_host(proxy, ":".join(theirs[at : at + 2] for at in range(0, 40, 2)))
    made_of = request(lab, images["streamOptimized"])
    assert pinned.create(lab.call(), made_of).power_state is PowerState.RUNNING
    proxy.rules.clear()
    by_its_host(proxy, 20 * "AB")
    with pytest.raises(HypervisorRefused, match="thumbprint"):
        pinned.create(lab.call(), request(lab, images["streamOptimized"]))
    proxy.rules.clear()
    by_its_host(proxy)
    with pytest.raises(HypervisorRefused, match="names no thumbprint"):
        pinned.create(lab.call(), request(lab, images["streamOptimized"]))


def _certificate_of(vcenter: Any) -> bytes:
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((vcenter.host, vcenter.port), ca_certs=vcenter.ca_file))


def test_an_import_that_has_begun_and_shows_no_machine_yet_is_waited_for(lab, proxy, driver, images):
    wanted, call = request(lab, images["streamOptimized"]), lab.call()
    looks = _proxies.Rule("RetrievePropertiesEx", after=_all_importing, times=3, contains=b"info.descriptionId")
    proxy.rules.append(looks)
    again = lab.call(operation=call.operation, attempt=2)
    assert driver.create(again, wanted).power_state is PowerState.RUNNING
    assert sum("may have begun an import" in stage for _, stage in again.progressed) == 2
    assert proxy.seen["ImportVApp"] == 1


def _all_importing(answer: bytes) -> bytes:
    """Every task is an import of somebody, and runs."""
    named = re.sub(rb"(<name>info.descriptionId</name><val [^>]*>)[^<]*", rb"\g<1>ResourcePool.ImportVAppLRO", answer)
    return named.replace(b">success</val>", b">running</val>")


def test_a_lease_that_ends_in_an_error_is_no_machine(lab, proxy, driver, images):
    machines = len(lab.eyes.machines())
    proxy.rewrite("RetrievePropertiesEx", b">ready<", b">error<", contains=b"HttpNfcLease")
    with pytest.raises(HypervisorRefused, match="the import has ended"):
        driver.create(lab.call(), request(lab, images["streamOptimized"]))
    assert len(lab.eyes.machines()) == machines


def test_a_session_that_ends_during_a_transfer_takes_the_lease_along_and_the_machine_is_made_anew(
    lab, proxy, driver, images
):
    machines = len(lab.eyes.machines())
    proxy.refuse("HttpNfcLeaseProgress", "NotAuthenticated")
    assert driver.create(lab.call(), request(lab, images["streamOptimized"])).power_state is PowerState.RUNNING
    assert (proxy.seen["ImportVApp"], len(lab.eyes.machines())) == (2, machines + 1)


def test_an_image_that_is_not_there_is_unavailable_before_anything_is_asked(lab, proxy, driver, images):
    wanted = request(lab, images["ova"])
    (lab.images / "disk.img").unlink()
    with pytest.raises(ImageUnavailable):
        driver.create(lab.call(), wanted)
    assert proxy.seen["ImportVApp"] == 0


def test_a_vcenter_that_does_not_come_back_parks_the_import(lab, proxy, driver, images):
    proxy.break_off("POST", after=False, times=-1)
    with pytest.raises(OutcomeUnknown, match="create"):
        driver.create(lab.call(), request(lab, images["streamOptimized"]))
