"""A worker process: driver, bus and the worker's loop put together."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from federation.bootstrap.topics import ADMISSION_TOPIC, START_TIMEOUT, query_topic, worker_prefix
from federation.bus import topology
from federation.bus.connect import open_link
from federation.bus.errors import BusError
from federation.bus.link import Link, PublishResult
from federation.bus.ordered import AnswerReceiver, CommandConsumer, ResultSender
from federation.bus.rpc import Rpc
from federation.contract import errors
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.observe.tracing import WorkerTracing, is_on
from federation.protocol.admission import Admission, Announcement, Departure, Heartbeat, HeartbeatAnswer
from federation.protocol.envelope import Answer, Progress, Question, Report
from federation.protocol.queries import QueryError, QueryReply, error_from_wire
from federation.worker.drivers import find_driver, open_driver, read_settings
from federation.worker.errors import ExitCode, SettingsInvalid, Unavailable
from federation.worker.ports import Commands, OnCommand, OnLost, Ports
from federation.worker.settings import WorkerSettings
from federation.worker.worker import Worker

log = logging.getLogger(__name__)

_MANAGER_TIMEOUT = 10.0


class _Sender:
    """The worker's port ``Sender`` on the bus."""

    def __init__(self, link: Link) -> None:
        self._sender = ResultSender(link)

    def ask(self, question: Question) -> None:
        """A question that the bus does not take is asked again later, like one that was lost."""
        try:
            self._sender.ask(question)
        except BusError as error:
            log.warning("question not sent, it is sent again operation=%s: %s", question.operation, error)

    def report(self, report: Report, on_settled: Callable[[bool], None]) -> None:
        """A report that the bus does not take is as uncertain as one that it lost."""
        try:
            self._sender.report(report, lambda result: on_settled(result is PublishResult.CONFIRMED))
        except BusError as error:
            log.warning("outcome not sent, it is sent again operation=%s: %s", report.operation, error)
            on_settled(False)  # noqa: FBT003 (the port's callback takes one truth)

    def progress(self, progress: Progress) -> None:
        """Progress may be lost."""
        try:
            self._sender.progress(progress)
        except BusError as error:
            log.info("progress not sent operation=%s: %s", progress.operation, error)


class _Manager:
    """The worker's port ``ManagerClient`` on remote calls."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def admit(self, announcement: Announcement) -> Admission:
        """Ask to join."""
        return msgspec.convert(self._call("admit", announcement), Admission)

    def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Say that the worker lives."""
        return msgspec.convert(self._call("heartbeat", heartbeat), HeartbeatAnswer)

    def leave(self, departure: Departure) -> None:
        """Say that the worker leaves."""
        self._call("leave", departure)

    def _call(self, method: str, message: msgspec.Struct) -> Any:
        arguments: dict[str, Any] = msgspec.to_builtins(message)
        try:
            reply = msgspec.convert(self._rpc.call(ADMISSION_TOPIC, method, arguments, _MANAGER_TIMEOUT), QueryReply)
            if reply.error is not None:
                raise error_from_wire(reply.error)
        except errors.Unavailable as error:
            raise Unavailable(error.message) from error
        return (reply.result or {}).get("value")


