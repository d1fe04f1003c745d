"""What the embedded broker's link does between the loss of a connection and its noticing it."""

from __future__ import annotations

import threading
import uuid

import pytest
from bus.observing import ORDERED, Place, Settled, eventually

from federation.bus.connect import open_link
from federation.bus.errors import LinkClosed
from federation.bus.link import Consumption, PublishResult


@pytest.fixture
def link(opened):
    return opened(f"federation+memory://{uuid.uuid4().hex}")


@pytest.fixture
def held_up(link):
    """Holds the link's thread up, inside a callback, until it is set."""
    gate, entered = threading.Event(), threading.Event()
    place = Place(link, "gate").declare()

    def hold(_: PublishResult) -> None:
        entered.set()
        gate.wait(20)

    link.publish(place.publication(), hold)
    assert entered.wait(20)
    yield gate
    gate.set()


def test_a_confirm_that_the_link_has_not_seen_when_its_connection_breaks_is_lost(link, place, other_link, held_up):
    place.declare(**ORDERED)
    settled = Settled()
    link.publish(place.publication(), settled)
    link.break_connection()
    held_up.set()
    eventually(lambda: settled.results == [PublishResult.LOST], "it is lost")
    assert other_link.queue_depth(place.name) == (1, 0)


def test_a_delivery_that_the_link_has_not_seen_when_its_connection_breaks_comes_once_and_counted(link, other_link):
    place = Place(other_link, "q").declare(**ORDERED)
    deliveries: list[tuple[bytes, int]] = []
    gate, entered = threading.Event(), threading.Event()

    def take(delivery) -> None:
        deliveries.append((delivery.body, delivery.delivery_count))
        if len(deliveries) == 1:
            entered.set()
            gate.wait(20)

    link.subscribe([Consumption("q")], 3, take)
    place.send(b"1", b"2", b"3")
    assert entered.wait(20)
    link.break_connection()
    gate.set()
    eventually(lambda: len(deliveries) >= 4, "all come again")
    assert deliveries == [(b"1", 0), (b"1", 1), (b"2", 1), (b"3", 1)]


def test_a_link_that_was_never_started_can_be_closed_and_settles_what_waited():
    link = open_link("federation+memory://never", "test")
    settled = Settled()
    link.publish(Place(link, "q").publication(), settled)
    link.close(1)
    assert settled.results == [PublishResult.LOST]
    with pytest.raises(LinkClosed):
        link.queue_depth("q")


def test_two_links_in_one_process_meet_at_the_broker_of_their_name(link, other_link, opened):
    place = Place(link, "shared").declare(**ORDERED)
    place.send(b"x")
    assert other_link.queue_depth("shared") == (1, 0)
    assert opened("federation+memory://elsewhere").queue_depth("shared") is None


@pytest.fixture
def place(other_link):
    return Place(other_link, "q")


@pytest.fixture
def other_link(link, opened):
    return opened(str(link._address))
