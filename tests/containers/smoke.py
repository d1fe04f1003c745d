"""`make test-containers`: builds the images, brings the demonstration up, uses it, scales it, and kills every process of it in turn."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from parts.state import PartMissingError, wait_until

from containers import base_images
from containers.http_client import Managers, get_json
from containers.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable

    from containers.stack import Process, Stack

CLUSTERS = {"kvm": "qcow2", "vsphere": "raw", "hyperv": "vhdx", "lab": "qcow2"}
WORKERS = {"kvm": "worker-libvirt", "vsphere": "worker-vmware", "hyperv": "worker-hyperv", "lab": "worker-simulated"}
SCALED = 4
MEMORY_BYTES = 128 << 20
GOAL_SECONDS = 300.0
HEAL_SECONDS = 300.0
# Machines, not services: QEMU is the virtual machine itself, and ends like one that lost its power.
MACHINES = "qemu-system"
# Their machines end with them, or are forgotten: the load is on the simulated cluster, whose state is a file.
HYPERVISORS = frozenset({"hv1", "kvm1", "vcenter"})

# What an operation fails with while its hypervisor does not answer.
AWAY = ("hypervisor_unreachable", "backend_unavailable")


class Smoke:
    """One run; `say` is told what is seen."""

    def __init__(self, stack: Stack, say: Callable[[str], None]) -> None:
        """Nothing is started yet."""
        self.stack = stack
        self.say = say
        self._checksums: dict[str, str] = {}
        self._managers: Managers | None = None

    STEPS = ("use", "scale", "kill")

    def run(self) -> None:
        """All steps; PartMissingError at the first that does not hold, and at the end when it took too long."""
        took = self._from_nothing()
        self._log_in()
        self._use()
        self._scale()
        self._kill_everything()
        if took > GOAL_SECONDS:
            raise PartMissingError(f"from nothing took {took:.0f} s, expected at most {GOAL_SECONDS:.0f} s")
        self.say("every step was seen to work")

    def run_only(self, step: str) -> None:
        """One of STEPS, on what runs already."""
        self._log_in()
        {"use": self._use, "scale": self._scale, "kill": self._kill_everything}[step]()

    # The steps

    def _from_nothing(self) -> float:
        """Seconds that the two commands took."""
        self.say("1. images of ours")
        built = self._timed(lambda: self.stack.compose("build", *self.stack.services(), seconds=3600))
        self.say(f"   built in {built:.0f} s")
        self.say("2. from nothing to machines, by two commands")
        self.say(f"   left out: {base_images.missing()}")
        up = self._timed(self.stack.up)
        self.say(f"   docker compose up: {up:.0f} s")
        made = self._timed(lambda: self.stack.run("machines", "first"))
        self.say(f"   docker compose run machines first: {made:.0f} s, one machine on each of {', '.join(CLUSTERS)}")
        self.stack.wait_well()
        return up + made

    def _log_in(self) -> None:
        printed = self.stack.run("cli", "token", "create", "smoke", "--role", "admin", "--days", "1")
        token = next(line.strip() for line in printed.splitlines() if line.startswith("fed_"))
        ports = (self.stack.ports["FEDERATION_API_PORT"], self.stack.ports["FEDERATION_API_PORT_2"])
        self._managers = Managers(ports, token)
        sums = self.stack.compose(
            "run", "--rm", "--no-TTY", "--entrypoint", "cat", "machines", "/srv/images/SHA256SUMS"
        )
        for line in sums.splitlines():
            digest, _, name = line.partition("  ")
            self._checksums[name.removeprefix("guest.").strip()] = f"sha256:{digest.strip()}"

    def _use(self) -> None:
        self.say("3. the REST API of both managers")
        for port in self.managers.ports:
            found = Managers((port,), self.managers.token).ask("/v1/instances")["items"]
            self.say(f"   port {port}: {len(found)} machines")
            if len(found) != len(CLUSTERS):
                raise PartMissingError(f"expected {len(CLUSTERS)} machines, seen {[each['name'] for each in found]}")
        for cluster, took in self._probe().items():
            self.say(f"   a machine made and destroyed on {cluster}: {took:.1f} s")
        wait_until(lambda: not self._unscraped(), 90, "Prometheus to reach everything it is told of", step=1)
        self.say(f"   Prometheus reaches {len(self._targets())} endpoints")

    def _scale(self) -> None:
        service, cluster = WORKERS["kvm"], "kvm"
        self.say(f"4. docker compose up --scale {service}={SCALED}, while machines are at work")
        before = self.stack.partitions(cluster)
        load = self._load(cluster)
        began = time.monotonic()
        self.stack.scale(service, SCALED)

        def spread() -> bool:
            return len(self.stack.partitions(cluster)) == SCALED

        wait_until(spread, HEAL_SECONDS, f"partitions to move to {SCALED} workers", step=1)
        self.say(
            f"   {_shares(before)} became {_shares(self.stack.partitions(cluster))} after {time.monotonic() - began:.0f} s"
        )
        self.stack.wait_well()
        self._judge(load, "scaling up")
        load = self._load(cluster)
        self.stack.scale(service, 2)
        wait_until(
            lambda: len(self.stack.partitions(cluster)) == 2, HEAL_SECONDS, "partitions to move to 2 workers", step=1
        )
        self.say(f"   scaled down to 2: {_shares(self.stack.partitions(cluster))}")
        self._judge(load, "scaling down")

    def _kill_everything(self) -> None:
        self.say("5. SIGKILL of one process of every kind, in turn")
        done: set[tuple[str, str]] = set()
        killed = 0
        while (process := self._next(done)) is not None:
            done.add(process.kind)
            if self._kill(process):
                killed += 1
        self.say(f"   {killed} kinds of processes were killed; machines themselves ({MACHINES}) were left alone")

    def _next(self, done: set[tuple[str, str]]) -> Process | None:
        """One more process of a kind that was not killed yet: at first each container's own, hypervisors' at the end."""
        processes = self.stack.processes()
        first = {each.container: each.pid for each in reversed(processes)}
        left = [each for each in processes if each.kind not in done and MACHINES not in each.command]
        left.sort(key=lambda p: (p.service in HYPERVISORS, p.pid != first[p.container], p.service, p.pid))
        return left[0] if left else None

    def _kill(self, process: Process) -> bool:
        """Kill it under load and wait until all is well; False when it had ended by itself."""
        load = self._load("lab")
        time.sleep(0.5)  # so that something is under way
        began = time.monotonic()
        if not process.kill():
            self._judge(load, f"{process.service}: {process.command[:60]} had ended")
            return False
        wait_until(self._heals, HEAL_SECONDS, f"{process.service} to heal after {process.command[:60]}", step=0.5)
        if process.service in HYPERVISORS:
            self._probe_until_it_works(process.service)
        else:
            self._probe()
        healed = time.monotonic() - began
        count = self._judge(load, f"{process.service}: {process.command[:60]}")
        told = f"   {process.service}: {process.kind[1][:50]}: all well, machines are made on all clusters after {healed:.0f} s"
        self.say(f"{told}; {count} operations of another machine meanwhile, none lost")
        return True

    # How

    def _targets(self) -> list[dict[str, Any]]:
        """The endpoints that Prometheus found."""
        found = get_json(
            f"http://127.0.0.1:{self.stack.ports['FEDERATION_PROMETHEUS_PORT']}/api/v1/targets?state=active"
        )
        targets: list[dict[str, Any]] = found["data"]["activeTargets"]
        return targets

    def _unscraped(self) -> set[str]:
        """The services, of those that have metrics, of which Prometheus does not reach every endpoint."""
        up = Counter(each["labels"]["job"] for each in self._targets() if each["health"] == "up")
        wanted = {"federation-manager": 2, "federation-worker": len(WORKERS), "rabbitmq": 1}
        return {job for job, count in wanted.items() if up[job] < count}

    def _heals(self) -> bool:
        return not self.stack.unwell()

    @property
    def managers(self) -> Managers:
        """The REST API, once there is a token."""
        if self._managers is None:
            raise PartMissingError("there is no token yet")
        return self._managers

    def _probe(self) -> dict[str, float]:
        """Make and destroy a machine on every cluster, side by side; seconds by cluster."""
        with ThreadPoolExecutor(len(CLUSTERS)) as pool:
            return dict(zip(CLUSTERS, pool.map(self._make_and_destroy, CLUSTERS), strict=True))

    def _probe_until_it_works(self, service: str) -> None:
        """While a hypervisor is away, or has just come back, operations on it fail and say so."""
        last = "nothing was tried"

        def works() -> bool:
            nonlocal last
            try:
                self._probe()
            except PartMissingError as error:
                last = str(error)
                if not any(code in last for code in AWAY):
                    raise
                return False
            return True

        try:
            wait_until(works, HEAL_SECONDS, f"machines to be made again on {service}", step=0.5)
        except PartMissingError as error:
            raise PartMissingError(f"{error}; the last try: {last}") from error

    def _make_and_destroy(self, cluster: str) -> float:
        began = time.monotonic()
        instance = self._make(cluster, f"probe-{cluster}-{time.monotonic_ns()}")
        self.managers.do(f"/v1/instances/{instance}/delete", {}, HEAL_SECONDS)
        return time.monotonic() - began

    def _make(self, cluster: str, name: str) -> str:
        kind = CLUSTERS[cluster]
        boot = {
            "kind": "image",
            "url": f"file:///srv/images/guest.{kind}",
            "format": kind,
            "checksum": self._checksums[kind],
        }
        spec = {"name": name, "flavour": {"vcpus": 1, "memory_bytes": MEMORY_BYTES}, "boot": boot}
        made = self.managers.do("/v1/instances", {"cluster": cluster, "spec": spec}, HEAL_SECONDS)
        return str(made["key"])

    def _load(self, cluster: str) -> Load:
        return Load(self.managers, self._machine(cluster)).start()

    def _machine(self, cluster: str) -> str:
        """The machine that `machines first` made on a cluster."""
        items: list[dict[str, Any]] = self.managers.ask(f"/v1/instances?cluster={cluster}")["items"]
        return next(str(each["id"]) for each in items if each["name"] == f"first-{cluster}")

    def _judge(self, load: Load, what: str) -> int:
        """Everything accepted under this load succeeded; returns how much it was."""
        load.stop()
        if load.trouble:
            raise PartMissingError(f"{what}: the load ended early: {load.trouble[0]}")
        outcomes = load.outcomes()
        if set(outcomes) - {"succeeded"}:
            bad = [each for each in load.records() if each["state"] != "succeeded"][:2]
            raise PartMissingError(f"{what}: {dict(outcomes)}, such as {bad}")
        if not outcomes:
            raise PartMissingError(f"{what}: no operation was accepted meanwhile")
        return sum(outcomes.values())

    @staticmethod
    def _timed(act: Callable[[], object]) -> float:
        began = time.monotonic()
        act()
        return time.monotonic() - began


def _shares(partitions: dict[str, int]) -> str:
    return ", ".join(f"{worker} {count}" for worker, count in sorted(partitions.items())) or "nobody"
