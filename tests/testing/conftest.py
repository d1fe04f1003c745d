from __future__ import annotations

import pytest
from testing.scenarios import STORAGE

from federation.testing.clock import ManualClock
from federation.testing.faults import FaultControl
from federation.testing.hypervisor.log import HypervisorControl
from federation.testing.hypervisor.settings import SimulatedSettings
from federation.testing.simulated import SimulatedDriver


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def open_driver(tmp_path, clock):
    """Opens workers' drivers of one hypervisor, on one manual clock; ``where`` names another hypervisor."""
    drivers = []

    def opening(where="state", cluster="test", **settings):
        settings.setdefault("state_directory", str(tmp_path / where))
        driver = SimulatedDriver(SimulatedSettings(**STORAGE | settings), cluster, clock)
        drivers.append(driver)
        return driver

    yield opening
    for driver in drivers:
        driver.close()


@pytest.fixture
def driver(open_driver):
    return open_driver()


@pytest.fixture
def control(tmp_path, driver):
    control = HypervisorControl(tmp_path / "state")
    yield control
    control.close()


@pytest.fixture
def faults(tmp_path, clock):
    control = FaultControl(tmp_path / "state", clock)
    yield control
    control.close()
