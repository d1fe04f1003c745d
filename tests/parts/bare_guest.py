"""The smallest guest: one boot sector that says it is ready, obeys the power button and lets go of devices.

It is up as soon as its firmware is, and sleeps then, so that a machine costs next to nothing under emulation. For what
needs no operating system; it has no agent, no memory that matters and no file systems. It knows the registers of QEMU's
``q35``.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from parts.debian import install
from parts.processes import run
from parts.state import cache_folder, locked, read_facts, write_facts

HERE = Path(__file__).resolve().parent
PACKAGES = ("binutils", "qemu-utils")
IMAGE_BYTES = 1024 * 1024
LOADED_AT = "0x7c00"


class BareGuest:
    """The guest's disk image, made once and named after what it is made of."""

    def __init__(self) -> None:
        """Take the image of the cache, made or not."""
        source = (HERE / "bare_guest.S").read_bytes() + Path(__file__).read_bytes()
        self.folder = cache_folder() / f"bare-guest-{hashlib.sha256(source).hexdigest()[:12]}"

    def install(self) -> None:
        """Install the programs that make the image."""
        install(*PACKAGES)

    def start(self) -> None:
        """Make the image if it is not there."""
        with locked(cache_folder() / "bare-guest.lock"):
            if not read_facts(self.folder):
                self.install()
                self.folder.mkdir(exist_ok=True)
                with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="bare-guest.") as scratch:
                    write_facts(self.folder, self._make(Path(scratch)))

    def stop(self) -> None:
        """Nothing runs; the image stays for the next time."""

    def status(self) -> dict[str, Any]:
        """Path and checksum (SHA-256) of the disk image, and the line that the guest prints."""
        facts = read_facts(self.folder)
        return {"part": "bare-guest", "running": bool(facts), **facts}

    def env(self) -> dict[str, str]:
        """Shell variables that name the image."""
        return {"FEDERATION_TEST_BARE_GUEST_IMAGE": str(read_facts(self.folder)["image"])}

    def _make(self, scratch: Path) -> dict[str, Any]:
        assembled, linked, raw = (scratch / f"guest.{kind}" for kind in ("o", "elf", "raw"))
        run(["as", "--32", "-o", str(assembled), str(HERE / "bare_guest.S")])
        run(["ld", "-m", "elf_i386", "-Ttext", LOADED_AT, "-e", "_start", "-o", str(linked), str(assembled)])
        run(["objcopy", "-O", "binary", "-j", ".text", str(linked), str(raw)])
        with raw.open("r+b") as handle:
            handle.truncate(IMAGE_BYTES)
        made, image = scratch / "guest.qcow2", self.folder / "guest.qcow2"
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(made)])
        shutil.move(made, image)
        image.chmod(0o644)
        digest = hashlib.sha256(image.read_bytes()).hexdigest()
        return {
            "image": str(image),
            "image_sha256": digest,
            "image_format": "qcow2",
            "ready_line": "FEDERATION-GUEST ready",
        }
