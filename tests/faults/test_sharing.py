"""Workers share a cluster's partitions by the broker's own rendezvous: evenly, and moving only what has to move."""

import json
import re
import signal
from urllib.parse import urlsplit

import pytest
from acceptance.estate import CLUSTER

PARTITIONS = 32
LEAST, MOST = 12, 20
"""Of 32 partitions between two workers."""


class Shares:
    """Which worker the broker has made the active consumer of each partition."""

    def __init__(self, estate, broker):
        self._broker = broker
        self._vhost = urlsplit(estate.broker).path[1:]

    def _list(self, *arguments):
        listed = self._broker.ctl(f"list_{arguments[0]}", "-p", self._vhost, "--formatter", "json", *arguments[1:])
        return json.loads(listed)

    def now(self):
        """Partition to worker, of those that have an active consumer."""
        connections = self._broker.ctl("list_connections", "--formatter", "json", "pid", "client_properties")
        workers = {}
        for connection in json.loads(connections):
            named = re.search(r"worker (w\d)", json.dumps(connection["client_properties"]))
            if named:
                workers[connection["pid"]] = named[1]
        channels = self._broker.ctl("list_channels", "--formatter", "json", "pid", "connection")
        owners = {channel["pid"]: workers.get(channel["connection"]) for channel in json.loads(channels)}
        found = {}
        for consumer in self._list("consumers", "queue_name", "channel_pid", "active"):
            partition = re.fullmatch(rf"federation\.{CLUSTER}\.e1\.p(\d+)", consumer["queue_name"])
            if partition and consumer["active"]:
                found[int(partition[1])] = owners.get(consumer["channel_pid"])
        return found

    def until_settled_on(self, estate, *workers):
        """Wait until each partition's active consumer is one of these, every worker has some, and nothing moves."""
        seen = []

        def look():
            seen.append(self.now())
            whole = len(seen[-1]) == PARTITIONS and set(seen[-1].values()) == set(workers)
            return whole and len(seen) > 1 and seen[-1] == seen[-2]

        estate.until(look, 120)
        return seen[-1]


def sizes(shares):
    return sorted(list(shares.values()).count(worker) for worker in set(shares.values()))


@pytest.mark.timeout(400)
def test_two_workers_share_evenly_and_a_third_takes_its_share_and_gives_it_back(estate, rabbitmq):
    estate.start("w1", "w2", partitions=PARTITIONS)
    look = Shares(estate, rabbitmq)
    two = look.until_settled_on(estate, "w1", "w2")
    assert LEAST <= min(sizes(two)) <= max(sizes(two)) <= MOST, two
    estate.start_worker("w3")
    estate.until_admitted("w3")
    three = look.until_settled_on(estate, "w1", "w2", "w3")
    moved = {partition for partition in three if three[partition] != two[partition]}
    assert {three[partition] for partition in moved} == {"w3"}
    assert PARTITIONS / 3 - 6 <= len(moved) <= PARTITIONS / 3 + 6
    estate.kill("w3", signal.SIGTERM)
    assert estate.processes["w3"].wait(60) == 0
    assert look.until_settled_on(estate, "w1", "w2") == two


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_worker_that_comes_back_under_its_name_gets_its_partitions_again(estate, rabbitmq):
    estate.start("w1", "w2", partitions=PARTITIONS)
    look = Shares(estate, rabbitmq)
    before = look.until_settled_on(estate, "w1", "w2")
    estate.kill("w2")
    assert set(look.until_settled_on(estate, "w1").values()) == {"w1"}
    estate.start_worker("w2")
    assert look.until_settled_on(estate, "w1", "w2") == before
