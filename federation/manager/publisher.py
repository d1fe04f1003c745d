"""The publisher: carries accepted operations from the outbox to the broker by the publisher's rule.

One thread; it owns the decision core and talks to the store and the bus.  What other threads want of it they put into
its inbox.  It publishes only for the shards that this manager has claimed.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from federation.manager.ports import Commands
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store
from federation.protocol.envelope import Command
from federation.protocol.errors import StoreUnavailable
from federation.protocol.partition_map import shard_of
from federation.protocol.publishing import PublisherCore, Unsent
from federation.protocol.records import Outgoing, WaitingCopy

log = logging.getLogger(__name__)

_RECOVERY_CHUNK = 1000
_POLL_CHUNK = 1000
_SLOWEST_SWEEP = 6
_NEVER = (0, 0.0)
"""(times swept, not again before) of an operation that was not swept yet."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Operations were accepted, or have a new round."""

    outgoing: tuple[Outgoing, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """The broker answered for one copy; ``certain`` means that it has it."""

    command: Command
    certain: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """Operations have outcomes: (key, sequence)."""

    positions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Write down what is confirmed and end."""


Event = Accepted | Published | Settled | Stop


@dataclass(slots=True)
class PublisherCounters:
    """What the publisher has done since it started."""

    published: int = 0
    confirmed: int = 0
    republished: int = 0
    swept: int = 0


@dataclass(slots=True)
class _Timers:
    """When each periodic duty is due, on time.monotonic."""

    flush: float = 0.0
    poll: float = 0.0
    claim: float = 0.0
    sweep: float = 0.0
    retries: list[tuple[float, Command]] = field(default_factory=list)


class Publisher:
    """See the module."""

    def __init__(self, store: Store, commands: Commands, settings: ManagerSettings) -> None:
        self.counters = PublisherCounters()
        self.shards: frozenset[int] = frozenset()
        self._store = store
        self._commands = commands
        self._settings = settings
        self._core = PublisherCore()
        self._known: dict[tuple[str, int], Command] = {}
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._sendable: deque[Command] = deque()
        self._in_flight = 0
        self._confirmed: dict[tuple[str, int], None] = {}
        self._flushed: dict[tuple[str, int], None] = {}
        self._swept: dict[str, tuple[int, float]] = {}
        self._polled: tuple[str, int] | None = None
        self._timers = _Timers()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._stopping = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Write down what is confirmed and end the thread."""
        self._inbox.put(Stop())
        self._thread.join(timeout)

    def accepted(self, outgoing: Iterable[Outgoing]) -> None:
        """Operations wait to be published."""
        self._inbox.put(Accepted(tuple(outgoing)))

    def settled(self, positions: Iterable[tuple[str, int]]) -> None:
        """Operations have outcomes."""
        self._inbox.put(Settled(tuple(positions)))

    @property
    def backlog(self) -> int:
        """Operations that wait for the broker."""
        return len(self._known)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except StoreUnavailable as error:
                log.warning("store unavailable, publisher waits: %s", error)
                time.sleep(self._settings.publish_retry * random.uniform(0.5, 1.5))  # noqa: S311 (jitter)
            except Exception:
                log.exception("publisher turn failed; it goes on")
                time.sleep(self._settings.publish_retry)
        self._final_flush()

    def _turn(self) -> None:
        for event in self._wait():
            self._handle(event)
        now = time.monotonic()
        if self._confirmed and now >= self._timers.flush:
            self._flush()
            self._timers.flush = now + self._settings.confirm_flush
        if now >= self._timers.claim:
            self._claim()
            self._timers.claim = now + self._settings.claim_ttl / 3
        if now >= self._timers.poll:
            self._poll()
            self._timers.poll = now + self._settings.outbox_poll
        if now >= self._timers.sweep:
            self._timers.sweep = now + self._settings.sweep_every
            self._sweep()
        self._retry(now)
        self._send()

    def _wait(self) -> list[Event]:
        events: list[Event] = []
        try:
            events.append(self._inbox.get(timeout=self._until_due()))
            while len(events) < self._settings.max_in_flight:
                events.append(self._inbox.get_nowait())
        except queue.Empty:
            return events
        return events

    def _until_due(self) -> float:
        timers = self._timers
        due = [timers.claim, timers.poll, timers.sweep, *(when for when, _ in timers.retries)]
        if self._confirmed:
            due.append(timers.flush)
        return max(0.001, min(due) - time.monotonic())

    def _handle(self, event: Event) -> None:
        match event:
            case Accepted(outgoing):
                for item in outgoing:
                    self._accept(item)
            case Published(command, certain):
                self._in_flight -= 1
                self._published(command, certain=certain)
            case Settled(positions):
                for key, sequence in positions:
                    self._settle(key, sequence)
            case Stop():
                self._stopping = True

    def _settle(self, key: str, sequence: int) -> None:
        self._enqueue(key, self._core.settled(key, sequence))
        self._known.pop((key, sequence), None)

    def _accept(self, item: Outgoing) -> None:
        if item.shard not in self.shards:
            return
        command = item.command
        known = self._known.get((command.key, command.sequence))
        if known is not None and known.round >= command.round:
            return
        if (command.operation, command.round) in self._confirmed or (command.operation, command.round) in self._flushed:
            return  # a look into the outbox was faster than the word that it was accepted
        self._known[command.key, command.sequence] = command
        unsent = Unsent(command.operation, command.sequence, command.round)
        self._enqueue(command.key, self._core.accepted(command.key, unsent))

    def _published(self, command: Command, *, certain: bool) -> None:
        key, sequence = command.key, command.sequence
        if certain:
            self.counters.confirmed += 1
            self._confirmed[command.operation, command.round] = None
            if self._known.get((key, sequence)) is command:
                del self._known[key, sequence]
            self._enqueue(key, self._core.confirmed(key, sequence, command.round))
            return
        if self._core.failed(key, sequence, command.round) is None:
            return
        self._enqueue(key, self._core.pending(key))
        delay = self._settings.publish_retry * random.uniform(0.5, 1.5)  # noqa: S311 (jitter)
        self._timers.retries.append((time.monotonic() + delay, command))

    def _enqueue(self, key: str, unsent: Iterable[Unsent]) -> None:
        for item in unsent:
            command = self._known.get((key, item.sequence))
            if command is not None:
                self._sendable.append(command)

    def _send(self) -> None:
        while self._sendable and self._in_flight < self._settings.max_in_flight:
            command = self._sendable.popleft()
            self._in_flight += 1
            self.counters.published += 1
            try:
                self._commands.publish(command, partial(self._on_published, command))
            except Exception:
                # A copy that cannot even be handed over counts as lost; its line must not stand still.
                log.exception("operation=%s cannot be published", command.operation)
                self._on_published(command, certain=False)

    def _on_published(self, command: Command, certain: bool) -> None:  # noqa: FBT001 (the port's callback)
        self._inbox.put(Published(command, certain))

    def _flush(self) -> None:
        copies, self._confirmed = self._confirmed, {}
        try:
            with self._store.transaction() as transaction:
                transaction.confirmed(copies)
        except StoreUnavailable:
            self._confirmed = {**copies, **self._confirmed}
            raise
        self._flushed = copies

    def _final_flush(self) -> None:
        try:
            if self._confirmed:
                self._flush()
            self._store.release_shards(self._settings.id)
        except StoreUnavailable as error:
            log.warning("store unavailable at the end; another manager publishes again: %s", error)

    def _claim(self) -> None:
        owned = self._store.claim_shards(
            self._settings.id, time.time(), self._settings.claim_ttl, self._settings.releases
        )
        gained, given_up = owned - self.shards, self.shards - owned
        self.shards = owned
        if given_up:
            self._forget(given_up)
        if gained:
            log.info("claimed shards=%d gained=%d", len(owned), len(gained))
            self._recover(gained)

    def _forget(self, shards: frozenset[int]) -> None:
        lost = {key for (key, _), c in self._known.items() if shard_of(c.cluster, c.partition) in shards}
        self._core.forget(lost)
        for identity in [identity for identity in self._known if identity[0] in lost]:
            del self._known[identity]

    def _recover(self, shards: frozenset[int]) -> None:
        """What stood in the outbox of a new shard may or may not have been published: publish it in a new round."""
        after: tuple[str, int] | None = None
        while True:
            with self._store.transaction() as transaction:
                page = transaction.unpublished(shards, _RECOVERY_CHUNK, after)
                ids = [c.operation for c in (item.command for item in page) if (c.key, c.sequence) not in self._known]
                renewed = transaction.new_round(ids) if ids else []
            self.counters.republished += len(renewed)
            for item in renewed:
                self._accept(item)
            if len(page) < _RECOVERY_CHUNK:
                return
            after = (page[-1].command.key, page[-1].command.sequence)

    def _poll(self) -> None:
        """Operations that another manager accepted into our shards."""
        unflushed = self._confirmed.keys()
        with self._store.reading() as transaction:
            page = transaction.waiting_copies(self.shards, _POLL_CHUNK, self._polled)
            news = [c.operation for c in page if (c.operation, c.round) not in unflushed and self._is_news(c)]
            waiting = transaction.outgoing(news) if news else []
        # A long outbox is read page by page, one page each time, so that nobody's operations stay unseen behind others.
        self._polled = (page[-1].key, page[-1].sequence) if len(page) == _POLL_CHUNK else None
        for item in waiting:
            self._accept(item)

    def _is_news(self, copy: WaitingCopy) -> bool:
        known = self._known.get((copy.key, copy.sequence))
        return known is None or known.round < copy.round

    def _sweep(self) -> None:
        """Publish again what stays unsettled, ever less often: where the queue is merely long, copies do not help."""
        now = time.time()
        with self._store.transaction() as transaction:
            stuck = transaction.stuck(self.shards, now - self._settings.sweep_after, _RECOVERY_CHUNK)
            due = [operation for operation in stuck if self._swept.get(operation, _NEVER)[1] <= now]
            renewed = transaction.new_round(due) if due else []
        self._swept = {
            operation: state for operation, state in self._swept.items() if state[1] + self._settings.sweep_after > now
        }
        for operation in due:
            times = self._swept.get(operation, _NEVER)[0] + 1
            self._swept[operation] = (times, now + self._settings.sweep_after * 2 ** min(times, _SLOWEST_SWEEP))
        if renewed:
            self.counters.swept += len(renewed)
            log.warning(
                "published again operations=%d that stayed unsettled for %s s", len(renewed), self._settings.sweep_after
            )
        for item in renewed:
            self._accept(item)

    def _retry(self, now: float) -> None:
        due = [command for when, command in self._timers.retries if when <= now]
        if not due:
            return
        self._timers.retries = [(when, command) for when, command in self._timers.retries if when > now]
        try:
            with self._store.transaction() as transaction:
                renewed = transaction.new_round([command.operation for command in due])
        except StoreUnavailable:
            self._timers.retries.extend((now + self._settings.publish_retry, command) for command in due)
            raise
        self.counters.republished += len(renewed)
        again = {item.command.operation for item in renewed}
        for command in due:
            if command.operation not in again:
                # The copy had arrived after all, and its outcome was applied, maybe by another manager: go on behind it.
                self._settle(command.key, command.sequence)
        for item in renewed:
            self._accept(item)
