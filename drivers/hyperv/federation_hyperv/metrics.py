"""get_metrics: what Msvm_SummaryInformation says of one machine.

It has the processors' load in percent and the memory that the host gives, both now.  Counters of disks and adapters would
need Hyper-V's resource metering, which changes the machine's settings, so they are left out.
"""

from __future__ import annotations

import datetime as dt

from federation.contract.metrics import InstanceMetrics
from federation_hyperv import msvm
from federation_hyperv.fleet import Fleet
from federation_hyperv.host import VSMS

PROCESSOR_LOAD, MEMORY_USAGE = 101, 103
"""RequestedInformation of GetSummaryInformation."""


def metrics(fleet: Fleet, instance: str) -> InstanceMetrics:
    """What the instance uses now; a stopped one uses nothing."""
    machine = fleet.see(instance)
    at = dt.datetime.now(dt.UTC)
    if not machine.active:
        return InstanceMetrics(at=at)
    host = machine.host
    reply = host.ask(
        host.service(VSMS), "GetSummaryInformation",
        {
            "SettingData": [msvm.setting(str(machine.parts.settings["InstanceID"]))],
            "RequestedInformation": [PROCESSOR_LOAD, MEMORY_USAGE],
        },
    )  # fmt: skip
    summary = reply.embedded("SummaryInformation")
    load, memory = summary.get("ProcessorLoad"), summary.get("MemoryUsage")
    return InstanceMetrics(
        at=at,
        cpu_fraction=None if load is None else min(1.0, max(0.0, int(load) / 100)),
        memory_bytes_used=None if memory is None else int(memory) * msvm.MIB,
    )
