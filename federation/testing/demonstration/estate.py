"""The demonstration's estate: one manager, three clusters, two workers each, all in this process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from federation.bootstrap.managers import RunningManager, run_manager
from federation.bootstrap.workers import RunningWorker, make_worker
from federation.manager.settings import ManagerSettings
from federation.protocol.answer_table import Limits
from federation.protocol.lease import LeaseTerms
from federation.protocol.records import OperationState
from federation.testing.hypervisor.profiles import HypervisorKind
from federation.testing.hypervisor.settings import SimulatedSettings
from federation.testing.simulated import SimulatedDriver
from federation.worker.settings import WorkerSettings

BROKER = "federation+memory://demo"
TERMS = LeaseTerms(lease=2.0, margin=0.5)
WORKERS = ("a", "b")
_READY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class DemoCluster:
    """One cluster and the folder that plays its hypervisor."""

    name: str
    kind: HypervisorKind
    state_directory: Path


@dataclass(slots=True)
class Crew:
    """A worker that runs in threads of its own; ``dropped`` once its connection was cut for good."""

    cluster: str
    running: RunningWorker
    thread: threading.Thread
    dropped: bool = False

    @property
    def name(self) -> str:
        """The worker's id."""
        return self.running.worker.settings.worker


class NotReady(Exception):
    """The estate did not come up in time."""


@dataclass(slots=True)
class DemoEstate:
    """Everything that runs; use it as a context."""

    folder: Path
    pace: float
    clusters: list[DemoCluster] = field(default_factory=list)
    crews: list[Crew] = field(default_factory=list)
    manager: RunningManager = field(init=False)

    def __enter__(self) -> Self:
        """Start manager, clusters and workers, and wait until all are ready; raises NotReady."""
        settings = ManagerSettings(
            id="demo", limits=Limits(terms=TERMS), sweep_after=10.0, worker_timeout=5.0, heartbeat_every=1.0
        )
        self.manager = run_manager(BROKER, f"sqlite:///{self.folder / 'manager.sqlite'}", settings)
        for kind in HypervisorKind:
            state = self.folder / str(kind)
            state.mkdir()
            self.clusters.append(DemoCluster(str(kind), kind, state))
            self.manager.manager.estate.create_cluster(str(kind), "simulated", 16)
        for cluster in self.clusters:
            for suffix in WORKERS:
                self.crews.append(self._hire(cluster, suffix))
        self._wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        for crew in self.crews:
            crew.running.worker.stop("the demonstration is over")
        for crew in self.crews:
            crew.thread.join(10.0)
        self.manager.stop()

    def drop(self, crew: Crew) -> None:
        """Cut a worker's connection for good, in the middle of its work, without telling anybody."""
        crew.dropped = True
        crew.running.link.close(0.0)

    def busiest(self) -> Crew | None:
        """The worker that runs most at this moment, by the manager's record, in a cluster that has all of its workers.

        None when no such worker runs anything.
        """
        running = Counter(o.worker for o in self.manager.manager.operating.operations(state=OperationState.RUNNING))
        bereft = {crew.cluster for crew in self.crews if crew.dropped}
        busy = [crew for crew in self.crews if running[crew.name] and crew.cluster not in bereft]
        return max(busy, key=lambda crew: running[crew.name], default=None)

    def _hire(self, cluster: DemoCluster, suffix: str) -> Crew:
        settings = SimulatedSettings(state_directory=str(cluster.state_directory), kind=cluster.kind, pace=self.pace)
        worker = WorkerSettings(worker=f"{cluster.name}-{suffix}", cluster=cluster.name, max_operations=16)
        running = make_worker(BROKER, SimulatedDriver, settings, worker)
        running.start()
        thread = threading.Thread(target=running.finish, name=worker.worker, daemon=True)
        thread.start()
        return Crew(cluster.name, running, thread)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        wanted = {crew.name for crew in self.crews}
        while time.monotonic() < deadline:
            admitted = {w.id for w in self.manager.manager.admitting.workers() if w.state == "admitted"}
            known = {node.cluster for node in self.manager.manager.estate.nodes()}
            if wanted <= admitted and known == {cluster.name for cluster in self.clusters}:
                return
            time.sleep(0.1)
        message = f"the workers did not come up within {_READY_SECONDS:.0f} s"
        raise NotReady(message)
