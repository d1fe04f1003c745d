"""Bad input ends with an error of the catalogue and leaves nothing behind on the hypervisor."""

from __future__ import annotations

import hashlib
import http.server
import threading
import uuid

import msgspec
import pytest

from federation.contract import requests as r
from federation.contract.errors import (
    AlreadyExists,
    HypervisorRefused,
    HypervisorUnreachable,
    ImageRejected,
    ImageUnavailable,
    InsufficientResources,
    InvalidRequest,
    NotFound,
    NotSupported,
)
from federation.contract.instances import (
    BootTemplate,
    DataDisk,
    Firmware,
    Flavour,
    GuestSetup,
    ImageFormat,
    Interface,
)

MEBIBYTE = 1 << 20
NONE_SUCH = "sha256:" + "0" * 64


def flavour(**changes) -> Flavour:
    return Flavour(**{"vcpus": 1, "memory_bytes": 128 * MEBIBYTE, **changes})


BAD_SPECS = {
    "an unknown image": (
        lambda lab: {"boot": lab.image(url=lab.image().url + ".none")},
        ImageUnavailable,
        "no such file",
    ),
    "an image outside the allowed directories": (
        lambda lab: {"boot": lab.image(url="file:///etc/passwd")},
        InvalidRequest,
        "directory is not allowed",
    ),
    "a scheme that is not allowed": (
        lambda lab: {"boot": lab.image(url="https://127.0.0.1/image")},
        InvalidRequest,
        "scheme https is not allowed",
    ),
    "a host that is not allowed": (
        lambda lab: {"boot": lab.image(url="http://192.0.2.1/image")},
        InvalidRequest,
        r"host 192\.0\.2\.1 is not allowed",
    ),
    "a wrong checksum": (lambda lab: {"boot": lab.image(checksum=NONE_SUCH)}, ImageRejected, "sha256 is"),
    "a wrong kernel checksum": (
        lambda lab: {"boot": msgspec.structs.replace(lab.kernel(), initrd_checksum=NONE_SUCH)},
        ImageRejected,
        "sha256 is",
    ),
    "a wrong format": (
        lambda lab: {"boot": lab.image(format=ImageFormat.RAW)},
        ImageRejected,
        "format is qcow2, the request says raw",
    ),
    "a format that is not supported": (
        lambda lab: {"boot": lab.image(format=ImageFormat.VMDK)},
        NotSupported,
        "supported: qcow2, raw",
    ),
    "a root disk smaller than the image": (
        lambda lab: {"boot": lab.image(size_bytes=MEBIBYTE)},
        ImageRejected,
        f"the request says {MEBIBYTE}",
    ),
    "a root disk larger than the pool": (
        lambda lab: {"boot": lab.image(size_bytes=1 << 50)},
        InsufficientResources,
        str(1 << 50),
    ),
    "a data disk larger than the pool": (
        lambda lab: {"data_disks": (DataDisk(size_bytes=1 << 50),)},
        InsufficientResources,
        str(1 << 50),
    ),
    "more memory than the node has": (
        lambda lab: {"flavour": flavour(memory_bytes=1 << 45)},
        InsufficientResources,
        rf"{1 << 45} bytes of memory asked for, the node offers \d+",
    ),
    "more processors than the node offers": (
        lambda lab: {"flavour": flavour(vcpus=4096)},
        InsufficientResources,
        "4096 processors asked for",
    ),
    "a template that is not there": (
        lambda lab: {"boot": BootTemplate(template="golden")},
        ImageUnavailable,
        "no template golden",
    ),
    "UEFI firmware": (lambda lab: {"flavour": flavour(firmware=Firmware.UEFI)}, NotSupported, "uefi"),
    "a network that is not there": (
        lambda lab: {"interfaces": (Interface(network="nowhere"),)},
        InvalidRequest,
        "network 'nowhere' is not there",
    ),
    "a node that is not there": (lambda lab: {"node": "nowhere"}, NotFound, "nowhere"),
    "no node in a cluster of two": (lambda lab: {"node": None}, InvalidRequest, "node is not set"),
    "an SSH key of two lines": (
        lambda lab: {"guest": GuestSetup(ssh_keys=("ssh-rsa AAAA\nssh-rsa BBBB",))},
        InvalidRequest,
        r"ssh_keys\[0\]",
    ),
    "a command line that XML cannot carry": (
        lambda lab: {"boot": msgspec.structs.replace(lab.kernel(), command_line="quiet \x07")},
        InvalidRequest,
        r"U\+0007",
    ),
    "an extension that is not XML": (
        lambda lab: {"extensions": {"libvirt": {"xml": "<domain><cpu"}}},
        InvalidRequest,
        "not well-formed",
    ),
    "an extension that may not be given": (
        lambda lab: {"extensions": {"libvirt": {"xml": "<domain><devices><disk/></devices></domain>"}}},
        InvalidRequest,
        "<disk>",
    ),
    "an extension that libvirt's schema refuses": (
        lambda lab: {"extensions": {"libvirt": {"xml": "<domain><clock offset='bogus'/></domain>"}}},
        InvalidRequest,
        "clock|schema|validate",
    ),
    "an extension that libvirt cannot do": (
        lambda lab: {
            "extensions": {"libvirt": {"xml": "<domain><cpu mode='custom'><model>z80</model></cpu></domain>"}}
        },
        HypervisorRefused,
        "Unknown CPU model z80",
    ),
    "a machine type that QEMU does not have": (
        lambda lab: {"extensions": {"libvirt": {"machine": "pdp11"}}},
        InvalidRequest,
        "'pdp11' is not known to the node; it knows: .*q35",
    ),
    "an extension that QEMU refuses at the start": (
        lambda lab: {"extensions": {"libvirt": {"xml": "<domain><cpu mode='host-passthrough'/></domain>"}}},
        (NotSupported, InvalidRequest),
        "host-passthrough|CPU mode",
    ),
}


