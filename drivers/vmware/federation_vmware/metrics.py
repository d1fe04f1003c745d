"""get_metrics: the last twenty seconds of vCenter's statistics (QueryPerf).

vSphere keeps rates and shares, no counters: processors as the share of them that is used, memory as what the host gives.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from pyVmomi import vim

from federation.contract.errors import InvalidState
from federation.contract.instances import PowerState
from federation.contract.metrics import InstanceMetrics
from federation_vmware.connection import Session
from federation_vmware.machine import Fleet

CPU, MEMORY = "cpu.usage.average", "mem.consumed.average"
_REALTIME_SECONDS = 20
_KIB = 1024
_WHOLE = 10_000
"""vSphere counts hundredths of a percent."""


def metrics(fleet: Fleet, instance: str) -> InstanceMetrics:
    """What the instance uses now; a stopped one uses nothing that is counted."""
    machine = fleet.find(instance)
    look = machine.look()
    if look.power_state is PowerState.UNKNOWN:
        raise InvalidState(f"{instance} cannot be looked at now", power_state=look.power_state)
    at = dt.datetime.now(dt.UTC)
    if look.power_state is not PowerState.RUNNING:
        return InstanceMetrics(at=at)

    def ask(session: Session) -> Mapping[str, int]:
        manager = session.content.perfManager
        counters = {_name(one): int(one.key) for one in manager.perfCounter}
        wanted = {name: counters[name] for name in (CPU, MEMORY) if name in counters}
        spec = vim.PerformanceManager.QuerySpec(
            entity=session.bound(machine.reference),
            metricId=[vim.PerformanceManager.MetricId(counterId=key, instance="") for key in wanted.values()],
            intervalId=_REALTIME_SECONDS,
            maxSample=1,
        )
        return _last_values(manager.QueryPerf([spec]), {key: name for name, key in wanted.items()})

    return measured(fleet.connection.read(f"measure {instance}", ask), at)


def measured(values: Mapping[str, int], at: dt.datetime) -> InstanceMetrics:
    """The statistics in the contract's words and units; vSphere says -1 where it has no sample."""
    cpu, memory = values.get(CPU, -1), values.get(MEMORY, -1)
    return InstanceMetrics(
        at=at,
        cpu_fraction=min(1.0, cpu / _WHOLE) if cpu >= 0 else None,
        memory_bytes_used=memory * _KIB if memory >= 0 else None,
    )


def _last_values(answer: Any, names: Mapping[int, str]) -> dict[str, int]:
    found = {}
    for entity in answer or ():
        for series in entity.value or ():
            if series.id.counterId in names and series.value:
                found[names[series.id.counterId]] = int(series.value[-1])
    return found


def _name(counter: Any) -> str:
    return f"{counter.groupInfo.key}.{counter.nameInfo.key}.{counter.rollupType}"
