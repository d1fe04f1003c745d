"""The REST API on PostgreSQL: operations accepted and finished, reads beside many instances, watchers.

One manager in this process, for some turns a second one beside it as in docker-compose.yml, HTTP clients and two workers in
processes of their own, PostgreSQL and RabbitMQ on this machine: all of them share its cores.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker import Broker
from parts.postgresql import PostgreSQL
from processes import cpu_seconds
from rig import Rig, nothing_driver, rig
from tables import show

from federation.bootstrap.interfaces import REST, InterfaceSettings, start_interface
from federation.bootstrap.memory import settle_memory
from federation.manager.access import new_token
from federation.protocol.records import InstanceRecord, Role, TokenRecord

_CLUSTER, _IDLE, _FULL = "bench", "idle", "full"
_WORKERS = ("bench-w0", "bench-w1")
_CONNECTIONS = 40
_SECOND = "second manager"
_SHARDS = 32
_LOOK_AT = 500
_PROMISED_ACCEPTED = 300.0
_PROMISED_READ_MS = 50.0
_WATCHERS = 100
_LOAD = Path(__file__).with_name("http_load.py")


def measure(broker: Broker, *, quick: bool) -> dict[str, Any]:
    """Rates accepted and finished, latencies of reads, how late watchers hear."""
    operations, rounds, instances, reads = (1000, 1, 10_000, 200) if quick else (3000, 3, 10_000, 1000)
    with _database() as store, rig(broker, store=store) as here, _served(here) as ask:
        here.make_cluster(_CLUSTER)
        here.start_workers(_CLUSTER, _WORKERS, nothing_driver())
        made = here.make_instances(_CLUSTER, 200)
        turns = [_accept(here, ask, made, operations) for _ in range(rounds)]
        with _second_manager(here, store) as address:
            turns += [_accept(here, ask, made, operations, address) for _ in range(rounds)]
        here.make_cluster(_FULL)
        known = _fill(here, instances)
        result = {
            "accepted_per_second": max(turn["accepted_per_second"] for turn in turns),
            "turns": turns,
            "reads": _reads(ask, known, turns[-1]["ids"], reads),
            "watchers": _watch(here, ask),
            "load": [round(each, 2) for each in os.getloadavg()],
        }
        for turn in turns:
            del turn["ids"]
    _report(result)
    return result


@contextmanager
def _database() -> Iterator[str]:
    server = PostgreSQL()
    server.start()
    name = f"bench_{os.getpid()}_{uuid.uuid4().hex[:6]}"
    try:
        yield server.add_database(name)
    finally:
        server.drop_database(name)


@contextmanager
def _served(here: Rig) -> Iterator[Any]:
    token, identity, digest = new_token()
    record = TokenRecord(id=identity, name="bench", digest=digest, role=Role.ADMIN)
    here.running.manager.access.add(record, 86400.0)
    interface = start_interface(REST, here.running, InterfaceSettings(host="127.0.0.1", port=0))
    address = interface.address.removeprefix("http://")

    def ask(task: str, *others: str, **more: Any) -> dict[str, Any]:
        told = json.dumps({"task": task, "addresses": [address, *others], "token": token, **more})
        done = subprocess.run([sys.executable, str(_LOAD)], input=told, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise SystemExit(done.stderr)
        result: dict[str, Any] = json.loads(done.stdout)
        if result["bad"]:
            raise SystemExit(f"{len(result['bad'])} answers were wrong, the first: {result['bad'][0]}")
        return result

    settle_memory()  # as the command does
    try:
        yield ask
    finally:
        interface.stop(10.0)


@contextmanager
def _second_manager(here: Rig, store: str) -> Iterator[str]:
    """Its API's address, once it has its share of the shards."""
    log = here.folder / "second.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--broker", here.broker.url, "manager", "--id", _SECOND, "--api", address]
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "federation.cli", *options],
            env={**os.environ, "FEDERATION_MANAGER_STORE": store},
            stdout=file,
            stderr=file,
        )
    here.workers[_SECOND] = process  # its processor time is told, and it is ended, as theirs
    here.until(lambda: b"is ready" in log.read_bytes(), 60, "the second manager is ready")
    shards = here.running.manager.publisher
    here.until(lambda: len(shards.shards) <= _SHARDS // 2, 60, "the second manager has its share")
    try:
        yield address
    finally:
        process.terminate()
        process.wait(30)
        del here.workers[_SECOND]


def _accept(here: Rig, ask: Any, made: list[str], count: int, *others: str) -> dict[str, Any]:
    """Every instance is paused and unpaused in turn; one connection sends what belongs to one instance."""
    moves = itertools.cycle(["pause", "unpause"])
    share = count // len(made)
    paths = [f"/v1/instances/{instance}/{move}" for move in itertools.islice(moves, share) for instance in made]
    requests = [(path, "{}") for path in paths]
    before = _cpu(here)
    told = ask("post", *others, requests=requests, connections=_connections(len(made)), status=202)
    finished = _finished(here, told["ids"])
    after = _cpu(here)
    return {
        "managers": 1 + len(others),
        "accepted_per_second": len(requests) / (told["ended"] - told["began"]),
        "finished_per_second": len(requests) / (finished - told["began"]),
        "post_p50_ms": _percentile(told["taken"], 50),
        "post_p99_ms": _percentile(told["taken"], 99),
        "load": round(os.getloadavg()[0], 2),
        "processor_ms": {name: (after[name] - before[name]) / len(requests) * 1000 for name in after},
        "ids": told["ids"][-100:],
    }


def _finished(here: Rig, ids: list[str]) -> float:
    """When the last of them had succeeded, by the managers' clocks (Unix seconds): any manager may have applied it."""
    left, last, deadline = sorted(ids), 0.0, time.monotonic() + 300
    while left:
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(left)} of {len(ids)} operations had no outcome after 300 s")
        with here.running.manager.store.reading() as transaction:
            records = transaction.operations_by_id(left[:_LOOK_AT])
        for record in records.values():
            if record.finished_at is not None and record.state != "succeeded":
                raise SystemExit(f"operation {record.id} {record.state}: {record.outcome}")
        finished = {id_: record.finished_at for id_, record in records.items() if record.finished_at is not None}
        last = max(last, *finished.values(), 0.0)
        left = [id_ for id_ in left if id_ not in finished]
        if len(finished) < len(records):
            time.sleep(0.2)
    return last


