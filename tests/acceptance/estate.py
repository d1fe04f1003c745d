"""A whole installation in processes of its own, as an operator runs it: managers, workers, the command line.

State outlives every process; `history()` collects the manager's store and the hypervisor's own log for the checker.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federation.bootstrap.client import ManagerClient, value_of
from federation.contract.errors import OperationError, Unavailable
from federation.contract.outcomes import OutcomeKind
from federation.store import open_store
from federation.testing.history import Report, check
from federation.testing.history.records import Accepted, History, Settled
from federation.testing.hypervisor.log import read_log

CLUSTER = "lab"
CLIENT_SECONDS = 20.0
SETTLED = {"succeeded", "failed", "refused", "unknown"}
MIB = 1 << 20


@dataclass
class Estate:
    """One installation; `lease` and `margin` are seconds, `options` further environment of the manager."""

    broker: str
    folder: Path
    store: str = ""
    lease: float = 1.5
    margin: float = 0.3
    options: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    clients: list[ManagerClient] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = self.store or f"sqlite:///{self.folder / 'manager.sqlite'}"
        self.state = self.folder / "hypervisor"
        self.state.mkdir()

    # Processes

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "FEDERATION_BROKER": self.broker,
            "FEDERATION_MANAGER_STORE": self.store,
            "FEDERATION_MANAGER_LEASE": str(self.lease),
            "FEDERATION_MANAGER_MARGIN": str(self.margin),
            "FEDERATION_MANAGER_SWEEP_AFTER": "10",
            "FEDERATION_MANAGER_WORKER_TIMEOUT": "10",
            "NO_COLOR": "1",
            **self.options,
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "federation.cli", *arguments]

    def spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(self.command("-v", *arguments), stdout=log, stderr=log, env=self.environment())
        self.processes[name] = process
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start_manager(self, name: str = "manager") -> subprocess.Popen[bytes]:
        process = self.spawn(name, "manager", "--id", name)
        self.until(lambda: f"manager {name} is ready" in self.log(name), 40, process)
        return process

    def start_worker(
        self, name: str, pace: float = 0.0, cluster: str = CLUSTER, **settings: Any
    ) -> subprocess.Popen[bytes]:
        config = self.folder / f"{name}.toml"
        fields = {"state_directory": str(self.state), "pace": pace, **settings}
        config.write_text("[driver]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items()))
        options = ["--driver", "simulated", "--cluster", cluster, "--id", name, "--driver-config", str(config)]
        return self.spawn(name, "worker", *options)

    def start(self, *workers: str, pace: float = 0.0, partitions: int = 32, **settings: Any) -> None:
        """A manager, the cluster, and these workers, all admitted and with an inventory."""
        self.start_manager()
        self.ask("create_cluster", cluster=CLUSTER, driver="simulated", partitions=partitions)
        for worker in workers:
            self.start_worker(worker, pace, **settings)
        self.until_admitted(*workers)

    def until_admitted(self, *workers: str, seconds: float = 60) -> None:
        def look() -> bool:
            admitted = {w["id"] for w in self.ask("workers", cluster=CLUSTER) if w["state"] == "admitted"}
            return set(workers) <= admitted and bool(self.ask("nodes", cluster=CLUSTER))

        self.until(look, seconds)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.processes[name]
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait(10)

    def end(self) -> None:
        """Stop everything by its own pid."""
        for client in self.clients:
            client.close()
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
        for process in self.processes.values():
            process.wait(10)

    # The door and the command line

    @property
    def client(self) -> ManagerClient:
        if not self.clients:
            self.clients.append(ManagerClient(self.broker, timeout=CLIENT_SECONDS))
        return self.clients[0]

    def ask(self, method: str, **arguments: Any) -> Any:
        return value_of(self.client.call(method, arguments))

    def ask_patiently(self, method: str, seconds: float = 60.0, **arguments: Any) -> Any:
        """Ask again while nobody answers; what changes something carries an idempotency key."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.ask(method, **arguments)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.05, 0.2))

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end."""
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment(),
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self.run("--output", "json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    # Load

    def create(self, name: str) -> dict[str, Any]:
        return self.submit("create", cluster=CLUSTER, arguments={"spec": spec(name)}, idempotency_key=f"create {name}")

    def submit(self, name: str, **submission: Any) -> dict[str, Any]:
        return self.ask_patiently("submit", name=name, **submission)

    def change(self, name: str, instance: str, **arguments: Any) -> dict[str, Any]:
        return self.submit(name, instance=instance, arguments=arguments)

    def make(self, count: int, prefix: str = "web") -> list[str]:
        """Machines that run."""
        made = [self.create(f"{prefix}-{number}") for number in range(count)]
        for operation in made:
            assert self.settle(operation)["state"] == "succeeded"
        return [operation["key"] for operation in made]

    def settle(self, operation: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
        """Wait for the outcome."""
        deadline = time.monotonic() + seconds
        while True:
            record = self.ask_patiently("operation", operation=operation["id"])
            if record["state"] in SETTLED:
                return record
            assert time.monotonic() < deadline, f"no outcome in {seconds} s: {record}"
            time.sleep(0.02)

    def settle_all(self, seconds: float = 120) -> dict[str, int]:
        """Wait until nothing is queued or running; returns how many are in which state."""
        deadline = time.monotonic() + seconds
        while True:
            counts = self.ask_patiently("counts").get(CLUSTER, {})
            if not counts.get("queued") and not counts.get("running"):
                return counts
            assert time.monotonic() < deadline, f"not settled in {seconds} s: {counts}"
            time.sleep(0.1)

    def until(
        self, look: Callable[[], Any], seconds: float = 30, process: subprocess.Popen[bytes] | None = None
    ) -> Any:
        """Wait for an observed condition."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = look()
            except OperationError:
                found = None
            if found:
                return found
            assert process is None or process.poll() is None, "the process ended"
            assert time.monotonic() < deadline, f"not observed within {seconds} s"
            time.sleep(0.02)

    # Judgement

    def judge(self) -> Report:
        """What the history checker says of everything that happened; what is not settled by now counts as lost."""
        return check(self.history())

    def history(self) -> History:
        store = open_store(self.store)
        try:
            operations = []
            before = None
            while True:
                with store.reading() as transaction:
                    page = transaction.operation_records(before=before, limit=1000)
                if not page:
                    break
                operations += page
                before = page[-1].id
        finally:
            store.close()
        log = read_log(self.state)
        return History(
            accepted=tuple(
                Accepted(
                    operation=o.id,
                    cluster=o.cluster,
                    key=o.key,
                    sequence=o.sequence,
                    name=o.name,
                    arguments=o.arguments,
                )
                for o in operations
            ),
            settled=tuple(
                Settled(operation=o.id, kind=o.outcome.kind, code=o.outcome.code, attempts=o.attempt)
                for o in operations
                if o.outcome
            ),
            effects=log.effects,
            executions=log.executions,
            finals=log.finals,
            parked=frozenset(
                o.key for o in operations if o.outcome and o.outcome.kind is OutcomeKind.UNKNOWN and not o.resolution
            ),
        )


def spec(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "flavour": {"vcpus": 1, "memory_bytes": 256 * MIB},
        "boot": {"kind": "image", "url": "http://images/guest", "checksum": "sha256:" + "0" * 64, "format": "qcow2"},
    }


def life(length: int, chance: random.Random) -> Iterable[tuple[str, dict[str, Any]]]:
    """Operations that all succeed if, and only if, they take effect in this order on a running machine."""
    state = "running"
    moves = {
        "running": [
            ("pause", {}, "paused"),
            ("power_off", {"mode": "hard"}, "stopped"),
            ("reboot", {"mode": "hard"}, "running"),
            ("suspend", {}, "suspended"),
        ],
        "paused": [("unpause", {}, "running")],
        "stopped": [("power_on", {}, "running")],
        "suspended": [("resume", {}, "running")],
    }
    for _ in range(length):
        name, arguments, state = chance.choice(moves[state])
        yield name, arguments
