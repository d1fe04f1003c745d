"""What counts as busy, for which an operation waits before it decides."""

from dataclasses import dataclass

import libvirt
import pytest

from federation_libvirt.machine import _look


@dataclass
class Answers:
    """What libvirt says of one running domain."""

    state_and_reason: tuple[int, int]
    job: int | Exception = libvirt.VIR_DOMAIN_JOB_NONE

    def isActive(self):  # noqa: N802 (libvirt's name)
        return 1

    def state(self):
        return self.state_and_reason

    def jobInfo(self):  # noqa: N802 (libvirt's name)
        if isinstance(self.job, Exception):
            raise self.job
        return [self.job]


class Refused(libvirt.libvirtError):
    """What jobInfo raises, with a code of the test's own instead of the last error of libvirt in C."""

    def __init__(self, code: int) -> None:
        super().__init__("refused")
        self.code = code

    def get_error_code(self):
        return self.code


COMING_IN = Refused(libvirt.VIR_ERR_OPERATION_UNSUPPORTED)


@pytest.mark.parametrize(
    ("answers", "busy"),
    [
        (Answers((libvirt.VIR_DOMAIN_RUNNING, 1)), False),
        (Answers((libvirt.VIR_DOMAIN_RUNNING, 1), libvirt.VIR_DOMAIN_JOB_UNBOUNDED), True),
        (Answers((libvirt.VIR_DOMAIN_RUNNING, 1), COMING_IN), True),
        (Answers((libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER)), False),
        (Answers((libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE)), True),
        (Answers((libvirt.VIR_DOMAIN_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTDOWN_USER)), True),
    ],
)
def test_a_machine_that_goes_from_one_state_to_another_is_busy(answers, busy):
    assert bool(_look(answers).busy) == busy


def test_another_refusal_to_say_what_goes_on_is_not_taken_for_a_migration():
    with pytest.raises(Refused):
        _look(Answers((libvirt.VIR_DOMAIN_RUNNING, 1), Refused(libvirt.VIR_ERR_OPERATION_FAILED)))
