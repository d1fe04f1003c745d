"""A kit that cannot be fooled: each broken driver is caught by its case, which the good driver passes."""

import pytest

from federation.conformance.broken import BROKEN
from federation.conformance.process import Blocked

GOOD = "federation.testing.simulated:SimulatedDriver"
PATIENCE = {"state:BlocksForever": {"operation_seconds": 1.0}}
EACH = pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.driver.partition(":")[2])


def test_there_are_at_least_fifteen_each_with_its_own_fault():
    assert len({broken.driver for broken in BROKEN}) == len(BROKEN) >= 15


@EACH
def test_a_broken_driver_is_caught_by_its_case(broken, make_bench, run_case):
    bench = make_bench(broken.reference, **PATIENCE.get(broken.driver, {}))
    with pytest.raises((AssertionError, Blocked)) as caught:
        run_case(bench, broken.module, broken.case, broken.scenario, **dict(broken.parameters))
    print(f"{broken.driver}: {str(caught.value).splitlines()[0]}")


@EACH
def test_the_good_driver_passes_that_case(broken, make_bench, run_case):
    run_case(make_bench(GOOD), broken.module, broken.case, broken.scenario, **dict(broken.parameters))
