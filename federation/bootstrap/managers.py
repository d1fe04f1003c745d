"""A manager process: store, bus and use cases put together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from federation.bootstrap.topics import ADMISSION_TOPIC, MANAGER_TOPIC, START_TIMEOUT, manager_prefix, query_topic
from federation.bus import topology
from federation.bus.connect import open_link
from federation.bus.errors import BusError
from federation.bus.link import Link, PublishResult
from federation.bus.ordered import AnswerSender, CommandPublisher, DeadLetter, DeadLetterConsumer, ResultsConsumer
from federation.bus.rpc import Rpc
from federation.contract.errors import Unavailable
from federation.contract.struct_types import prepare_types
from federation.manager.door import AdmissionDoor, ManagerDoor
from federation.manager.manager import Manager, ManagerBus
from federation.manager.ports import Leftover
from federation.manager.settings import ManagerSettings
from federation.observe.tracing import ManagerTracing, is_on
from federation.protocol.envelope import Answer, Command
from federation.protocol.errors import StoreUnavailable
from federation.store import open_store

log = logging.getLogger(__name__)
_T = TypeVar("_T")


class _Commands:
    """The manager's port ``Commands`` on the bus."""

    def __init__(self, link: Link, tracing: ManagerTracing | None) -> None:
        self._publisher = CommandPublisher(link)
        self._tracing = tracing

    def publish(self, command: Command, on_settled: Callable[[bool], None]) -> None:
        """A publication that the bus does not even take is as uncertain as one that it lost."""
        if self._tracing is not None:
            on_settled = _traced(self._tracing, command, on_settled)
        try:
            self._publisher.publish(command, lambda result: on_settled(result is PublishResult.CONFIRMED))
        except BusError as error:
            log.warning("operation=%s not published, it is tried again: %s", command.operation, error)
            on_settled(False)  # noqa: FBT003 (the port's callback takes one truth)


def _traced(tracing: ManagerTracing, command: Command, on_settled: Callable[[bool], None]) -> Callable[[bool], None]:
    span = tracing.publishing(command)

    def settled(certain: bool) -> None:  # noqa: FBT001 (the port's callback has this form)
        tracing.published(span, certain=certain)
        on_settled(certain)

    return settled


class _Answers:
    """The manager's port ``Answers`` on the bus; an answer may be lost, the worker asks again."""

    def __init__(self, link: Link) -> None:
        self._sender = AnswerSender(link)

    def answer(self, cluster: str, worker: str, answer: Answer) -> None:
        """Send, and say in the log if it could not be sent."""
        try:
            self._sender.answer(cluster, worker, answer)
        except BusError as error:
            log.warning("answer to worker=%s not sent, it asks again: %s", worker, error)


class _Queries:
    """The manager's port ``Queries`` on oslo.messaging."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def query(
        self, cluster: str, name: str, revision: int, arguments: Mapping[str, object], timeout: float
    ) -> dict[str, object]:
        """Any worker of the cluster answers."""
        request = {"name": name, "revision": revision, "arguments": dict(arguments)}
        return self._rpc.call(query_topic(cluster), "query", request, timeout)


class _Queues:
    """The manager's port ``ClusterQueues`` on the bus."""

    def __init__(self, link: Link, rpc: Rpc) -> None:
        self._link = link
        self._rpc = rpc

    def declare(self, cluster: str, epoch: int, partitions: int) -> None:
        """Declare a cluster's queues."""

        def act() -> None:
            topology.declare_cluster(self._link, cluster, epoch, partitions)
            self._rpc.provide(query_topic(cluster))

        self._try(cluster, "declared", act)

    def retire(self, cluster: str, epoch: int, partitions: int) -> None:
        """Delete a cluster's queues."""
        self._try(cluster, "deleted", lambda: topology.retire_cluster(self._link, cluster, epoch, partitions))

    def restore(self, cluster: str, epoch: int, partitions: int) -> None:
        """Declare what is shared, then a cluster's queues."""
        self._try(cluster, "declared", lambda: topology.declare_shared(self._link))
        self.declare(cluster, epoch, partitions)

    def leave(self, cluster: str, epoch: int, partitions: int) -> None:
        """Declare an epoch's queues no more after a reconnect."""
        self._try(cluster, "left", lambda: topology.leave_epoch(self._link, cluster, epoch, partitions))

    def leftover(self, cluster: str, epoch: int, partitions: int) -> Leftover:
        """Look at each of an epoch's queues."""
        depth = self._try(cluster, "read", lambda: topology.epoch_depth(self._link, cluster, epoch, partitions))
        return Leftover(*depth)

    def delete(self, cluster: str, epoch: int, partitions: int) -> None:
        """Delete an epoch's queues."""
        self._try(cluster, "deleted", lambda: topology.delete_epoch(self._link, cluster, epoch, partitions))

    def _try(self, cluster: str, what: str, act: Callable[[], _T]) -> _T:
        """The broker's refusal becomes ``unavailable``."""
        try:
            return act()
        except BusError as error:
            message = f"the queues of cluster {cluster!r} could not be {what}: {error}"
            raise Unavailable(message, cluster=cluster) from error


