"""What a link does when nodes of a RabbitMQ cluster fail under it."""

from __future__ import annotations

import pytest
from bus.observing import ORDERED, Place, Reader, Settled, eventually
from parts.broker_files import has_saved_queue

from federation.bus import topology
from federation.bus.link import PublishResult


def _publish(place: Place, numbers: range) -> dict[int, Settled]:
    settled = {number: Settled() for number in numbers}
    for number in numbers:
        place.link.publish(place.publication(b"%d" % number), settled[number])
    return settled


@pytest.mark.slow
def test_a_killed_node_costs_nothing_that_was_confirmed_and_no_order(rabbitmq_cluster, opened, name):
    url = f"{rabbitmq_cluster.federation_url}?reconnect_max=0.5"
    link, other = opened(url, "publisher"), opened(url, "consumer")
    arguments = {**topology.QUORUM, **ORDERED}
    place = Place(link, name).declare(**arguments)
    other.declare(place.items(**arguments))
    reader = Reader(other, name)
    settled = _publish(place, range(200))
    reader.wait_for(200)
    rabbitmq_cluster.kill(0)  # the first host of the URL: both links are connected to it
    eventually(lambda: not link.connected, "the loss is noticed")
    settled |= _publish(place, range(200, 400))
    eventually(lambda: all(each.results for each in settled.values()), "all are settled", seconds=60)
    confirmed = [number for number, each in settled.items() if each.results == [PublishResult.CONFIRMED]]
    assert set(range(200)) <= set(confirmed)
    assert settled[399].results == [PublishResult.CONFIRMED]
    eventually(
        lambda: {int(body) for body in reader.bodies} >= set(confirmed), "what was confirmed arrives", seconds=60
    )
    first_seen = list(dict.fromkeys(int(body) for body in reader.bodies))
    assert first_seen == sorted(first_seen)
    link.delete_queue(name)
    rabbitmq_cluster.start_node(0)


@pytest.mark.slow
def test_a_node_that_hangs_is_left_for_another(rabbitmq_cluster, opened, name):
    link = opened(f"{rabbitmq_cluster.federation_url}?heartbeat=1&reconnect_max=0.5")
    place = Place(link, name).declare(**ORDERED)
    rabbitmq_cluster.pause(0)
    eventually(lambda: not link.connected, "the silence is noticed")
    eventually(lambda: link.connected, "another node is found", seconds=60)
    rabbitmq_cluster.resume(0)
    eventually(lambda: place.send(b"x").results == [PublishResult.CONFIRMED], "it works again", seconds=60)
    link.delete_queue(name)


@pytest.mark.slow
def test_a_queue_that_lost_its_leader_keeps_the_other_queues_of_its_subscription_from_nothing(
    breakable_rabbitmq, opened, name
):
    """RabbitMQ 4.0.5: a quorum queue declared right before its node is killed may come back without a leader."""
    link = opened(f"{breakable_rabbitmq.federation_url}?reconnect_max=0.5")
    healthy = Place(link, f"{name}.healthy").declare(**ORDERED)
    healthy.send(b"settles the queue on disk")
    eventually(lambda: has_saved_queue(breakable_rabbitmq.folder, 0, healthy.name), "the healthy queue is saved")
    doomed = Place(link, f"{name}.doomed").declare(**ORDERED)
    reader = Reader(link, [healthy.name, doomed.name])
    breakable_rabbitmq.kill()
    breakable_rabbitmq.start()
    eventually(lambda: healthy.send(b"after").results == [PublishResult.CONFIRMED], "it takes messages", seconds=60)
    eventually(lambda: b"after" in reader.bodies, "the healthy queue is consumed", seconds=60)
    assert link.connected
