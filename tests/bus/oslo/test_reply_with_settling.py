"""A reply and the settling of its request travel together, the reply first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from federation.bus.link import Delivery, Link, Publication, PublishResult
from federation.bus.memory.link import MemoryLink
from federation.bus.oslo.body import Request
from federation.bus.oslo.incoming import Held, OrderedRequest, RpcRequest
from federation.bus.oslo.later import Later
from federation.bus.oslo.reply_sender import ReplySender
from federation.bus.oslo.tenure import Tenure


class Seen(MemoryLink):
    """Writes down what is asked of a link, and of the listener."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def publish(
        self,
        publication: Publication,
        on_settled: Callable[[PublishResult], None] | None = None,
        *,
        more: bool = False,
    ) -> None:
        self.done.append("reply, more follows" if more else "reply")

    def begun(self, held: Held) -> bool:
        self.done.append("settled")
        return True

    def finished(self, held: Held, key: str) -> None:
        self.done.append("settled")

    def skipped(self, key: str) -> None:
        self.done.append("skipped")

    def soon(self, work: Callable[[], None]) -> None:
        self.done.append("soon")


@pytest.fixture
def later() -> Iterator[Later]:
    later = Later("test")
    yield later
    later.close()


def _held() -> Held:
    delivery = Delivery(
        "queue", (1, 1), b"", "x", "k", {}, "id", "1", "replies", None, "application/msgpack", False, 0  # noqa: FBT003
    )  # fmt: skip
    return Held(delivery, Request({"ordering_key": "a"}, {"method": "m"}, None), Tenure())


def test_an_ordered_reply_waits_for_the_settling_that_follows_it(later: Later) -> None:
    seen = Seen()
    link: Link = seen
    request = OrderedRequest(_held(), seen, ReplySender(link, "replies", later, 1.0), 1000)
    request.acknowledge()
    request.reply("result")
    assert seen.done == ["reply, more follows", "settled"]


def test_a_plain_reply_leaves_at_once(later: Later) -> None:
    seen = Seen()
    link: Link = seen
    request = RpcRequest(_held(), seen, ReplySender(link, "replies", later, 1.0), 1000)
    request.acknowledge()
    request.reply("result")
    assert seen.done == ["settled", "reply"]
