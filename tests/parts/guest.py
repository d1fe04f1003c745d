"""A small real Linux guest: Debian's cloud kernel with a busybox initramfs, to boot directly or from a disk image.

It boots in seconds under emulation, tells on its serial console what it finds (`FEDERATION-GUEST ready …`, its disks,
interfaces and NoCloud data), beats once a second, tells when a disk or interface comes, grows or goes, answers a line with `heard …`, and obeys the power button.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from parts.debian import download, install
from parts.initramfs import Entry, console, folder, pack, program
from parts.processes import run
from parts.state import PartMissingError, cache_folder, locked, read_facts, write_facts

HERE = Path(__file__).resolve().parent
KERNEL_PACKAGE = "linux-image-cloud-amd64"
AGENT_PACKAGE = "qemu-guest-agent"
# QEMU is here for the libraries that the agent shares with it.
PACKAGES = ("busybox-static", "syslinux", "mtools", "kmod", "qemu-utils", "qemu-system-x86")
MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_scsi",
    "virtio_console",
    "sd_mod",
    "sr_mod",
    "ata_piix",
    "ahci",
    "isofs",
    "button",
    "evdev",
    "virtio_balloon",
)
COMMAND_LINE = "console=ttyS0 panic=1"
IMAGE_BYTES = 64 * 1024 * 1024
BOOT_MENU = (
    f"DEFAULT guest\nPROMPT 0\nLABEL guest\n  KERNEL vmlinuz\n  INITRD initrd.gz\n  APPEND {COMMAND_LINE} quiet\n"
)


class Guest:
    """The guest's files, made once and named after what they are made of."""

    def __init__(self) -> None:
        """Take the guest of the cache, made or not."""
        self.folder = cache_folder() / f"guest-{_digest_of_sources()}"

    def install(self) -> None:
        """Install the programs that make the guest."""
        install(*PACKAGES)

    def start(self) -> None:
        """Make the files if they are not there."""
        with locked(cache_folder() / "guest.lock"):
            if not read_facts(self.folder):
                self.install()
                self.folder.mkdir(exist_ok=True)
                with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="guest.") as scratch:
                    facts = self._make(Path(scratch))
                write_facts(self.folder, facts)

    def stop(self) -> None:
        """Nothing runs; the files stay for the next time."""

    def status(self) -> dict[str, Any]:
        """Paths and checksums (SHA-256) of kernel, initramfs and disk image."""
        facts = read_facts(self.folder)
        return {"part": "guest", "running": bool(facts), **facts}

    def env(self) -> dict[str, str]:
        """Shell variables that name the files."""
        facts = read_facts(self.folder)
        return {f"FEDERATION_TEST_GUEST_{name.upper()}": facts[name] for name in ("kernel", "initrd", "image")}

    def _make(self, scratch: Path) -> dict[str, Any]:
        unpacked = scratch / "kernel"
        run(["dpkg-deb", "-x", str(download(_kernel_package(), scratch)), str(unpacked)])
        if not (unpacked / "lib").exists():  # since Debian 13 the package has usr/lib only
            (unpacked / "lib").symlink_to("usr/lib")
        release = next((unpacked / "lib/modules").iterdir()).name
        kernel, initrd, image = (self.folder / name for name in ("vmlinuz", "initrd.gz", "guest.qcow2"))
        shutil.copyfile(unpacked / "boot" / f"vmlinuz-{release}", kernel)
        agent = scratch / "agent"
        run(["dpkg-deb", "-x", str(download(AGENT_PACKAGE, scratch)), str(agent)])
        initrd.write_bytes(pack([*_initramfs(unpacked, release), *_agent(agent / "usr/sbin/qemu-ga")]))
        _make_image(scratch, kernel, initrd, image)
        facts: dict[str, Any] = {"release": release, "cmdline": COMMAND_LINE, "image_format": "qcow2"}
        facts |= {"ready_line": "FEDERATION-GUEST ready", "memory_bytes": 128 * 1024 * 1024}
        for path in (kernel, initrd, image):
            path.chmod(0o644)
            name = {kernel: "kernel", initrd: "initrd"}.get(path, "image")
            facts |= {name: str(path), f"{name}_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        return facts


def _digest_of_sources() -> str:
    sources = ("guest.py", "guest_init.sh", "guest_power_button.sh", "guest_chpasswd.sh", "initramfs.py")
    return hashlib.sha256(b"".join((HERE / name).read_bytes() for name in sources)).hexdigest()[:12]


def _kernel_package() -> str:
    """The real package behind Debian's metapackage."""
    depends = run(["apt-cache", "depends", KERNEL_PACKAGE])
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        run(["apt-get", "-q", "update"])
        found = re.search(r"Depends: (linux-image-\S+)", run(["apt-cache", "depends", KERNEL_PACKAGE]))
    if found is None:
        raise PartMissingError(f"the archive has no {KERNEL_PACKAGE}")
    return found[1]


def _initramfs(unpacked: Path, release: str) -> list[Entry]:
    folders = [folder(name) for name in ("bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "modules")]
    modules = _modules_in_order(unpacked, release)
    order = "".join(f"/modules/{path.name}\n" for path in modules)
    return [
        *folders,
        console(),
        program("bin/busybox", Path("/bin/busybox").read_bytes()),
        program("init", (HERE / "guest_init.sh").read_bytes()),
        program("etc/acpi/PWRF/00000080", (HERE / "guest_power_button.sh").read_bytes()),
        program("modules.order", order.encode()),
        *[program(f"modules/{path.name}", path.read_bytes()) for path in modules],
    ]


def _agent(binary: Path) -> list[Entry]:
    """QEMU's guest agent with the libraries that it needs, as this machine has them."""
    linked = run(["ldd", str(binary)])
    if "not found" in linked:
        raise PartMissingError(f"libraries of {AGENT_PACKAGE} are missing:\n{linked}")
    libraries = re.findall(r"(?:=> )?(/\S+) \(0x", linked)
    folders = sorted({str(parent) for path in libraries for parent in Path(path).parents if str(parent) != "/"})
    return [
        *[folder(path.lstrip("/")) for path in folders],
        program("bin/qemu-ga", binary.read_bytes()),
        program("bin/chpasswd", (HERE / "guest_chpasswd.sh").read_bytes()),
        *[program(path.lstrip("/"), Path(path).read_bytes()) for path in libraries],
    ]


def _modules_in_order(unpacked: Path, release: str) -> list[Path]:
    """The modules that the guest loads, each after those it depends on."""
    run(["depmod", "-b", str(unpacked), release])
    base = unpacked / "lib/modules" / release
    depends: dict[str, list[str]] = {}
    for line in (base / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
    by_name = {Path(path).name.split(".")[0].replace("-", "_"): path for path in depends}
    ordered: list[str] = []
    for name in MODULES:
        if name in by_name:  # absent: built into this kernel
            # depmod lists what a module needs from the nearest to the farthest.
            ordered += [path for path in [*reversed(depends[by_name[name]]), by_name[name]] if path not in ordered]
    return [base / path for path in ordered]


def _make_image(scratch: Path, kernel: Path, initrd: Path, image: Path) -> None:
    """A disk that a BIOS boots: one FAT file system without partitions, and SYSLINUX on it. No root, no loop device."""
    raw = scratch / "guest.raw"
    with raw.open("wb") as handle:
        handle.truncate(IMAGE_BYTES)
    menu = scratch / "syslinux.cfg"
    menu.write_text(BOOT_MENU)
    env = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    run(
        ["mformat", "-i", str(raw), "-v", "GUEST", "-h", "16", "-s", "63", "-T", str(IMAGE_BYTES // 512), "::"], env=env
    )
    run(["mcopy", "-i", str(raw), str(kernel), str(initrd), str(menu), "::"], env=env)
    run(["syslinux", "--install", str(raw)], env=env)
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", str(raw), str(image)])
