"""Worlds and workers that end with the test."""

import pytest
from worker.world import Runner, World


@pytest.fixture
def world():
    made = World()
    yield made
    made.io.close()


@pytest.fixture
def run():
    """Start a worker; it is stopped at the end of the test if it still runs."""
    runners = []

    def running(worker):
        runner = Runner(worker)
        runners.append(runner)
        return runner

    yield running
    for runner in runners:
        runner.worker.stop("the test ends")
        runner.ended()
