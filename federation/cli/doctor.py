"""``federation doctor``: what is wrong, part by part, each with the next move."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import msgspec

from federation.cli.examples import examples
from federation.cli.session import EXIT_FAILED, Session, pass_session
from federation.contract.errors import OperationError
from federation.protocol.partition_map import SHARDS

if TYPE_CHECKING:
    from federation.bootstrap.examining import BrokerFacts

_MARK = {"ok": "[green]ok  [/]", "warning": "[yellow]warn[/]", "failed": "[bold red]FAIL[/]"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    part: str
    verdict: str
    message: str
    next_move: str = ""


@click.command(epilog=examples("federation doctor", "federation doctor -o json"))
@pass_session
def doctor(session: Session, /) -> None:
    """Look at broker, queues, store, drivers, manager, workers and nodes, and say what is wrong.

    Through a context, broker and store are left to the manager's host. Ends with status 0 when nothing failed; warnings
    do not count.
    """
    findings: list[Finding] = []
    for finding in _examine(session):
        findings.append(finding)
        if session.is_table:
            session.console.print(f"{_MARK[finding.verdict]} ", end="")
            session.console.print(f"{finding.part}: {finding.message}", markup=False)
            if finding.next_move:
                session.console.print(f"       next: {finding.next_move}", markup=False)
    if not session.is_table:
        session.emit([{f: getattr(x, f) for f in Finding.__slots__} for x in findings])
    if any(finding.verdict == "failed" for finding in findings):
        raise click.exceptions.Exit(EXIT_FAILED)


def _examine(session: Session) -> Iterator[Finding]:
    from federation.bootstrap.installation import check_distribution

    yield _one("installation", lambda: Finding("installation", "ok", check_distribution()))
    yield from _drivers()
    if session.choice.context is not None:
        yield from _manager(session)
        return
    broker = _broker(session)
    yield broker[0]
    yield _one("store", lambda: _store(session.conf.manager.store))
    if broker[1] is None:
        return
    yield from _defects(broker[1])
    yield _shared_queues(broker[1])
    yield from _manager(session)


def _one(part: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
        return Finding(part, "failed", f"{type(error).__name__}: {error}")


def _store(url: str) -> Finding:
    from federation.bootstrap.examining import examine_store

    said = examine_store(url)
    if said is not None:
        return Finding("store", "ok", said)
    message = "there is no SQLite store on this machine (yet); a manager makes it where it runs"
    return Finding("store", "warning", message, "on the manager's machine: check FEDERATION_MANAGER_STORE")


def _drivers() -> Iterator[Finding]:
    from federation.bootstrap.examining import installed_drivers

    drivers = installed_drivers()
    if not drivers:
        yield Finding("drivers", "warning", "none is installed here", "pip install federation-driver-libvirt")
    for name, distribution in sorted(drivers.items()):
        yield Finding(f"driver {name}", "ok", f"installed by {distribution}")


def _broker(session: Session) -> tuple[Finding, BrokerFacts | None]:
    from federation.bootstrap.examining import examine_broker

    try:
        facts = examine_broker(session.conf.broker, session.timeout)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
        next_move = "check --broker or FEDERATION_BROKER, and that the broker runs"
        return Finding("broker", "failed", str(error), next_move), None
    return Finding("broker", "ok", f"{facts.version} answers"), facts


def _defects(facts: BrokerFacts) -> Iterator[Finding]:
    for defect in facts.known_defects:
        yield Finding("broker", "warning", defect, "upgrade the broker")


def _shared_queues(facts: BrokerFacts) -> Finding:
    if facts.shared_queues == SHARDS:
        waiting = f"{facts.waiting_results} results wait, {facts.dead_letters} dead letters"
        verdict = "warning" if facts.dead_letters else "ok"
        return Finding("queues", verdict, f"{SHARDS} results queues; {waiting}")
    message = f"{facts.shared_queues} of {SHARDS} results queues exist"
    return Finding("queues", "warning", message, "start a manager: it declares them")


def _manager(session: Session) -> Iterator[Finding]:
    try:
        clusters = session.ask("clusters")
        workers = session.ask("workers")
        counts = session.ask("counts")
        nodes = session.ask("nodes")
    except click.ClickException as error:
        yield Finding("manager", "failed", error.message, "start one: federation manager")
        return
    context = session.choice.context
    where = "over the broker" if context is None else f"at {context.url}"
    yield Finding("manager", "ok", f"answers {where}; {len(clusters)} clusters")
    for cluster in clusters:
        yield from _cluster(session, cluster, workers, counts.get(cluster["name"], {}), nodes)


def _cluster(
    session: Session,
    cluster: dict[str, object],
    workers: list[dict[str, object]],
    counts: dict[str, int],
    nodes: list[dict[str, object]],
) -> Iterator[Finding]:
    name = str(cluster["name"])
    live = [w for w in workers if w["cluster"] == name and w["state"] == "admitted"]
    start = f"federation worker --driver {cluster['driver']} --cluster {name}"
    if not live:
        yield Finding(f"cluster {name}", "failed", "no worker is running", start)
        return
    yield Finding(f"cluster {name}", "ok", f"{len(live)} workers, {counts.get('queued', 0)} operations queued")
    if counts.get("parked"):
        message = f"{counts['parked']} instances are parked"
        yield Finding(f"cluster {name}", "warning", message, "federation instance list; federation instance resolve")
    yield _probe(session, name)
    for node in nodes:
        facts = msgspec.convert(node["facts"], dict[str, object])
        if node["cluster"] == name and not facts["reachable"]:
            yield Finding(f"node {node['name']}", "failed", str(facts["message"]), "see to the node")


def _probe(session: Session, cluster: str) -> Finding:
    started = time.monotonic()
    try:
        report = session.ask("read", name="probe", cluster=cluster)
    except click.ClickException as error:
        return Finding(f"driver of {cluster}", "failed", error.message)
    except OperationError as error:
        return Finding(f"driver of {cluster}", "failed", error.message, error.next_move)
    took = f"{(time.monotonic() - started) * 1000:.0f} ms through the bus"
    if not report["reachable"]:
        return Finding(f"driver of {cluster}", "failed", f"hypervisor not reachable: {report['message']}")
    return Finding(f"driver of {cluster}", "ok", f"{report['hypervisor']} answers, {took}")
