"""What the bus's tests share: waiting for a condition, recording callbacks, a network that can be broken."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from federation.bus.link import Binding, Consumption, Delivery, Exchange, Link, Publication, PublishResult, Queue

PATIENCE_SECONDS = 20.0
QUORUM = {"x-queue-type": "quorum"}
ORDERED = {**QUORUM, "x-single-active-consumer": True}


def eventually(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a condition holds, or fail saying what never came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.005)


@dataclass
class Place:
    """A queue of its own with an exchange that leads to it."""

    link: Link
    name: str

    @property
    def exchange(self) -> str:
        return f"{self.name}.exchange"

    def declare(self, **arguments: object) -> Place:
        self.link.declare(self.items(**arguments))
        return self

    def items(self, **arguments: object) -> list[Exchange | Queue | Binding]:
        queue = Queue(self.name, arguments=arguments)
        return [Exchange(self.exchange, "direct"), queue, Binding(self.exchange, self.name, "key")]

    def publication(self, body: bytes = b"body", **more: object) -> Publication:
        return Publication(self.exchange, "key", body, **more)

    def send(self, *bodies: bytes, **more: object) -> Settled:
        """Publish in order through the declaring link and wait for all confirms."""
        settled = Settled()
        for body in bodies:
            self.link.publish(self.publication(body, **more), settled)
        eventually(lambda: len(settled.results) == len(bodies), f"{len(bodies)} publications are settled")
        return settled

    def depth(self) -> tuple[int, int] | None:
        return self.link.queue_depth(self.name)


@dataclass
class Settled:
    """Collects what became of publications."""

    results: list[PublishResult] = field(default_factory=list)

    def __call__(self, result: PublishResult) -> None:
        self.results.append(result)


class Reader:
    """A consumer that records everything and settles what and when it is told to."""

    def __init__(
        self,
        link: Link,
        queues: Sequence[str] | str,
        *,
        prefetch: int = 10,
        priority: int = 0,
        settle: str = "ack",
        no_ack: bool = False,
    ) -> None:
        self.deliveries: list[Delivery] = []
        self.losses: list[tuple[str, str | None]] = []
        self.threads: set[int] = set()
        self._settle = settle
        names = [queues] if isinstance(queues, str) else queues
        self.subscription = link.subscribe([], prefetch, self._take, self._lost)
        for name in names:
            self.subscription.add(Consumption(name, priority, no_ack=no_ack))

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    def wait_for(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[Delivery]:
        eventually(lambda: len(self.deliveries) >= count, f"{count} deliveries", seconds)
        return self.deliveries

    def ack(self, *indexes: int) -> None:
        for index in indexes:
            self.subscription.ack(self.deliveries[index])

    def close(self) -> None:
        self.subscription.close(10.0)

    def _take(self, delivery: Delivery) -> None:
        self.threads.add(threading.get_ident())
        self.deliveries.append(delivery)
        if self._settle == "ack":
            self.subscription.ack(delivery)
        elif self._settle == "reject":
            self.subscription.reject(delivery)

    def _lost(self, reason: str, queue: str | None) -> None:
        self.losses.append((reason, queue))


class TcpProxy:
    """A network between a link and its broker: it can be cut (connections reset) or frozen (nothing gets through)."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0)
        self.port = self._listener.getsockname()[1]
        self.accepted = 0
        self._frozen = threading.Event()
        self._cut = threading.Event()
        self._refusing = threading.Event()
        self._ended = threading.Event()
        self._orphaning = threading.Event()
        self._clients: set[socket.socket] = set()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def freeze(self) -> None:
        """Swallow nothing, forward nothing: both sides wait."""
        self._frozen.set()

    def thaw(self) -> None:
        self._frozen.clear()

    def cut(self) -> None:
        """Close every connection."""
        self._cut.set()
        eventually(lambda: not self._cut.is_set(), "the proxy has cut its connections")

    def orphan(self) -> None:
        """Close the clients' sides only: the broker does not learn that they have gone."""
        self._orphaning.set()
        eventually(lambda: not self._orphaning.is_set(), "the proxy has left its clients")

    def refuse(self) -> None:
        """Close new connections at once, and cut those that stand."""
        self._refusing.set()
        self.cut()

    def accept(self) -> None:
        self._refusing.clear()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._ended.is_set():
            if self._cut.is_set():
                self._drop_all()
                self._cut.clear()
            if self._orphaning.is_set():
                self._drop(*[each for each in self._pairs if each in self._clients])
                self._orphaning.clear()
            for key, _ in self._selector.select(0.01):
                if key.fileobj is self._listener:
                    self._connect()
                elif not self._frozen.is_set():
                    self._forward(key.fileobj)
            if self._frozen.is_set():
                self._ended.wait(0.01)
        self._drop_all()
        self._selector.close()
        self._listener.close()

    def _connect(self) -> None:
        client, _ = self._listener.accept()
        if self._refusing.is_set():
            client.close()
            return
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        self.accepted += 1
        self._clients.add(client)
        for one, other in ((client, server), (server, client)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, source: socket.socket) -> None:
        target = self._pairs.get(source)
        if target is None:
            return
        try:
            data = source.recv(65536)
            if data:
                if target in self._pairs:
                    target.sendall(data)
                return
        except OSError:
            data = b""
        self._drop(source, target)

    def _drop(self, *socks: socket.socket) -> None:
        for sock in socks:
            if self._pairs.pop(sock, None) is not None:
                self._selector.unregister(sock)
                sock.close()

    def _drop_all(self) -> None:
        self._drop(*list(self._pairs))
