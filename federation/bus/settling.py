"""Settling for consumers whose first delivery may come before ``subscribe`` has returned."""

from __future__ import annotations

import threading

from federation.bus.link import Delivery, Subscription


class Settler:
    """Passes acknowledgements and rejections on to a subscription, keeping them until there is one."""

    def __init__(self) -> None:
        self._subscription: Subscription | None = None
        self._early: list[tuple[Delivery, bool]] = []
        self._attaching = threading.Lock()

    def attach(self, subscription: Subscription) -> None:
        """The subscription stands."""
        with self._attaching:
            self._subscription = subscription
            early, self._early = self._early, []
        for delivery, reject in early:
            self._settle(subscription, delivery, reject=reject)

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge."""
        self._now_or_later(delivery, reject=False)

    def reject(self, delivery: Delivery) -> None:
        """Refuse: the dead-letter exchange gets it."""
        self._now_or_later(delivery, reject=True)

    def close(self, timeout: float) -> None:
        """Close the subscription, if there is one."""
        subscription = self._subscription
        if subscription is not None:
            subscription.close(timeout)

    def _now_or_later(self, delivery: Delivery, *, reject: bool) -> None:
        subscription = self._subscription
        if subscription is None:
            with self._attaching:
                subscription = self._subscription
                if subscription is None:
                    self._early.append((delivery, reject))
                    return
        self._settle(subscription, delivery, reject=reject)

    @staticmethod
    def _settle(subscription: Subscription, delivery: Delivery, *, reject: bool) -> None:
        if reject:
            subscription.reject(delivery)
        else:
            subscription.ack(delivery)
