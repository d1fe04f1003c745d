"""get_metrics: libvirt's statistics of one domain (virDomainListGetStats) as the contract's counters.

Fields: https://libvirt.org/html/libvirt-libvirt-domain.html#virConnectGetAllDomainStats.  Interfaces are named there by
the host's device, which the running domain's XML maps to their MAC addresses; their directions are the guest's already.
"""

from __future__ import annotations

import datetime as dt
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping

from federation.contract.metrics import DiskMetrics, InstanceMetrics, InterfaceMetrics
from federation_libvirt import connection, facts
from federation_libvirt.connection import Native
from federation_libvirt.fleet import Fleet

_KIB = 1024
_NANOSECONDS = 1e9

Stats = Mapping[str, int | str]


def metrics(fleet: Fleet, instance: str) -> InstanceMetrics:
    """What the instance used since it was started; a stopped one has no counters."""
    machine = fleet.find(instance)
    current = machine.current()
    stats = machine.host.link.read(f"measure {instance}", lambda c: _statistics(c, instance))
    return measured(current, stats, dt.datetime.now(dt.UTC))


def measured(domain: ET.Element, stats: Stats, at: dt.datetime) -> InstanceMetrics:
    """The statistics in the contract's words and units."""
    time, resident = stats.get("cpu.time"), stats.get("balloon.rss")
    running = domain.get("id") is not None
    return InstanceMetrics(
        at=at,
        cpu_seconds=int(time) / _NANOSECONDS if time is not None and running else None,
        memory_bytes_used=int(resident) * _KIB if resident is not None and running else None,
        disks=tuple(_disks(domain, stats)) if running else (),
        interfaces=tuple(_interfaces(domain, stats)) if running else (),
    )


def _disks(domain: ET.Element, stats: Stats) -> Iterator[DiskMetrics]:
    known = facts.disk_names(domain)
    for prefix in _prefixes(stats, "block"):
        name = str(stats.get(f"{prefix}.name", ""))
        if name in known:
            yield DiskMetrics(
                name=name,
                read_bytes=int(stats.get(f"{prefix}.rd.bytes", 0)),
                written_bytes=int(stats.get(f"{prefix}.wr.bytes", 0)),
                read_requests=int(stats.get(f"{prefix}.rd.reqs", 0)),
                write_requests=int(stats.get(f"{prefix}.wr.reqs", 0)),
            )


def _interfaces(domain: ET.Element, stats: Stats) -> Iterator[InterfaceMetrics]:
    addresses = facts.devices_by_mac(domain)
    for prefix in _prefixes(stats, "net"):
        mac = addresses.get(str(stats.get(f"{prefix}.name", "")))
        if mac is not None:
            yield InterfaceMetrics(
                mac=mac,
                received_bytes=int(stats.get(f"{prefix}.rx.bytes", 0)),
                sent_bytes=int(stats.get(f"{prefix}.tx.bytes", 0)),
                received_packets=int(stats.get(f"{prefix}.rx.pkts", 0)),
                sent_packets=int(stats.get(f"{prefix}.tx.pkts", 0)),
            )


def _prefixes(stats: Stats, group: str) -> Iterator[str]:
    return (f"{group}.{number}" for number in range(int(stats.get(f"{group}.count", 0))))


def _statistics(native: Native, instance: str) -> Stats:
    found = native.domainListGetStats([native.lookupByUUIDString(instance)], connection.STATS, 0)
    return found[0][1] if found else {}
