"""The main job on real parts, step by step, as a user would do it: processes, the command line's door, a SIGKILL."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federation.bootstrap.client import ManagerClient, value_of
from federation.contract.errors import OperationError

_LEASE, _MARGIN, _WORKER_TIMEOUT = 2.0, 0.5, 12.0
_SETTLED = {"succeeded", "failed", "refused", "unknown"}
_WORKERS = ("worker-a", "worker-b")


class StepFailed(Exception):
    """A step did not do what it claims."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the real parts are."""

    broker: str
    uris: tuple[str, ...]
    kernel: Path
    initrd: Path
    image: Path
    ready_line: str
    disks: Path | None
    folder: Path


@dataclass(slots=True)
class RealDemo:
    """One run; ``seen`` collects what was observed."""

    setting: Setting
    say: Callable[[str], None]
    seen: dict[str, Any] = field(default_factory=dict)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _client: ManagerClient | None = None
    _cluster: str = field(default_factory=lambda: f"demo-{uuid.uuid4().hex[:8]}")
    _made: list[str] = field(default_factory=list)

    def run(self) -> None:
        """All steps; raises StepFailed at the first that does not hold."""
        self._start()
        first = self._boot_from_kernel()
        second = self._kill_in_the_middle()
        self._judge(first, second)
        self._destroy(first, second)

    def close(self) -> None:
        """Remove what was made and end what was started."""
        with suppress(OperationError, StepFailed):
            for instance in list(self._made):
                self._settle("destroy", instance=instance)
            self._stop_workers()
            self._ask("remove_cluster", cluster=self._cluster)
        if self._client is not None:
            self._client.close()
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def show_logs(self) -> None:
        """What the processes said last."""
        for log in sorted(self.setting.folder.glob("*.log")):
            self.say(f"--- {log.name}")
            self.say("\n".join(log.read_text(errors="replace").splitlines()[-15:]))

    # The steps

    def _start(self) -> None:
        setting = self.setting
        self.say(f"1. a manager, the cluster {self._cluster}, two libvirt workers")
        self._spawn(
            "manager", "manager", "--store", f"sqlite:///{setting.folder / 'manager.sqlite'}", "--id", self._cluster
        )
        self._client = ManagerClient(setting.broker, timeout=15.0)
        self._until(self._manager_answers, 30, "the manager answers")
        self._ask("create_cluster", cluster=self._cluster, driver="libvirt", partitions=8)
        config = setting.folder / "libvirt.toml"
        config.write_text("".join(self._driver_config()))
        for worker in _WORKERS:
            options = ["--driver", "libvirt", "--cluster", self._cluster, "--id", f"{self._cluster}-{worker}"]
            self._spawn(worker, "worker", *options, "--driver-config", str(config))
        self._until(lambda: len(self._live()) == len(_WORKERS) and bool(self._nodes()), 40, "both workers are admitted")
        for node in self._nodes():
            self.say(
                f"   node {node['name']}: {node['facts']['hypervisor']}, {node['facts']['vcpus_total']} processors"
            )

    def _boot_from_kernel(self) -> str:
        self.say("2. a Linux guest, booted on QEMU")
        boot = {
            "kind": "kernel",
            "kernel_url": self.setting.kernel.as_uri(),
            "kernel_checksum": _checksum(self.setting.kernel),
            "initrd_url": self.setting.initrd.as_uri(),
            "initrd_checksum": _checksum(self.setting.initrd),
            "command_line": "console=ttyS0 panic=1",
        }
        began = time.monotonic()
        operation = self._settle("create", cluster=self._cluster, arguments={"spec": _spec("guest-1", boot)})
        self._made.append(operation["key"])
        line = self._console_line(operation["key"])
        self.say(f"   console after {time.monotonic() - began:.1f} s: {line}")
        self.seen["console"] = line
        return str(operation["key"])

    def _kill_in_the_middle(self) -> str:
        self.say("3. a second guest from a disk image; its worker is killed (SIGKILL) in the middle")
        boot = {
            "kind": "image",
            "url": self.setting.image.as_uri(),
            "checksum": _checksum(self.setting.image),
            "format": "qcow2",
        }
        operation = self._ask(
            "submit", name="create", cluster=self._cluster, arguments={"spec": _spec("guest-2", boot)}
        )
        self._made.append(operation["key"])
        operation = self._until(lambda: self._started(operation["id"]), 20, "the operation runs", pause=0.005)
        if operation["state"] != "running":
            message = f"the operation was {operation['state']} before its worker could be killed"
            raise StepFailed(message)
        victim = operation["worker"]
        self._processes[victim.removeprefix(f"{self._cluster}-")].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        self.say(f"   killed {victim} in attempt {operation['attempt']}")
        operation = self._until(lambda: self._settled(operation["id"]), 60, "the operation is settled")
        took = time.monotonic() - killed
        self._expect_success(operation)
        if operation["worker"] == victim or operation["attempt"] < 2:
            message = f"the operation ended on {operation['worker']} in attempt {operation['attempt']}"
            raise StepFailed(message)
        self.say(
            f"   completed on {operation['worker']} in attempt {operation['attempt']}, {took:.1f} s after the kill"
        )
        self.seen |= {"recovered_by": operation["worker"], "recovered_after_seconds": round(took, 2)}
        self.say(f"   console: {self._console_line(operation['key'])}")
        return str(operation["key"])

    def _judge(self, *instances: str) -> None:
        self.say("4. what libvirt itself shows")
        page = self._ask("read", name="list_instances", cluster=self._cluster, arguments={"limit": 1000})
        running = {i["id"]: i["power_state"] for i in page["instances"] if i["id"] in instances}
        names = [i["name"] for i in page["instances"] if i["name"] in {"guest-1", "guest-2"} and i["id"] in instances]
        if running != dict.fromkeys(instances, "running") or len(names) != len(instances):
            message = f"expected {len(instances)} running machines, libvirt shows {running}"
            raise StepFailed(message)
        self.say(f"   {len(names)} machines, both running, none made twice")

    def _destroy(self, *instances: str) -> None:
        self.say("5. both are deleted")
        for instance in instances:
            self._settle("destroy", instance=instance)
            self._made.remove(instance)
        page = self._ask("read", name="list_instances", cluster=self._cluster, arguments={"limit": 1000})
        left = [i["id"] for i in page["instances"] if i["id"] in instances]
        if left:
            message = f"still there: {', '.join(left)}"
            raise StepFailed(message)
        self.say("   nothing is left on the hypervisor\n\nevery step was seen to work")

    # How

    def _spawn(self, name: str, *arguments: str) -> None:
        environment = {
            **os.environ,
            "FEDERATION_BROKER": self.setting.broker,
            "FEDERATION_MANAGER_LEASE": str(_LEASE),
            "FEDERATION_MANAGER_MARGIN": str(_MARGIN),
            "FEDERATION_MANAGER_WORKER_TIMEOUT": str(_WORKER_TIMEOUT),
        }
        with (self.setting.folder / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "federation.cli", "-v", *arguments]
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def _driver_config(self) -> Iterator[str]:
        sources = {self.setting.kernel.parent, self.setting.initrd.parent, self.setting.image.parent}
        names = [f"node{number}" for number in range(len(self.setting.uris))]
        disks = self.setting.disks or _beside_socket(self.setting.uris[0])
        yield "[driver]\n"
        yield f"pool = {json.dumps(self._cluster)}\n"
        yield f"pool_path = {json.dumps(str(disks / 'volumes' / self._cluster))}\n"
        yield f"console_path = {json.dumps(str(disks / 'console' / self._cluster))}\n"
        yield f"[driver.hosts]\n{names[0]} = {json.dumps(self.setting.uris[0])}\n"
        yield f'[driver.images]\nschemes = ["file"]\ndirectories = {json.dumps(sorted(map(str, sources)))}\n'

    def _ask(self, method: str, **arguments: Any) -> Any:
        if self._client is None:
            message = "the manager was not started"
            raise StepFailed(message)
        return value_of(self._client.call(method, arguments))

    def _settle(self, name: str, **submission: Any) -> dict[str, Any]:
        operation = self._ask("submit", name=name, **submission)
        operation = self._until(lambda: self._settled(operation["id"]), 90, f"{name} is settled")
        self._expect_success(operation)
        return dict(operation)

    def _expect_success(self, operation: dict[str, Any]) -> None:
        if operation["state"] != "succeeded":
            message = f"{operation['name']} {operation['state']}: {operation['outcome']}"
            raise StepFailed(message)

    def _settled(self, operation: str) -> Any:
        record = self._ask("operation", operation=operation)
        return record if record["state"] in _SETTLED else None

    def _started(self, operation: str) -> Any:
        record = self._ask("operation", operation=operation)
        return record if record["state"] != "queued" else None

    def _live(self) -> list[Any]:
        return [w for w in self._ask("workers", cluster=self._cluster) if w["state"] == "admitted"]

    def _nodes(self) -> list[Any]:
        return list(self._ask("nodes", cluster=self._cluster))

    def _manager_answers(self) -> bool:
        try:
            self._ask("clusters")
        except OperationError:
            return False
        return True

    def _console_line(self, instance: str) -> str:
        def look() -> str | None:
            text = self._ask("read", name="get_console_output", instance=instance)["text"]
            return next((line.strip() for line in text.splitlines() if self.setting.ready_line in line), None)

        return str(self._until(look, 90, f"the guest prints {self.setting.ready_line!r}"))

    def _stop_workers(self) -> None:
        for name in _WORKERS:
            process = self._processes.get(name)
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(60)
        self._until(lambda: not self._live(), 45, "the workers have left")

    def _until(self, look: Callable[[], Any], seconds: float, what: str, pause: float = 0.2) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = look()
            if found:
                return found
            time.sleep(pause)
        message = f"within {seconds:.0f} s it was not seen that {what}"
        raise StepFailed(message)


def _spec(name: str, boot: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "flavour": {"vcpus": 1, "memory_bytes": 256 << 20}, "boot": boot}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _beside_socket(uri: str) -> Path:
    """A private libvirtd sees only the folder that its socket lies in; the machine's own keeps disks where it always does."""
    _, _, socket = uri.partition("socket=")
    return Path(socket).parent.parent if socket else Path("/var/lib/libvirt/federation")
