"""``python bench [NAME …] [--quick] [--json FILE]``: measure, print tables, write JSON.

Ratios within one run are the result; absolute numbers are context, for the machine that the result describes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also when run as `python -m bench`

from api import measure as measure_api
from broker import Broker, own_broker
from bus_comparison import compare
from failover import measure as measure_failover
from libvirt_tax import measure as measure_libvirt_tax
from operations import measure

_CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
LATEST = Path(__file__).with_name("results") / "latest.json"
_PACKAGES = ("driver-federation", "oslo.messaging", "amqp", "kombu", "msgspec", "msgpack", "sqlalchemy")
Bench = Callable[..., dict[str, Any]]

BENCHES: dict[str, Bench] = {
    "bus": compare,
    "operations": measure,
    "api": measure_api,
    "failover": measure_failover,
    "libvirt": measure_libvirt_tax,
}


def machine(broker: Broker) -> dict[str, Any]:
    """What a reader must know to compare; no names of hosts."""
    return {
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "rabbitmq": broker.version,
        "tcp_congestion_control": _CONGESTION.read_text().strip() if _CONGESTION.exists() else None,
        "packages": {name: version(name) for name in _PACKAGES},
        "load_before": [round(each, 2) for each in os.getloadavg()],
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: for a look, not for a claim")
    parser.add_argument("--json", type=Path, default=LATEST, help="where the result goes")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHES)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    with own_broker() as broker:
        result: dict[str, Any] = {"quick": options.quick, "machine": machine(broker)}
        for name in options.names or BENCHES:
            result[name] = BENCHES[name](broker, quick=options.quick)
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(result, indent=1, sort_keys=False) + "\n")
    print(f"\nwritten to {options.json}")


if __name__ == "__main__":
    main()