@dataclass(slots=True)
class RunningWorker:
    """A worker with its connections, ready to run in the main thread."""

    worker: Worker
    link: Link
    rpc: Rpc

    def start(self) -> None:
        """Answer queries and join the cluster in the background."""
        settings = self.worker.settings
        self.rpc.serve(query_topic(settings.cluster), settings.worker, self._door, threads=settings.max_queries)
        self.worker.start()

    def run(self, on_ready: Callable[[], None]) -> int:
        """Run until SIGTERM or SIGINT drains it, or it ends by itself; returns the process's exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.worker.drain())
        try:
            self.start()
        except BaseException:
            self.rpc.close()
            self.link.close(1.0)
            raise
        on_ready()
        return int(self.finish())

    def finish(self) -> ExitCode:
        """Wait for the worker to end, then let go of the bus."""
        code = self.worker.run_until_stopped()
        self.rpc.close()
        self.link.close(self.worker.settings.close_timeout)
        return code

    def _door(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The query lane's door: an Outcome becomes a QueryReply."""
        if method != "query" or not {"name", "arguments"} <= arguments.keys():
            error = QueryError(
                code=errors.InvalidRequest.code, message=f"method {method!r} is not known; known is: query"
            )
            refused: dict[str, Any] = msgspec.to_builtins(QueryReply(error=error))
            return refused
        handled = self.worker.queries.handle(arguments["name"], arguments.get("revision", 1), arguments["arguments"])
        outcome = msgspec.convert(handled, Outcome)
        if outcome.kind is OutcomeKind.SUCCEEDED:
            reply = QueryReply(result=outcome.result)
        else:
            code = outcome.code or errors.DriverBug.code
            reply = QueryReply(error=QueryError(code=code, message=outcome.message, detail=outcome.detail))
        answer: dict[str, Any] = msgspec.to_builtins(reply)
        return answer


def prepare_worker(
    broker_url: str, driver_name: str, driver_config: Path | None, settings: WorkerSettings
) -> RunningWorker:
    """Find and open the driver, connect, and put a worker together; raises WorkerError or BusError."""
    try:
        topology.answers_queue(settings.cluster, settings.worker)
    except ValueError as error:
        raise SettingsInvalid(str(error)) from error
    driver_class = find_driver(driver_name)
    return make_worker(broker_url, driver_class, read_settings(driver_config, driver_class), settings)


def make_worker(broker_url: str, driver_class: Any, driver_settings: Any, settings: WorkerSettings) -> RunningWorker:
    """A worker of a driver class that is at hand."""
    driver = open_driver(driver_class, driver_settings, settings.cluster)
    link = open_link(broker_url, f"worker {settings.worker}")
    try:
        link.start(START_TIMEOUT)
        own = worker_prefix(settings.cluster, settings.worker)
        rpc = Rpc(broker_url, own, confined=settings.confined)
    except BaseException:
        link.close(1.0)
        driver.driver.close()
        raise

    def open_answers(on_answer: Callable[[Answer], None]) -> AnswerReceiver:
        receiver = AnswerReceiver(link, settings.cluster, settings.worker, on_answer, confined=settings.confined)
        _unless_bus_fails(receiver.start)
        return receiver

    def open_commands(admission: Admission, on_command: OnCommand, on_lost: OnLost) -> Commands[Any]:
        consumer = CommandConsumer(
            link,
            settings.cluster,
            admission.epoch,
            admission.partitions,
            settings.worker,
            admission.prefetch,
            on_command,
            on_lost,
        )
        return _Commands(consumer)

    ports = Ports(
        sender=_Sender(link),
        manager=_Manager(rpc),
        open_answers=open_answers,
        open_commands=open_commands,
        tracing=WorkerTracing(settings.worker) if is_on() else None,
    )
    return RunningWorker(Worker(settings, driver, ports), link, rpc)


class _Commands:
    """The worker's port ``Commands`` on the bus."""

    def __init__(self, consumer: CommandConsumer) -> None:
        self._consumer = consumer
        self.ack = consumer.ack
        self.reject = consumer.reject

    def start(self) -> None:
        """Consume."""
        _unless_bus_fails(self._consumer.start)

    def close(self, timeout: float) -> None:
        """Close the channel."""
        _unless_bus_fails(lambda: self._consumer.close(timeout))


def _unless_bus_fails(act: Callable[[], None]) -> None:
    try:
        act()
    except BusError as error:
        raise Unavailable(str(error)) from error


def default_worker_id(cluster: str) -> str:
    """A name for a worker that was given none: cluster, host and process."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:40]
    return f"{cluster}-{host}-{os.getpid()}"
