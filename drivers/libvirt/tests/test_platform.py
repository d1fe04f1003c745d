"""Which domain type a node gets."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from federation.contract.errors import HypervisorRefused
from federation_libvirt.platform import platform_of
from federation_libvirt.settings import DomainType


def capabilities(*types: str, arch: str = "x86_64") -> ET.Element:
    domains = "".join(f"<domain type='{name}'/>" for name in types)
    return ET.fromstring(
        f"<capabilities><host><cpu><arch>{arch}</arch></cpu></host><guest><os_type>hvm</os_type>"
        f"<arch name='{arch}'><machine>q35</machine><machine>virt</machine>{domains}</arch></guest>"
        f"<guest><os_type>xen</os_type><arch name='{arch}'><domain type='xen'/></arch></guest></capabilities>"
    )


@pytest.mark.parametrize(
    ("listed", "features", "arch", "expected"),
    [
        (("qemu",), {"vmx"}, "x86_64", DomainType.QEMU),
        (("qemu", "kvm"), {"vmx", "sse"}, "x86_64", DomainType.KVM),
        (("qemu", "kvm"), {"svm"}, "x86_64", DomainType.KVM),
        (("qemu", "kvm"), {"sse"}, "x86_64", DomainType.QEMU),
        (("qemu", "kvm"), set(), "aarch64", DomainType.KVM),
    ],
)
def test_auto_takes_kvm_only_where_it_is_plausible(listed, features, arch, expected):
    found = platform_of(capabilities(*listed, arch=arch), frozenset(features), DomainType.AUTO, "")
    assert (found.domain_type, found.architecture) == (expected, arch)
    assert found.machine == ("q35" if arch == "x86_64" else "virt")
    assert found.machines == {"q35", "virt"}


def test_a_type_that_the_operator_sets_is_taken_or_refused_with_what_there_is():
    kvm = platform_of(capabilities("qemu", "kvm"), frozenset(), DomainType.KVM, "pc")
    assert (kvm.domain_type, kvm.machine) == (DomainType.KVM, "pc")
    with pytest.raises(HypervisorRefused, match="type kvm for x86_64; it lists: qemu"):
        platform_of(capabilities("qemu"), frozenset(), DomainType.KVM, "")


def test_a_machine_with_kvm_and_no_virtualisation_extension_is_emulated(lab):
    """The machine that these tests run on may be one; on any other the choice must agree with its processor."""
    flags = set(Path("/proc/cpuinfo").read_text(encoding="ascii").split())
    chosen = lab.driver._fleet.host("host0").platform().domain_type
    assert (chosen is DomainType.KVM) <= bool(flags & {"vmx", "svm"})
