"""What a link makes of answers that libvirt does not explain."""

from __future__ import annotations

import libvirt
import pytest

from federation.contract.errors import HypervisorUnreachable
from federation.testing.calls import RecordedCall
from federation_libvirt.attempt import Attempt
from federation_libvirt.connection import Link, start_event_loop
from federation_libvirt.settings import Timeouts


@pytest.fixture
def link(breakable_libvirt_hosts):
    start_event_loop()
    link = Link("node", next(iter(breakable_libvirt_hosts.uris.values())), Timeouts())
    yield link
    link.close()


class Unexplained:
    """Fails ``times`` times as libvirt-python does when the library has kept no error, then answers."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.connections: list[object] = []

    def __call__(self, native: object) -> str:
        self.connections.append(native)
        if self.left:
            self.left -= 1
            raise libvirt.libvirtError("virDomainLookupByName() failed")
        return native.getType()


def test_a_question_is_asked_again_on_a_new_connection(link):
    ask = Unexplained(1)
    assert link.read("ask", ask) == "QEMU"
    first, second = ask.connections
    assert first is not second


def test_a_question_that_is_never_explained_says_so(link):
    with pytest.raises(HypervisorUnreachable, match=r"node: ask: virDomainLookupByName\(\) failed; .*no reason"):
        link.read("ask", Unexplained(2))


def test_a_change_that_is_not_explained_may_have_been_made(link):
    with pytest.raises(HypervisorUnreachable, match="no reason"):
        link.change(Attempt(RecordedCall()), "change it", Unexplained(1))