@dataclass(slots=True)
class RunningManager:
    """A manager with its connections; ``stop`` in the end."""

    manager: Manager
    door: ManagerDoor
    link: Link
    rpc: Rpc
    results: ResultsConsumer
    dead_letters: DeadLetterConsumer

    def stop(self, timeout: float = 10.0) -> None:
        """Stop in the order that loses nothing: no new requests, no new results, what is confirmed is written."""
        self.rpc.stop_serving()
        self.results.close(timeout)
        self.dead_letters.close(timeout)
        self.manager.stop(timeout)
        self.rpc.close()
        self.link.close(timeout)
        self.manager.store.close()


def run_manager(broker_url: str, store_url: str, settings: ManagerSettings | None = None) -> RunningManager:
    """Start a manager, or leave nothing behind: BusError, StoreUnavailable, StoreError, or Unavailable for its queues."""
    prepare_types()
    settings = settings or ManagerSettings()
    with ExitStack() as undo:
        store = open_store(store_url)
        undo.callback(store.close)
        link = open_link(broker_url, f"manager {settings.id}")
        undo.callback(link.close, 1.0)
        link.start(START_TIMEOUT)
        topology.declare_shared(link)
        rpc = Rpc(broker_url, manager_prefix(settings.id))
        undo.callback(rpc.close)
        tracing = ManagerTracing() if is_on() else None
        bus = ManagerBus(_Commands(link, tracing), _Answers(link), _Queries(rpc), _Queues(link, rpc))
        manager = Manager(store, bus, settings)
        manager.submitting.tracing = tracing
        results = ResultsConsumer(link, settings.id, manager.results.on_result, _log_lost)
        dead = DeadLetterConsumer(link, _DeadLetters(manager).take)
        running = RunningManager(manager, ManagerDoor(manager), link, rpc, results, dead)
        manager.start(results)
        undo.pop_all()
        undo.callback(running.stop, 1.0)
        results.start()
        dead.start()
        rpc.serve_checked(ADMISSION_TOPIC, settings.id, AdmissionDoor(manager).call)
        rpc.serve(MANAGER_TOPIC, settings.id, running.door.call)
        undo.pop_all()
    return running


def _log_lost(reason: str, queue: object) -> None:
    log.warning("results queue=%s lost: %s; what was held comes again", queue or "all", reason)


def _home(command: Command) -> str | None:
    """The one queue that a copy of this command can die in."""
    try:
        return topology.command_queue(command.cluster, command.epoch, command.partition)
    except ValueError:
        return None


class _DeadLetters:
    """Applies dead letters; one that cannot be applied now stays on the queue."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def take(self, letter: DeadLetter) -> None:
        """Called by the consumer in a thread that may wait for the store."""
        command = letter.command
        if command is None:
            log.error("foreign or unreadable message dead-lettered from queue=%s: %s", letter.queue, letter.reason)
            letter.ack()
            return
        if letter.queue != _home(command):
            told = (letter.queue, command.operation, letter.reason)
            log.error("dead letter from queue=%.120s names operation=%.80s, which was never there: ignored (%s)", *told)
            letter.ack()
            return
        try:
            self._manager.dead_lettered(command, letter.reason)
        except StoreUnavailable as error:
            log.warning("store unavailable, dead letter of operation=%s waits: %s", command.operation, error)
            return
        letter.ack()
