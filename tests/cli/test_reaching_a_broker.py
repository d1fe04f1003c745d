"""A command waits for the broker as long as it was told, and no longer."""

import time

import pytest

from federation.bootstrap.client import ManagerClient
from federation.bootstrap.examining import examine_broker
from federation.bus.errors import BusUnavailable

NOBODY = "federation://me:hidden@127.0.0.1:1/"
TOLD_SECONDS = 0.5
FAR_BELOW_THE_DEFAULT = 5.0


@pytest.mark.parametrize("reach", [ManagerClient, examine_broker])
def test_a_broker_that_is_not_there_is_given_up_in_time(reach):
    started = time.monotonic()
    with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1:1"):
        reach(NOBODY, TOLD_SECONDS)
    assert time.monotonic() - started < FAR_BELOW_THE_DEFAULT
