"""A whole installation in the kit's process: manager, embedded broker, two workers of the driver under test, and mischief.

The mischief sits on the manager's link and does to its commands what a broker and a network may do: copies, losses that
are told, losses that are not, stale copies behind newer ones, and another order.
"""

from __future__ import annotations

import enum
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_random

from federation.bootstrap.managers import run_manager
from federation.bootstrap.workers import RunningWorker, make_worker
from federation.bus.link import Publication, PublishResult
from federation.bus.topology import COMMANDS
from federation.conformance.bench import Bench
from federation.conformance.target import convert_settings, driver_class
from federation.manager.settings import ManagerSettings
from federation.manager.submission import Submission
from federation.protocol.answer_table import Limits
from federation.protocol.lease import LeaseTerms
from federation.protocol.records import OperationRecord, OperationState
from federation.worker.settings import WorkerSettings

LEASE = LeaseTerms(lease=1.0, margin=0.25)
READY_SECONDS = 30.0
_LIVING = {OperationState.QUEUED, OperationState.RUNNING}
Settled = Callable[[PublishResult], None] | None


class Mischief(enum.StrEnum):
    """What happens to the commands on their way."""

    NONE = "none"
    COPIES = "copies"
    """Each arrives three times."""
    LOST = "lost"
    """Each first publication is lost, and the manager is told so."""
    SWALLOWED = "swallowed"
    """Every second first publication is confirmed and never arrives: a gap, or nothing at all."""
    STALE = "stale"
    """Behind each, everything that was sent before arrives again."""
    REVERSED = "reversed"
    """Three wait for one another and arrive in the other order, confirmed at once."""


class Meddler:
    """Stands in for a link's ``publish``."""

    def __init__(self, publish: Callable[..., None], mischief: Mischief) -> None:
        self._publish = publish
        self._mischief = mischief
        self._sent: list[Publication] = []
        self._seen: set[str] = set()
        self._held: list[Publication] = []
        self._changing = threading.Lock()

    def publish(self, publication: Publication, on_settled: Settled = None, *, more: bool = False) -> None:
        """Send what the mischief leaves of it; everything but commands goes untouched."""
        if publication.exchange != COMMANDS.name or self._mischief is Mischief.NONE:
            self._publish(publication, on_settled, more=more)
            return
        with self._changing:
            first = self._is_first(publication)
            self._sent.append(publication)
            earlier = self._sent[-20:-1]
        match self._mischief:
            case Mischief.LOST if first:
                self._settle(on_settled, PublishResult.LOST)
            case Mischief.SWALLOWED if first and len(self._seen) % 2:
                self._settle(on_settled, PublishResult.CONFIRMED)
            case Mischief.REVERSED if first:
                self._settle(on_settled, PublishResult.CONFIRMED)
                self._hold(publication)
            case _:
                self._publish(publication, on_settled, more=more)
                copies = {Mischief.COPIES: [publication] * 2, Mischief.STALE: earlier}.get(self._mischief, [])
                for copy in copies:
                    self._publish(copy)

    def _is_first(self, publication: Publication) -> bool:
        operation = str(publication.message_id).partition(".")[0]
        new = operation not in self._seen
        self._seen.add(operation)
        return new

    def _hold(self, publication: Publication) -> None:
        with self._changing:
            self._held.append(publication)
            if len(self._held) < 3:  # noqa: PLR2004 (Mischief.REVERSED)
                return
            held, self._held = self._held, []
        for one in reversed(held):
            self._publish(one)

    def _settle(self, on_settled: Settled, result: PublishResult) -> None:
        if on_settled is not None:
            # As a broker's answer does, it comes from another thread than the publisher's.
            threading.Thread(target=on_settled, args=(result,), name="mischief", daemon=True).start()


class Installation:
    """Use it as a context; the driver runs in this process, because the embedded broker does."""

    def __init__(self, bench: Bench, folder: Path, mischief: Mischief = Mischief.NONE, workers: int = 2) -> None:
        self._target = target = bench.target
        self._driver = bench.description.driver
        self._url = f"federation+memory://conformance-{uuid.uuid4().hex[:8]}"
        self._cluster = target.conformance.cluster
        settings = ManagerSettings(
            id="conformance", limits=Limits(grants=20, terms=LEASE), sweep_every=0.5, sweep_after=2.0,
            worker_timeout=6.0, heartbeat_every=1.0, publish_retry=0.1,
        )  # fmt: skip
        self._manager = run_manager(self._url, f"sqlite:///{folder / 'manager.sqlite'}", settings)
        link: Any = self._manager.link
        link.publish = Meddler(link.publish, mischief).publish
        self._crews: list[tuple[RunningWorker, threading.Thread]] = []
        self._count = workers

    def __enter__(self) -> Self:
        """Make the cluster, start the workers and wait until all are admitted; AssertionError when they are not."""
        self._manager.manager.estate.create_cluster(self._cluster, self._driver, 4)
        for number in range(self._count):
            worker = WorkerSettings(worker=f"{self._cluster}-{number}", cluster=self._cluster)
            made = driver_class(self._target.driver)
            running = make_worker(self._url, made, convert_settings(self._target), worker)
            running.start()
            thread = threading.Thread(target=running.finish, name=worker.worker, daemon=True)
            thread.start()
            self._crews.append((running, thread))
        self._until(self._all_admitted, READY_SECONDS, "the workers are admitted")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        for running, _thread in self._crews:
            running.worker.stop("the case is over")
        for _running, thread in self._crews:
            thread.join(10.0)
        self._manager.stop()

    def submit(self, name: str, arguments: dict[str, Any], deadline_seconds: float | None = None) -> str:
        """Accept an operation; returns its id."""
        submission = Submission(
            name=name, arguments=arguments, cluster=self._cluster, deadline_seconds=deadline_seconds
        )
        return str(self._manager.manager.submitting.submit(submission).id)

    def drop_a_worker(self) -> None:
        """Cut a worker's connection for good, in the middle of whatever it does."""
        running, _thread = self._crews[0]
        running.link.close(0.0)

    def settled(self, operations: list[str]) -> list[OperationRecord]:
        """Wait for all of them to have an outcome; AssertionError names those that have none."""
        seconds = 2 * self._target.conformance.operation_seconds

        def look() -> list[OperationRecord]:
            return [self._manager.manager.operating.operation(one) for one in operations]

        def all_settled() -> bool:
            return all(record.state not in _LIVING for record in look())

        self._until(
            all_settled, seconds, "every operation is settled", lambda: [str(record.state) for record in look()]
        )
        return look()

    def _all_admitted(self) -> bool:
        admitted = [one for one in self._manager.manager.admitting.workers() if one.state == "admitted"]
        return len(admitted) == self._count and bool(self._manager.manager.estate.nodes())

    def _until(
        self, look: Callable[[], bool], seconds: float, what: str, told: Callable[[], object] | None = None
    ) -> None:
        looking = Retrying(
            retry=retry_if_result(lambda seen: not seen), stop=stop_after_delay(seconds), wait=wait_random(0.02, 0.06)
        )
        began = time.monotonic()
        try:
            looking(look)
        except RetryError as error:
            more = f": {told()}" if told else ""
            raise AssertionError(f"in {time.monotonic() - began:.0f} s it was not seen that {what}{more}") from error
