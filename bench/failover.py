"""Time to fail over: from a worker's SIGKILL to the next execution on the hypervisor, by the hypervisor's own log."""

from __future__ import annotations

import statistics
import time
from typing import Any

from broker import Broker
from rig import Rig, rig
from tables import show

from federation.manager.settings import ManagerSettings
from federation.protocol.answer_table import Limits
from federation.protocol.lease import LeaseTerms
from federation.testing.hypervisor.log import read_log

_CLUSTER = "failover"
_TERMS = LeaseTerms(lease=6.0, margin=1.0)
_LONG_SECONDS = 60.0


def measure(broker: Broker, *, quick: bool) -> dict[str, Any]:
    """Operations in flight wait for lease and margin; partitions with nothing in flight do not."""
    rounds = 2 if quick else 5
    in_flight: list[float] = []
    idle: list[float] = []
    settings = ManagerSettings(limits=Limits(terms=_TERMS), worker_timeout=10.0)
    with rig(broker, settings) as here:
        state = here.folder / "hypervisor"
        state.mkdir()
        config = {"state_directory": str(state), "delays": {"write_memory": {"mean": _LONG_SECONDS}}}
        here.make_cluster(_CLUSTER)
        here.start_workers(_CLUSTER, ("f0", "f1"), config)
        instances = here.make_instances(_CLUSTER, 16)
        for number in range(rounds):
            one, others = instances[number], instances[rounds:]
            served = _serve(here, others)
            long = here.submit("suspend", instance=one)
            here.until(lambda long=long: here.record(long.id).worker is not None, 30, "the long operation runs")
            victim = str(here.record(long.id).worker)
            killed = time.monotonic()
            here.workers.pop(victim).kill()
            after = [here.submit("reboot", instance=i) for i in others if served[i] == victim]
            here.wait(record.id for record in after)
            here.until(lambda long=long: here.record(long.id).attempt > 1, 60, "the long operation goes on")
            here.until(lambda long=long: _began(state, long.id, 2) is not None, 60, "its second attempt is seen")
            in_flight.append((_began(state, long.id, 2) or killed) - killed)
            idle += [(_began(state, record.id, 1) or killed) - killed for record in after]
            # By a new name: the old one counts as admitted until its heartbeats have been missed.
            here.start_workers(_CLUSTER, (f"f{number + 2}",), config)
    result = {
        "lease_plus_margin_seconds": _TERMS.lease + _TERMS.margin,
        "in_flight_seconds": in_flight,
        "idle_seconds_p50": statistics.median(idle),
        "idle_seconds_max": max(idle),
        "idle_operations": len(idle),
    }
    show(
        "Fail-over, seconds from SIGKILL to the next execution",
        [
            {
                "partitions": "with it in flight",
                "median": statistics.median(in_flight),
                "most": max(in_flight),
                "promised": _TERMS.lease + _TERMS.margin + 2,
            },
            {
                "partitions": "with nothing in flight",
                "median": result["idle_seconds_p50"],
                "most": result["idle_seconds_max"],
                "promised": 2.0,
            },
        ],
    )
    return result


def _serve(here: Rig, instances: list[str]) -> dict[str, str]:
    """Which worker serves each instance now."""
    records = {instance: here.submit("reboot", instance=instance) for instance in instances}
    here.wait(record.id for record in records.values())
    return {instance: str(here.record(record.id).worker) for instance, record in records.items()}


def _began(state: Any, operation: str, attempt: int) -> float | None:
    """When the hypervisor saw an attempt begin, on the machine's monotonic clock."""
    executions = read_log(state).executions
    return next((e.began for e in executions if e.operation == operation and e.attempt == attempt), None)
