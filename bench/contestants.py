"""One process of one contestant: ``contestants.py server|client KIND URL TOPIC``.

It obeys lines of JSON on standard input and answers each with one line.  A server tells how many requests it has handled;
a client runs a load, ``{"how": "call" | "cast", "callers": n, "seconds": s}``, and tells what it measured.  Every contestant
carries the same request to the same kind of queue, durable and confirmed, and the answer to a call over a transient queue.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import oslo_messaging
from bare_loop import BareClient, BareServer
from oslo_config import cfg
from oslo_messaging._drivers.impl_rabbit import rabbit_opts

PAYLOAD = {"operation": "0" * 36, "name": "power_on", "arguments": {"instance": "1" * 36, "text": "x" * 100}}
PARTITIONS = 8
_RABBIT = {"rabbit_quorum_queue": True}
_ALL_QUORUM = {**_RABBIT, "rabbit_transient_quorum_queue": True}


@dataclass(frozen=True, slots=True)
class Kind:
    """How oslo.messaging is set up for one contestant."""

    scheme: str
    query: str = ""
    ordered: bool = False
    options: tuple[tuple[str, Any], ...] = ()


OSLO_KINDS = {
    "federation-ordered": Kind("federation", f"?partitions={PARTITIONS}", ordered=True),
    "federation-plain": Kind("federation"),
    "rabbit": Kind("rabbit", options=tuple(_RABBIT.items())),
    "rabbit-all-quorum": Kind("rabbit", options=tuple(_ALL_QUORUM.items())),
}
KINDS = (*OSLO_KINDS, "bare")


@dataclass(frozen=True, slots=True)
class Load:
    """What a client is asked to do."""

    how: str
    callers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Every finished request's seconds, and how long the whole took."""

    latencies: list[float]
    seconds: float


class OsloSide:
    """A transport, as the kind wants it."""

    def __init__(self, kind: Kind, url: str) -> None:
        self.kind = kind
        conf = cfg.CONF  # oslo.messaging's tracing reads its options from the global one only
        conf([], project="bench")
        conf.register_opts(rabbit_opts, group="oslo_messaging_rabbit")
        for name, value in kind.options:
            conf.set_override(name, value, group="oslo_messaging_rabbit")
        self.transport = oslo_messaging.get_rpc_transport(conf, kind.scheme + url.removeprefix("amqp") + kind.query)


class Endpoint:
    """Counts."""

    def __init__(self) -> None:
        self.handled = 0
        self._counting = threading.Lock()

    def step(self, _context: dict[str, Any], payload: dict[str, Any]) -> dict[str, Any]:
        """Give the payload back."""
        with self._counting:
            self.handled += 1
        return payload


class OsloServer(OsloSide):
    """An RPC server with oslo.messaging's threading executor."""

    def __init__(self, kind: Kind, url: str, topic: str) -> None:
        super().__init__(kind, url)
        self._endpoint = Endpoint()
        target = oslo_messaging.Target(topic=topic, server=f"server-{topic}")
        self._server = oslo_messaging.get_rpc_server(self.transport, target, [self._endpoint])
        self._server.start()

    @property
    def handled(self) -> int:
        """Requests so far."""
        return self._endpoint.handled

    def close(self) -> None:
        """Stop."""
        self._server.stop()
        self._server.wait()
        self.transport.cleanup()


class OsloClient(OsloSide):
    """An RPC client; one thread per caller."""

    def __init__(self, kind: Kind, url: str, topic: str) -> None:
        super().__init__(kind, url)
        target = oslo_messaging.Target(topic=topic)
        self._client = oslo_messaging.get_rpc_client(self.transport, target, timeout=60)

    def run(self, load: Load) -> Measured:
        """All callers at once, each its next request when the last is done."""
        send = self._client.call if load.how == "call" else self._client.cast
        start = threading.Barrier(load.callers + 1)
        latencies: list[list[float]] = [[] for _ in range(load.callers)]
        threads = [
            threading.Thread(target=_caller, args=(start, send, self._context(number), load.seconds, latencies[number]))
            for number in range(load.callers)
        ]
        for thread in threads:
            thread.start()
        start.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        return Measured([one for each in latencies for one in each], time.perf_counter() - began)

    def _context(self, number: int) -> dict[str, Any]:
        return {"ordering_key": f"instance-{number}"} if self.kind.ordered else {}

    def close(self) -> None:
        """Disconnect."""
        self.transport.cleanup()


def _caller(
    start: threading.Barrier,
    send: Callable[..., Any],
    context: dict[str, Any],
    seconds: float,
    latencies: list[float],
) -> None:
    start.wait()
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        send(context, "step", payload=PAYLOAD)
        latencies.append(time.perf_counter() - began)


def summary(measured: Measured) -> dict[str, float]:
    """Throughput per second, and latencies in milliseconds."""
    ordered = sorted(measured.latencies)
    if not ordered:
        return {"count": 0, "per_second": 0.0, "p50_ms": float("inf"), "p99_ms": float("inf")}
    return {
        "count": len(ordered),
        "per_second": len(ordered) / measured.seconds,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
    }


def open_side(role: str, kind: str, url: str, topic: str) -> Any:
    """The server or client of a kind."""
    if kind == "bare":
        side = BareServer if role == "server" else BareClient
        return side(url, topic, PARTITIONS, PAYLOAD)
    chosen = OSLO_KINDS[kind]
    return OsloServer(chosen, url, topic) if role == "server" else OsloClient(chosen, url, topic)


def main(role: str, kind: str, url: str, topic: str) -> None:
    """Obey until standard input ends."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    side = open_side(role, kind, url, topic)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        if role == "server":
            answer: dict[str, float] = {"handled": side.handled}
        else:
            answer = summary(side.run(Load(**json.loads(line))))
        print(json.dumps(answer), flush=True)
    side.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
