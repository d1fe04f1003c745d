"""The stable maps: part of the wire contract, so their values are written down here."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.protocol.partition_map import PRIORITIES, SHARDS, consumer_priority, partition_of, shard_of

QUEUES = [f"federation.kvm.e1.p{partition}" for partition in range(32)]
names = st.text(max_size=40)


def shares(workers: list[str], queues: list[str] = QUEUES) -> Counter[str]:
    """How many queues each worker wins at the broker, which gives a queue to its highest priority."""
    return Counter(max(workers, key=lambda worker: consumer_priority(worker, queue)) for queue in queues)


def test_every_release_computes_the_same() -> None:
    assert partition_of("00000000-0000-7000-8000-000000000001", 32) == 25
    assert partition_of("node:kvm-1", 32) == 31
    assert [shard_of("kvm-1", partition) for partition in range(4)] == [7, 8, 9, 10]
    assert shard_of("esx", 0) == 1
    assert consumer_priority("a", QUEUES[0]) == 818019979
    assert consumer_priority("b", QUEUES[0]) == 626881988


def test_another_process_computes_the_same() -> None:
    code = "from federation.protocol.partition_map import partition_of; print(partition_of('node:kvm-1', 32))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(told.stdout) == partition_of("node:kvm-1", 32)


@given(names, st.integers(1, 512))
def test_a_key_has_one_partition_within_range(key: str, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


@given(names, st.integers(0, 511))
def test_a_partition_has_one_shard_within_range(cluster: str, partition: int) -> None:
    assert 0 <= shard_of(cluster, partition) < SHARDS


@given(names)
def test_the_partitions_of_one_cluster_use_every_shard_equally(cluster: str) -> None:
    assert {shard_of(cluster, partition) for partition in range(SHARDS)} == set(range(SHARDS))


@given(names, names)
def test_a_priority_is_one_that_the_broker_takes(worker: str, queue: str) -> None:
    assert 0 <= consumer_priority(worker, queue) < PRIORITIES < 2**31


def test_keys_spread_over_the_partitions() -> None:
    counts = Counter(partition_of(f"key-{n}", 32) for n in range(32_000))
    assert len(counts) == 32
    assert 850 <= min(counts.values()) <= max(counts.values()) <= 1150


@pytest.mark.parametrize("workers", [["worker-1", "worker-2"], ["a", "b"], ["kvm-a", "kvm-b"]])
def test_two_workers_share_32_partitions_no_worse_than_12_to_20(workers: list[str]) -> None:
    assert min(shares(workers).values()) >= 12


def test_many_partitions_are_shared_evenly() -> None:
    queues = [f"federation.c{cluster}.e1.p{partition}" for cluster in range(100) for partition in range(32)]
    assert all(720 <= count <= 880 for count in shares(["w1", "w2", "w3", "w4"], queues).values())


@given(st.lists(st.uuids().map(str), min_size=1, max_size=6, unique=True), st.uuids().map(str))
def test_a_worker_that_joins_moves_only_what_it_takes(workers: list[str], joining: str) -> None:
    if joining in workers:
        return
    for queue in QUEUES:
        before = max(workers, key=lambda worker: consumer_priority(worker, queue))
        after = max([*workers, joining], key=lambda worker: consumer_priority(worker, queue))
        assert after in {before, joining}
