"""libvirt's errors become errors of the catalogue, every one of them."""

from __future__ import annotations

import errno

import libvirt
import pytest

from federation.contract import errors as e
from federation_libvirt import connection, faults

CODES = sorted(name for name in dir(libvirt) if name.startswith("VIR_ERR_"))


@pytest.mark.parametrize("code", CODES)
def test_every_code_of_the_installed_libvirt_stands_in_the_table(code):
    assert faults.CLASS_OF[code].code in e.CATALOGUE
    error = faults.translate(code, "VIR_FROM_QEMU", None, "words", "node: start")
    assert (error.message, faults.code_of(error)) == ("node: start: words", code)


def test_no_code_stands_in_the_table_twice():
    names = [name for text in faults._TABLE.values() for name in text.split()]
    assert len(names) == len(set(names))


def test_numbers_are_named_by_the_errors_and_not_by_the_severities_that_share_them():
    assert {connection._CODES[n] for n in (0, 1, 2)} == {"VIR_ERR_OK", "VIR_ERR_INTERNAL_ERROR", "VIR_ERR_NO_MEMORY"}
    assert connection._CODES[42] == "VIR_ERR_NO_DOMAIN"
    assert connection._DOMAINS[7] == "VIR_FROM_RPC"


@pytest.mark.parametrize(
    ("code", "domain", "number", "expected"),
    [
        ("VIR_ERR_SYSTEM_ERROR", "VIR_FROM_RPC", errno.ECONNREFUSED, e.HypervisorUnreachable),
        ("VIR_ERR_SYSTEM_ERROR", "VIR_FROM_RPC", errno.EACCES, e.PermissionDenied),
        ("VIR_ERR_INTERNAL_ERROR", "VIR_FROM_RPC", None, e.HypervisorUnreachable),
        ("VIR_ERR_INTERNAL_ERROR", "VIR_FROM_QEMU", None, e.HypervisorRefused),
        ("VIR_ERR_SYSTEM_ERROR", "VIR_FROM_STORAGE", errno.ENOSPC, e.InsufficientResources),
        ("VIR_ERR_SYSTEM_ERROR", "VIR_FROM_STORAGE", errno.EIO, e.HypervisorRefused),
        ("VIR_ERR_OF_THE_FUTURE", "VIR_FROM_QEMU", None, e.HypervisorRefused),
    ],
)
def test_the_domain_and_the_errno_decide_where_the_code_does_not(code, domain, number, expected):
    assert type(faults.translate(code, domain, number, "words", "context")) is expected


def test_a_password_in_a_uri_is_blotted_out():
    words = "cannot reach qemu+libssh://root:s3cret@kvm1/system and qemu+ssh://root@kvm2/system"
    error = faults.translate("VIR_ERR_RPC", "VIR_FROM_RPC", None, words, "kvm1")
    assert error.message == "kvm1: cannot reach qemu+libssh://root:***@kvm1/system and qemu+ssh://root@kvm2/system"
