"""get_metrics of the simulated driver: every counter grows with the time that the machine has run since its start."""

from __future__ import annotations

import datetime as dt

from federation.contract import requests as r
from federation.contract.instances import PowerState
from federation.contract.metrics import DiskMetrics, InstanceMetrics, InterfaceMetrics
from federation.testing.hypervisor.queries import find_machine
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.uptime import ran_seconds

BUSY = 0.25
"""Share of its processors that every running guest uses."""
_READ, _WRITTEN, _RECEIVED, _SENT = 1 << 20, 1 << 19, 1 << 16, 1 << 15
_BLOCK, _PACKET = 4096, 1024


def get_metrics(session: Session, request: r.GetMetrics) -> InstanceMetrics:
    """Counters of a machine that does not run stand at 0."""
    clock, profile = session.hypervisor.clock, session.hypervisor.settings.profile
    machine = find_machine(session, request.instance)
    ran = ran_seconds(machine, clock.monotonic())
    running = machine.power_state is PowerState.RUNNING
    return InstanceMetrics(
        at=dt.datetime.fromtimestamp(clock.wall(), dt.UTC),
        cpu_seconds=ran * BUSY * machine.vcpus if profile.counts_time else None,
        cpu_fraction=None if profile.counts_time else BUSY * running,
        memory_bytes_used=machine.memory_bytes if machine.active else 0,
        disks=tuple(
            DiskMetrics(
                name=disk.name,
                read_bytes=int(ran * _READ),
                written_bytes=0 if disk.read_only else int(ran * _WRITTEN),
                read_requests=int(ran * _READ) // _BLOCK,
                write_requests=0 if disk.read_only else int(ran * _WRITTEN) // _BLOCK,
            )
            for disk in machine.disks
        ),
        interfaces=tuple(
            InterfaceMetrics(
                mac=interface.mac,
                received_bytes=int(ran * _RECEIVED),
                sent_bytes=int(ran * _SENT),
                received_packets=int(ran * _RECEIVED) // _PACKET,
                sent_packets=int(ran * _SENT) // _PACKET,
            )
            for interface in machine.interfaces
        ),
    )
