"""The driver passes the conformance kit on real QEMU."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from federation.conformance.suite import *  # noqa: F403 (every case of the kit)

pytestmark = [pytest.mark.kit, pytest.mark.libvirt, pytest.mark.slow, pytest.mark.timeout(900)]

_spec = importlib.util.spec_from_file_location("kit_target", Path(__file__).with_name("kit_target.py"))
_kit: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_kit)


@pytest.fixture(scope="session")
def conformance_target(libvirt_hosts, guest_image, bare_guest_image):
    target = _kit.make_target(libvirt_hosts, guest_image, bare_guest_image, f"kit-{os.getpid()}")
    try:
        _kit.prepare(target)
        yield target
    finally:
        _kit.remove(target)
