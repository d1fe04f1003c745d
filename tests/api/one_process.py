"""A manager with its REST API and a simulated worker, in a process of its own, over the embedded broker.

`python one_process.py [--port PORT] [--without PATH,PATH] FOLDER [CERTIFICATE PRIVATE_KEY]` writes its address as a line of JSON when it is ready; each line of
JSON that it then reads, a method and its arguments, is a call of the manager's door, and is answered by a line.  It ends
with its standard input.  `--without` leaves paths out of the API, as an earlier version would; `--again` is
for a folder that another such process has left.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import threading
import time
from pathlib import Path

from federation.api import fixed
from federation.bootstrap.interfaces import REST, InterfaceSettings, start_interface
from federation.bootstrap.managers import run_manager
from federation.bootstrap.workers import make_worker
from federation.manager.settings import ManagerSettings
from federation.protocol.answer_table import Limits
from federation.protocol.lease import LeaseTerms
from federation.testing.simulated import SimulatedDriver, SimulatedSettings
from federation.worker.settings import WorkerSettings

BROKER = "federation+memory://rest"
CLUSTERS = ("lab", "prod", "idle")
"""Nobody works for the last: what is accepted there stays queued."""


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--without", type=lambda text: text.split(","), default=[])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("folder", type=Path)
    parser.add_argument("certificate", type=Path, nargs="*")
    said = parser.parse_args()
    folder, certificate, served = said.folder, said.certificate, fixed.routes()
    fixed.routes = lambda: [route for route in served if route.path not in said.without]
    settings = ManagerSettings(id="rest", limits=Limits(terms=LeaseTerms(1.5, 0.3)), heartbeat_every=1.0)
    running = run_manager(BROKER, f"sqlite:///{folder / 'manager.sqlite'}", settings)
    workers = []
    for cluster in CLUSTERS:
        if not said.again:
            running.manager.estate.create_cluster(cluster, "simulated", 4)
            (folder / cluster).mkdir()
        simulated = SimulatedSettings(state_directory=str(folder / cluster), pace=0.2)
        worker = make_worker(BROKER, SimulatedDriver, simulated, WorkerSettings(worker=f"{cluster}-1", cluster=cluster))
        worker.start()
        threading.Thread(target=worker.finish, daemon=True).start()
        workers.append(worker)
    deadline = time.monotonic() + 30
    while {node.cluster for node in running.manager.estate.nodes()} != set(CLUSTERS):
        assert time.monotonic() < deadline, "the workers did not come up"
        time.sleep(0.05)
    workers.pop().worker.stop("it is to be idle")
    files = {"certificate": certificate[0], "private_key": certificate[1]} if certificate else {}
    interface = start_interface(REST, running, InterfaceSettings(host="127.0.0.1", port=said.port, **files))
    print(json.dumps({"address": interface.address}), flush=True)
    for line in sys.stdin:
        method, arguments = json.loads(line)
        print(json.dumps(running.door.call(method, arguments)), flush=True)
    interface.stop(5.0)
    for worker in workers:
        worker.worker.stop("the test is over")
    running.stop()


if __name__ == "__main__":
    main()
