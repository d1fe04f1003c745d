"""One manager (this process), workers in processes of their own, a broker: what operations are measured on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from broker import Broker

from federation.bootstrap.managers import RunningManager, run_manager
from federation.contract.outcomes import Outcome
from federation.manager.settings import ManagerSettings
from federation.manager.submission import Submission
from federation.protocol.records import OperationRecord

_BOOT = {"kind": "image", "url": "http://bench/image", "checksum": "sha256:" + "0" * 64, "format": "qcow2"}
_FLAVOUR = {"vcpus": 1, "memory_bytes": 1 << 25}
_NODES = [{"name": f"node-{n}", "vcpus": 100_000, "memory_bytes": 1 << 45, "storage_bytes": 1 << 45} for n in range(2)]


class Rig:
    """See the module; ``outcomes`` and ``finished`` (on time.perf_counter) are by operation id."""

    def __init__(self, running: RunningManager, broker: Broker, folder: Path) -> None:
        self.running = running
        self.broker = broker
        self.folder = folder
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.finished: dict[str, float] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._changed = threading.Condition()
        self.listeners: list[Callable[[OperationRecord, Outcome], None]] = []
        running.manager.results.measured_by(self)

    def settled(self, record: OperationRecord, outcome: Outcome) -> None:
        """The manager's port ``Meter``: an outcome was applied."""
        for listener in self.listeners:
            listener(record, outcome)
        with self._changed:
            self.finished[record.id] = time.perf_counter()
            self.outcomes[record.id] = outcome
            self._changed.notify_all()

    def applied(self, seconds: float) -> None:
        """The manager's port ``Meter``: nothing of it is kept here."""

    def make_cluster(self, cluster: str, driver: str = "simulated") -> None:
        """With the default number of partitions."""
        self.running.manager.estate.create_cluster(cluster, driver)

    def start_workers(
        self, cluster: str, names: Iterable[str], config: Mapping[str, Any], driver: str = "simulated"
    ) -> None:
        """Start worker processes and wait until they are admitted and the cluster's nodes are known."""
        file = self.folder / f"{cluster}.toml"
        file.write_text("[driver]\n" + _toml(config))
        options = ["--driver", driver, "--cluster", cluster, "--driver-config", str(file), "--max-operations", "64"]
        command = [sys.executable, "-m", "federation.cli", "--broker", self.broker.url, "worker", *options]
        names = list(names)
        for name in names:
            with (self.folder / f"{name}.log").open("wb") as log:
                self.workers[name] = subprocess.Popen([*command, "--id", name], stdout=log, stderr=log)  # noqa: S603
        manager = self.running.manager

        def there() -> bool:
            live = {w.id for w in manager.admitting.workers(cluster) if w.state == "admitted"}
            return live.issuperset(names) and bool(manager.estate.nodes(cluster))

        self.until(there, 180, f"the workers of {cluster} are up")

    def submit(self, name: str, cluster: str | None = None, **arguments: Any) -> OperationRecord:
        """Submit in this process, as the API does."""
        return self.running.manager.submitting.submit(Submission(name=name, cluster=cluster, arguments=arguments))

    def wait(self, ids: Iterable[str], seconds: float = 300.0) -> None:
        """Until all of them have succeeded; SystemExit when one did not, or not in time."""
        wanted = set(ids)
        with self._changed:
            if not self._changed.wait_for(lambda: wanted <= self.finished.keys(), seconds):
                left = wanted - self.finished.keys()
                raise SystemExit(f"{len(left)} of {len(wanted)} operations had no outcome after {seconds:.0f} s")
        for operation in wanted:
            outcome = self.outcomes[operation]
            if outcome.kind != "succeeded":
                raise SystemExit(f"operation {operation} {outcome.kind}: {outcome.code} {outcome.message}")

    def make_instances(self, cluster: str, count: int, prefix: str = "bench") -> list[str]:
        """Instances to operate on, made through the federation."""
        made = [
            self.submit("create", cluster, spec={"name": f"{prefix}-{n}", "flavour": _FLAVOUR, "boot": _BOOT})
            for n in range(count)
        ]
        self.wait(record.id for record in made)
        return [record.key for record in made]

    def record(self, operation: str) -> OperationRecord:
        """What the store says of an operation."""
        with self.running.manager.store.reading() as transaction:
            found = transaction.operation(operation)
        assert found is not None
        return found

    def until(self, condition: Any, seconds: float, what: str) -> None:
        """Look every 20 ms; SystemExit when it does not come true."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"within {seconds:.0f} s it was not seen that {what}; logs in {self.folder}")
            time.sleep(0.02)

    def stop_workers(self) -> None:
        """End all worker processes."""
        for process in self.workers.values():
            process.terminate()
        for process in self.workers.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        self.workers.clear()


@contextmanager
def rig(broker: Broker, settings: ManagerSettings | None = None, store: str | None = None) -> Iterator[Rig]:
    """A manager on a new SQLite file, or on the store of a URL; everything that was started ends with the context."""
    with TemporaryDirectory(prefix="federation-bench-") as name:
        folder = Path(name)
        store = store or f"sqlite:///{folder / 'manager.sqlite'}"
        running = run_manager(broker.url, store, settings or ManagerSettings())
        found = Rig(running, broker, folder)
        try:
            yield found
        finally:
            found.stop_workers()
            running.stop()


def nothing_driver() -> dict[str, Any]:
    """The driver that only asks for leave and answers, on nodes with room for everything."""
    return {"nothing": True, "nodes": _NODES}


def _toml(config: Mapping[str, Any]) -> str:
    tables = {name: value for name, value in config.items() if isinstance(value, Mapping)}
    lines = [f"{name} = {_value(value)}" for name, value in config.items() if name not in tables]
    for name, table in tables.items():
        lines.append(f"[driver.{name}]")
        lines.extend(f"{json.dumps(key)} = {_value(value)}" for key, value in table.items())
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)  # strings, numbers and truth are written alike in JSON and TOML
