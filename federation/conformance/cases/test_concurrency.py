"""Many instances at once: in one worker, and on two."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from federation.conformance.asking import creation
from federation.conformance.bench import Bench, Subject
from federation.conformance.expecting import shows
from federation.conformance.process import DriverProcess
from federation.conformance.trying import require
from federation.contract.capabilities import Capability

Chain = list[tuple[str, Callable[[Bench, Subject], dict[str, Any]]]]


def _this(**more: Any) -> Callable[[Bench, Subject], dict[str, Any]]:
    return lambda _bench, subject: {"instance": subject.instance} | more


def _resize(bench: Bench, subject: Subject) -> dict[str, Any]:
    given = bench.target.conformance
    return {
        "instance": subject.instance,
        "flavour": {"vcpus": given.vcpus + 1, "memory_bytes": given.resized_memory_bytes},
    }


_RUN: Chain = [("create", creation())]
_STOP: Chain = [("create", creation(start=False))]
CHAINS: dict[str, tuple[Chain, str, frozenset[Capability]]] = {
    "create": (_RUN, "running", frozenset()),
    "power": ([*_STOP, ("power_on", _this()), ("power_off", _this(mode="hard"))], "stopped", frozenset()),
    "pause": ([*_RUN, ("pause", _this()), ("unpause", _this())], "running", frozenset({Capability.PAUSE})),
    "suspend": ([*_RUN, ("suspend", _this()), ("resume", _this())], "running", frozenset({Capability.SUSPEND})),
    "reboot": ([*_RUN, ("reboot", _this(mode="hard"))], "running", frozenset({Capability.REBOOT})),
    "resize": ([*_STOP, ("resize", _resize), ("power_on", _this())], "running", frozenset({Capability.RESIZE})),
}


def _carry_out(bench: Bench, process: DriverProcess, subject: Subject, chain: Chain) -> None:
    for name, ask in chain:
        process.run(name, ask(bench, subject)).result()


def _all_at_once(bench: Bench, chain: Chain, processes: list[DriverProcess]) -> list[Subject]:
    count = bench.target.conformance.side_by_side
    subjects = [bench.subject(number) for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        running = [
            pool.submit(_carry_out, bench, processes[number % len(processes)], subject, chain)
            for number, subject in enumerate(subjects)
        ]
        for one in running:
            one.result()
    return subjects


@pytest.mark.clause("DRV-3")
@pytest.mark.parametrize("chain", CHAINS)
def test_many_instances_at_once_in_one_worker_end_as_one_does(bench: Bench, chain: str) -> None:
    """Threads of one driver, each with an instance of its own."""
    operations, state, flags = CHAINS[chain]
    require(bench, flags)
    for subject in _all_at_once(bench, operations, [bench.crew]):
        found = bench.succeed("get_instance", {"instance": subject.instance})
        shows(power_state=state, name=subject.name)(bench, subject, found)


@pytest.mark.clause("DRV-3")
@pytest.mark.parametrize("chain", ["create", "power"])
def test_many_instances_at_once_on_two_workers_end_as_one_does(bench: Bench, chain: str) -> None:
    """Two processes share the cluster, and what they keep there for all (cached images) does not get in their way."""
    operations, state, flags = CHAINS[chain]
    require(bench, flags)
    with bench.another_process() as other:
        for subject in _all_at_once(bench, operations, [bench.crew, other]):
            assert bench.succeed("get_instance", {"instance": subject.instance})["power_state"] == state


@pytest.mark.clause("DRV-3", "CON-1")
def test_many_instances_are_destroyed_at_once(bench: Bench) -> None:
    """Nothing is left of any of them."""
    chain: Chain = [*_RUN, ("destroy", _this())]
    for subject in _all_at_once(bench, chain, [bench.crew]):
        assert bench.observer.look(subject.instance) is None


@pytest.mark.clause("DRV-3")
def test_queries_are_answered_while_operations_run(bench: Bench) -> None:
    """Reads beside changes, from the same driver."""
    with ThreadPoolExecutor(2) as pool:
        changing = pool.submit(_all_at_once, bench, CHAINS["create"][0], [bench.crew])
        while not changing.done():
            bench.succeed("list_instances", {"limit": 1000})
            bench.succeed("list_nodes", {})
        changing.result()