@pytest.mark.parametrize("case", BAD_SPECS)
def test_create_refuses_and_leaves_nothing_behind_for(lab, case):
    lab.forget_cache()
    changes, error, words = BAD_SPECS[case]
    before = lab.inventory()
    request = r.Create(instance=str(uuid.uuid4()), spec=lab.spec(**changes(lab)))
    call = lab.call()
    with pytest.raises(error, match=words):
        lab.driver.create(call, request)
    left = lab.inventory()
    for found in left["host0"], left["host1"]:
        # A file that was fetched and proved right stays in the cache: that is what the cache is for.
        found["pools"]["lab"] = [name for name in found["pools"]["lab"] if not name.startswith("cached-")]
    left["host0 files"] = [path for path in left["host0 files"] if "/cached-" not in path]
    assert left == before


@pytest.mark.parametrize("case", ["an unknown image", "a wrong checksum", "more memory than the node has"])
def test_a_refused_create_is_refused_again_when_it_recovers_and_still_leaves_nothing(lab, case):
    lab.forget_cache()
    changes, error, _ = BAD_SPECS[case]
    before = lab.inventory()
    request = r.Create(instance=str(uuid.uuid4()), spec=lab.spec(**changes(lab)))
    call = lab.call()
    with pytest.raises(error):
        lab.driver.create(call, request)
    with pytest.raises(error):
        lab.another_driver().create(call.again(), request)
    assert lab.inventory() == before


def test_a_name_or_an_id_that_is_taken_anywhere_on_the_cluster_is_refused_and_its_holder_untouched(lab):
    holder = lab.create(start=False)
    before = lab.inventory()
    for spec in (lab.spec(name=holder.name), lab.spec(name=holder.name, node=lab.nodes[1])):
        with pytest.raises(AlreadyExists, match=holder.name):
            lab.create(spec)
    for node in lab.nodes:
        with pytest.raises(AlreadyExists, match=holder.id):
            lab.driver.create(lab.call(), r.Create(instance=holder.id, spec=lab.spec(node=node)))
    assert lab.inventory() == before


