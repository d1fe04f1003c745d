"""Notifications over the transport where oslo.messaging's own suite does not look: pools, requeues, storing, limits."""

from __future__ import annotations

import threading

import oslo_messaging
import pytest
from oslo_messaging.notify.dispatcher import NotificationResult
from oslo_messaging.notify.notifier import Notifier

from federation.bus.connect import open_link
from federation.bus.link import Publication


class Listener:
    """Takes what comes; ``verdicts`` are given out one by one before everything is handled."""

    def __init__(self, *verdicts):
        self.payloads = []
        self._verdicts = list(verdicts)

    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        self.payloads.append(payload)
        return self._verdicts.pop(0) if self._verdicts else NotificationResult.HANDLED


class BatchListener:
    def __init__(self):
        self.batches = []
        self.arrived = threading.Event()

    def info(self, messages):
        self.batches.append([message["payload"] for message in messages])
        self.arrived.set()


class Notifications:
    """Notification transports, listeners and notifiers of one test on one Bus."""

    def __init__(self, bus):
        self.bus = bus
        self._transports = []
        self._servers = []

    def transport(self, **options):
        query = "&".join(f"{name}={value}" for name, value in {"queue_expiry": 600, **options}.items())
        url = f"{self.bus.url}?{query}"
        self._transports.append(oslo_messaging.get_notification_transport(self.bus.conf, url))
        return self._transports[-1]

    def notifier(self, transport, retry=-1):
        return Notifier(transport, "publisher", driver="messaging", topics=[self.bus.topic], retry=retry)

    def listen(self, transport, listener, **options):
        targets = [oslo_messaging.Target(topic=self.bus.topic)]
        server = oslo_messaging.get_notification_listener(transport, targets, [listener], **options)
        return self._start(server)

    def listen_in_batches(self, transport, listener, **options):
        targets = [oslo_messaging.Target(topic=self.bus.topic)]
        return self._start(oslo_messaging.get_batch_notification_listener(transport, targets, [listener], **options))

    def stop(self, server):
        server.stop()
        server.wait()
        self._servers.remove(server)

    def close(self):
        for server in list(self._servers):
            self.stop(server)
        for transport in self._transports:
            transport.cleanup()

    def _start(self, server):
        server.start()
        self._servers.append(server)
        return server


@pytest.fixture
def notes(bus):
    notifications = Notifications(bus)
    yield notifications
    notifications.close()


def test_a_notification_that_nobody_listens_for_waits(notes):
    transport = notes.transport()
    notes.notifier(transport).info({}, "happened", {"number": 1})
    listener = Listener()
    notes.listen(transport, listener)
    notes.bus.eventually(lambda: listener.payloads == [{"number": 1}])


def test_each_pool_gets_every_notification_once_and_its_members_share(notes):
    transport = notes.transport()
    left, left_too, right, alone = Listener(), Listener(), Listener(), Listener()
    notes.listen(transport, left, pool="left")
    notes.listen(transport, left_too, pool="left")
    notes.listen(transport, right, pool="right")
    notes.listen(transport, alone)
    notifier = notes.notifier(transport)
    for number in range(20):
        notifier.info({}, "happened", number)
    everything = list(range(20))
    notes.bus.eventually(lambda: len(left.payloads) + len(left_too.payloads) == 20)
    notes.bus.eventually(lambda: sorted(right.payloads) == everything and sorted(alone.payloads) == everything)
    assert sorted(left.payloads + left_too.payloads) == everything
    assert left.payloads
    assert left_too.payloads


def test_a_requeued_notification_comes_again_to_its_own_pool_only(notes):
    transport = notes.transport()
    wavering, steady = Listener(NotificationResult.REQUEUE, NotificationResult.REQUEUE), Listener()
    notes.listen(transport, wavering, pool="wavering", allow_requeue=True)
    notes.listen(transport, steady, pool="steady")
    notes.notifier(transport).info({}, "happened", "once")
    notes.bus.eventually(lambda: len(wavering.payloads) == 3)
    notes.notifier(transport).info({}, "happened", "next")
    notes.bus.eventually(lambda: steady.payloads == ["once", "next"])
    assert wavering.payloads[:3] == ["once"] * 3


def test_a_notification_that_is_requeued_too_often_goes_to_the_dead_letters(notes):
    transport = notes.transport(requeue_limit=3)
    stubborn = Listener(*[NotificationResult.REQUEUE] * 10)
    notes.listen(transport, stubborn, allow_requeue=True)
    link = open_link(notes.bus.url, "looks at the dead letters")
    link.start(10)
    before = link.queue_depth("federation.rpc.dead")[0]
    notes.notifier(transport).info({}, "happened", "never good")
    notes.bus.eventually(lambda: link.queue_depth("federation.rpc.dead")[0] == before + 1)
    link.close(5)
    assert stubborn.payloads == ["never good"] * 4


def test_an_unhandled_notification_comes_again_to_the_next_listener(notes):
    transport = notes.transport()
    begun, release = threading.Event(), threading.Event()

    class Stuck:
        def info(self, ctxt, publisher_id, event_type, payload, metadata):
            begun.set()
            release.wait(20)
            raise SystemExit

    stuck = notes.listen(transport, Stuck())
    notes.notifier(transport).info({}, "happened", "kept")
    assert begun.wait(20)
    release.set()
    notes.stop(stuck)
    listener = Listener()
    notes.listen(transport, listener)
    notes.bus.eventually(lambda: listener.payloads == ["kept"])


def test_batches_are_full_or_wait_no_longer_than_their_timeout(notes):
    transport = notes.transport()
    listener = BatchListener()
    notes.listen_in_batches(transport, listener, batch_size=10, batch_timeout=1)
    notifier = notes.notifier(transport)
    for number in range(25):
        notifier.info({}, "happened", number)
    notes.bus.eventually(lambda: sum(map(len, listener.batches)) == 25)
    assert [len(batch) for batch in listener.batches] == [10, 10, 5]
    assert [number for batch in listener.batches for number in batch] == list(range(25))


def test_a_batch_listener_that_stops_hands_over_what_it_has_gathered(notes):
    transport = notes.transport()
    listener = BatchListener()
    server = notes.listen_in_batches(transport, listener, batch_size=100, batch_timeout=600)
    notifier = notes.notifier(transport)
    for number in range(5):
        notifier.info({}, "happened", number)
    gathered = server.listener._batches._arrivals
    notes.bus.eventually(gathered.empty)
    notes.stop(server)
    assert listener.batches == [list(range(5))]


def test_a_full_queue_drops_its_oldest_instead_of_stopping_the_notifier(notes):
    transport = notes.transport(max_queue_length=5)
    notifier = notes.notifier(transport)
    for number in range(20):
        notifier.info({}, "happened", number)
    listener = Listener()
    notes.listen(transport, listener)
    notes.bus.eventually(lambda: len(listener.payloads) >= 5)
    assert listener.payloads[-1] == 19
    assert len(listener.payloads) <= 6


def test_what_is_no_notification_goes_to_the_dead_letters(notes):
    transport = notes.transport()
    listener = Listener()
    notes.listen(transport, listener)
    link = open_link(notes.bus.url, "forger")
    link.start(10)
    before = link.queue_depth("federation.rpc.dead")[0]
    link.publish(Publication("federation.notify:openstack", f"topic:{notes.bus.topic}.info", b"\xc1"))
    notes.bus.eventually(lambda: link.queue_depth("federation.rpc.dead")[0] == before + 1)
    link.close(5)
    notes.notifier(transport).info({}, "happened", "after")
    notes.bus.eventually(lambda: listener.payloads == ["after"])
