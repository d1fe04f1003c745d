"""The broker that the benchmarks run on: the tests' RabbitMQ, in a virtual host of this run alone."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from parts.rabbitmq import RabbitMQ

_ADDRESS = "FEDERATION_TEST_BROKER"


@dataclass(frozen=True, slots=True)
class Broker:
    """``url`` begins with ``amqp:``; ``version`` and ``pid`` are None where the broker is not ours to look into."""

    url: str
    version: str | None
    pid: int | None


@contextmanager
def own_broker() -> Iterator[Broker]:
    """A virtual host that ends with the run.

    A broker that the environment names and that is not ours is used as it is: it should be free of other managers, whose
    results this run's manager would take.
    """
    given = os.environ.pop(_ADDRESS, None)
    rabbitmq = RabbitMQ("rabbitmq")
    if given is not None and not (rabbitmq.facts and rabbitmq.url == given):
        os.environ[_ADDRESS] = given
        yield Broker(given, None, None)
        return
    rabbitmq.start()
    vhost = f"bench-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    url = rabbitmq.add_vhost(vhost)
    try:
        yield Broker(url, rabbitmq.facts["version"], _server_pid(rabbitmq))
    finally:
        rabbitmq.ctl("delete_vhost", vhost)


def _server_pid(rabbitmq: RabbitMQ) -> int | None:
    answered = rabbitmq.ctl("eval", "os:getpid().").strip().strip('"')
    return int(answered) if answered.isdigit() else None