def test_memory_that_running_machines_have_taken_is_not_given_again(lab):
    total = lab.driver.list_nodes(lab.call(), r.ListNodes()).nodes[0].memory_bytes_total
    tight = lab.another_driver(reserved_memory_bytes=total + lab.settings.reserved_memory_bytes - 200 * MEBIBYTE)
    first = tight.create(lab.call(), r.Create(instance=str(uuid.uuid4()), spec=lab.spec()))
    before = lab.inventory()
    with pytest.raises(InsufficientResources, match=rf"{128 * MEBIBYTE} bytes .*, {72 * MEBIBYTE} are free"):
        tight.create(lab.call(), r.Create(instance=str(uuid.uuid4()), spec=lab.spec()))
    assert lab.inventory() == before
    stopped = tight.create(lab.call(), r.Create(instance=str(uuid.uuid4()), spec=lab.spec(), start=False))
    with pytest.raises(InsufficientResources):
        tight.power_on(lab.call(), r.PowerOn(instance=stopped.id))
    tight.power_off(lab.call(), r.PowerOff(instance=first.id))
    tight.power_on(lab.call(), r.PowerOn(instance=stopped.id))


def test_a_host_that_is_down_is_unreachable_at_once_and_nothing_is_touched(lab):
    broken = lab.another_driver(hosts={"host0": "qemu+unix:///system?socket=/nonexistent/libvirt-sock"})
    call = lab.call()
    with pytest.raises(HypervisorUnreachable, match="host0: connect"):
        broken.create(call, r.Create(instance=str(uuid.uuid4()), spec=lab.spec()))
    assert call.guards == 0


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers by path; what it announces and what it sends may differ."""

    content = b""

    def do_GET(self):
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://192.0.2.7/image")
            self.end_headers()
            return
        if self.path == "/sesame":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        if self.path == "/broken":
            self.send_response(503)
            self.end_headers()
            return
        self.send_response(200)
        if self.path != "/unannounced":
            self.send_header("Content-Length", str(len(self.content) + (1 if self.path == "/short" else 0)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture
def web():
    handler = type("Handler", (_Server,), {"content": b"\0" * (3 * MEBIBYTE + 17)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", hashlib.sha256(handler.content).hexdigest()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/image", "/unannounced"])
def test_an_image_comes_over_http_once_and_serves_two_instances(lab, web, path):
    lab.forget_cache()
    url, digest = web
    boot = lab.image(url=url + path, checksum=f"sha256:{digest}", format=ImageFormat.RAW)
    first = lab.create(lab.spec(boot), start=False)
    assert first.disks[0].size_bytes == 3 * MEBIBYTE + 512
    cached = [name for name in lab.inventory()["host0"]["pools"]["lab"] if name.startswith("cached-")]
    lab.create(lab.spec(boot), start=False)
    assert [n for n in lab.inventory()["host0"]["pools"]["lab"] if n.startswith("cached-")] == cached
    assert len(cached) == 2


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("/away", InvalidRequest, r"host 192\.0\.2\.7 is not allowed"),
        ("/sesame", ImageUnavailable, "Redirection to url .* is not allowed"),
        ("/broken", ImageUnavailable, "503"),
        ("/short", ImageUnavailable, "connection ended after"),
    ],
)
def test_a_server_that_misbehaves_leaves_nothing_behind(lab, web, path, error, words):
    lab.forget_cache()
    url, digest = web
    before = lab.inventory()
    with pytest.raises(error, match=words):
        lab.create(lab.spec(lab.image(url=url + path, checksum=f"sha256:{digest}", format=ImageFormat.RAW)))
    assert lab.inventory() == before


def test_an_image_larger_than_allowed_is_refused(lab, web):
    url, digest = web
    small = lab.another_driver(images=msgspec.structs.replace(lab.settings.images, max_bytes=MEBIBYTE))
    for path in ("/image", "/unannounced"):
        boot = lab.image(url=url + path, checksum=f"sha256:{digest}", format=ImageFormat.RAW)
        before = lab.inventory()
        with pytest.raises(ImageRejected, match=f"at most {MEBIBYTE}"):
            small.create(lab.call(), r.Create(instance=str(uuid.uuid4()), spec=lab.spec(boot)))
        assert lab.inventory() == before
