from __future__ import annotations

import time

import pytest
from store.making import ON_POSTGRESQL, ON_SQLITE

from federation.protocol.partition_map import SHARDS

ALL = frozenset(range(SHARDS))
LONG = 60.0
SHORT = 0.2


@pytest.fixture
def claim(store):
    """Claims as a manager does, on the clock of this machine."""

    def claiming(manager, ttl=LONG):
        return store.claim_shards(manager, time.time(), ttl)

    return claiming


def observed(condition):
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not come to pass within ten seconds"
        time.sleep(0.02)


def test_a_manager_that_is_alone_owns_every_shard(claim):
    assert claim("m1") == ALL
    assert claim("m1") == ALL


def test_two_managers_share_the_shards_evenly_and_never_own_one_together(claim):
    claim("m1")
    assert claim("m2") == frozenset(), "what is owned is not taken away"
    first = claim("m1")
    second = claim("m2")
    assert len(first) == len(second) == SHARDS // 2
    assert first | second == ALL
    assert (claim("m1"), claim("m2")) == (first, second), "shares stay where they are"


def test_a_third_manager_gets_its_share_from_both(claim):
    for _ in range(2):
        claim("m1"), claim("m2")
    claim("m3")
    claim("m1"), claim("m2")
    shares = [claim(manager) for manager in ("m3", "m1", "m2")]
    assert sorted(map(len, shares)) == [10, 11, 11]
    assert frozenset.union(*shares) == ALL


def test_released_claims_are_free_at_once(store, claim):
    claim("m1")
    store.release_shards("m1")
    assert claim("m2") == ALL


def test_releasing_what_another_owns_changes_nothing(store, claim):
    claim("m1")
    store.release_shards("m2")
    assert claim("m1") == ALL


def test_claims_of_a_silent_manager_are_taken_over_once_they_expire(claim):
    assert claim("m1", SHORT) == ALL
    observed(lambda: claim("m2") == ALL)
    assert claim("m1") == frozenset(), "the one that comes back owns nothing before it is given its share"
    claim("m2")
    assert len(claim("m1")) == SHARDS // 2


def test_two_stores_share_too(store, open_another, claim):
    other = open_another()
    claim("m1")
    other.claim_shards("m2", time.time(), LONG)
    assert len(claim("m1")) == SHARDS // 2
    assert len(other.claim_shards("m2", time.time(), LONG)) == SHARDS // 2


@ON_POSTGRESQL
def test_managers_clocks_need_not_agree_where_the_database_has_one(store):
    assert store.claim_shards("m1", 0.0, LONG) == ALL
    assert store.claim_shards("m2", 1e12, LONG) == frozenset()
    assert len(store.claim_shards("m1", -5.0, LONG)) == SHARDS // 2


@ON_SQLITE
def test_on_sqlite_the_clock_of_the_one_machine_counts(store):
    assert store.claim_shards("m1", 1000.0, LONG) == ALL
    assert store.claim_shards("m2", 1000.0 + LONG - 1, LONG) == frozenset()
    assert store.claim_shards("m2", 1000.0 + LONG, LONG) == ALL


@ON_SQLITE
def test_claims_from_before_the_clock_was_set_back_hold_nobody_up(store):
    assert store.claim_shards("dead", 100_000.0, LONG) == ALL
    assert store.claim_shards("heir", 1000.0, LONG) == ALL
    assert store.claim_shards("heir", 999.0, LONG) == ALL, "a small step back is none"
