"""What counts as busy, for which an operation waits before it decides."""

from dataclasses import dataclass

import libvirt
import pytest

from federation_libvirt.machine import _look


@dataclass
class Answers:
    """What libvirt says of one running domain."""

    state_and_reason: tuple[int, int]
    job: int = libvirt.VIR_DOMAIN_JOB_NONE

    def isActive(self):  # noqa: N802 (libvirt's name)
        return 1

    def state(self):
        return self.state_and_reason

    def jobInfo(self):  # noqa: N802 (libvirt's name)
        return [self.job]


@pytest.mark.parametrize(
    ("answers", "busy"),
    [
        (Answers((libvirt.VIR_DOMAIN_RUNNING, 1)), False),
        (Answers((libvirt.VIR_DOMAIN_RUNNING, 1), libvirt.VIR_DOMAIN_JOB_UNBOUNDED), True),
        (Answers((libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER)), False),
        (Answers((libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE)), True),
        (Answers((libvirt.VIR_DOMAIN_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTDOWN_USER)), True),
    ],
)
def test_a_machine_that_goes_from_one_state_to_another_is_busy(answers, busy):
    assert bool(_look(answers).busy) == busy
