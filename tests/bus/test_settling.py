from __future__ import annotations

from federation.bus.link import Delivery
from federation.bus.settling import Settler


class _Subscription:
    def __init__(self) -> None:
        self.settled: list[tuple[str, object]] = []

    def ack(self, delivery: Delivery) -> None:
        self.settled.append(("ack", delivery.tag))

    def reject(self, delivery: Delivery) -> None:
        self.settled.append(("reject", delivery.tag))

    def close(self, timeout: float) -> None:
        self.settled.append(("close", timeout))


def _delivery(tag: int) -> Delivery:
    return Delivery("q", tag, b"", "x", "k", {}, None, None, None, None, None, redelivered=False, delivery_count=0)


def test_what_is_settled_before_the_subscription_stands_is_settled_then_in_order():
    settler, subscription = Settler(), _Subscription()
    settler.ack(_delivery(1))
    settler.reject(_delivery(2))
    assert subscription.settled == []
    settler.attach(subscription)
    settler.ack(_delivery(3))
    assert subscription.settled == [("ack", 1), ("reject", 2), ("ack", 3)]


def test_closing_what_never_stood_does_nothing_and_what_stands_is_closed():
    settler, subscription = Settler(), _Subscription()
    settler.close(1.0)
    settler.attach(subscription)
    settler.close(2.0)
    assert subscription.settled == [("close", 2.0)]