def _cpu(here: Rig) -> dict[str, float]:
    """Processor seconds so far of what shares the machine; the clients' are those of children that have ended."""
    pids = {"manager": os.getpid(), "broker": here.broker.pid}
    pids.update({name: process.pid for name, process in here.workers.items()})
    found = {name: cpu_seconds(pid) or 0.0 for name, pid in pids.items() if pid is not None}
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {**found, "clients": children.ru_utime + children.ru_stime, "database": _database_seconds()}


def _database_seconds() -> float:
    """Of PostgreSQL's server and all its processes."""
    server = PostgreSQL().facts["process"]["pid"]
    children = [int(each) for each in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
    return sum(cpu_seconds(pid) or 0.0 for pid in [server, *children])


def _connections(instances: int) -> int:
    """A divisor of the instances, so that each connection keeps to its own."""
    return max(n for n in range(1, _CONNECTIONS + 1) if instances % n == 0)


def _fill(here: Rig, count: int) -> list[str]:
    """Instances as the store knows them; no hypervisor has them."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    spec = {
        "name": "x",
        "flavour": {"vcpus": 1, "memory_bytes": 1 << 30},
        "boot": {"kind": "template", "template": "t"},
    }
    now = time.time()
    for start in range(0, count, 500):
        with here.running.manager.store.transaction() as transaction:
            for number, identity in enumerate(ids[start : start + 500], start):
                transaction.add_instance(_instance(identity, f"filled-{number}", spec, now))
    return ids


def _instance(identity: str, name: str, spec: dict[str, Any], now: float) -> InstanceRecord:
    return InstanceRecord(
        id=identity,
        name=name,
        cluster=_FULL,
        node="n",
        vcpus=1,
        memory_bytes=1 << 30,
        spec=spec,
        state="running",
        created_at=now,
        updated_at=now,
    )


def _reads(ask: Any, known: list[str], operations: list[str], count: int) -> list[dict[str, Any]]:
    kinds = {
        "one instance": [f"/v1/instances/{known[n * 7 % len(known)]}" for n in range(count)],
        "one instance by name": [f"/v1/instances/filled-{n * 7 % len(known)}?cluster={_FULL}" for n in range(count)],
        "100 instances": [f"/v1/instances?limit=100&cursor={known[n * 7 % len(known)]}" for n in range(count)],
        "one operation": [f"/v1/operations/{operations[n % len(operations)]}" for n in range(count)],
        "100 operations": ["/v1/operations?limit=100" for _ in range(count)],
        "clusters": ["/v1/clusters" for _ in range(count)],
    }
    rows = []
    for connections in (1, 8):
        for what, paths in kinds.items():
            told = ask("get", paths=paths, connections=connections)
            row = {"read": what, "connections": connections}
            rows.append({**row, "p50_ms": _percentile(told["taken"], 50), "p99_ms": _percentile(told["taken"], 99)})
    return rows


def _watch(here: Rig, ask: Any) -> dict[str, Any]:
    """Operations of a cluster whose worker has gone are followed by one stream each, then cancelled."""
    here.make_cluster(_IDLE)
    here.start_workers(_IDLE, ["idle-w0"], nothing_driver())
    made = here.make_instances(_IDLE, _WATCHERS, "watched")
    idle = here.workers.pop("idle-w0")
    idle.terminate()
    idle.wait(30)
    operations = [here.submit("pause", instance=instance).id for instance in made]
    told = ask("watch", operations=operations)
    return {
        "streams": len(told["late"]),
        "all_open_after_seconds": told["opened_seconds"],
        "late_p50_ms": _percentile(told["late"], 50),
        "late_p99_ms": _percentile(told["late"], 99),
    }


def _percentile(seconds: list[float], which: int) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, len(ordered) * which // 100)] * 1000


def _report(result: dict[str, Any]) -> None:
    best = result["accepted_per_second"]
    for turn in result["turns"]:
        processors = turn.pop("processor_ms")
        turn["processor_ms_per_operation"] = processors
        turn["processor_ms_of_all"] = sum(processors.values())
    rows = [
        {
            **{k: v for k, v in turn.items() if k != "processor_ms_per_operation"},
            "goal": ">= 300 accepted",
            "met": turn["accepted_per_second"] >= _PROMISED_ACCEPTED,
        }
        for turn in result["turns"]
    ]
    show(f"Operations over REST, best {best:.0f}/s", rows)
    last = result["turns"][-1]["processor_ms_per_operation"]
    show(
        "Processor ms of one operation, accepted to finished",
        [{"process": name, "ms": ms} for name, ms in last.items()],
    )
    reads = [{**row, "goal": "p99 < 50", "met": row["p99_ms"] < _PROMISED_READ_MS} for row in result["reads"]]
    show("Reads beside 10,000 instances", reads)
    watchers = result["watchers"]
    show("Watchers", [{**watchers, "goal": f"{_WATCHERS} streams", "met": watchers["streams"] >= _WATCHERS}])
    print(f"\nload of the machine, 1, 5, 15 minutes: {result['load']}")
