"""One key, one message at a time, in order: the rule alone, without threads or brokers."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from federation.bus.oslo.key_order import KeyOrder

KEYS = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(st.one_of(st.tuples(st.just("arrive"), KEYS), st.tuples(st.just("settle"), KEYS)), max_size=60)


@given(STEPS)
def test_messages_of_a_key_run_one_at_a_time_and_in_the_order_of_their_arrival(steps):
    running = defaultdict(list)
    ran = defaultdict(list)
    arrived = defaultdict(list)

    def hand_over(message):
        key, _ = message
        assert not running[key], "two messages of one key run at the same time"
        running[key].append(message)
        ran[key].append(message)

    order = KeyOrder(hand_over)
    for number, (step, key) in enumerate(steps):
        if step == "arrive":
            arrived[key].append((key, number))
            order.arrive(key, (key, number))
        elif running[key]:
            running[key].pop()
            order.settled(key)
    for key in arrived:
        while running[key]:
            running[key].pop()
            order.settled(key)
    assert ran == arrived
    assert len(order) == 0


def test_keys_do_not_wait_for_one_another():
    handed = []
    order = KeyOrder(handed.append)
    order.arrive("a", "a1")
    order.arrive("a", "a2")
    order.arrive("b", "b1")
    assert handed == ["a1", "b1"]


def test_what_the_broker_took_back_is_not_run_but_what_runs_still_holds_its_key():
    handed = []
    order = KeyOrder(handed.append)
    order.arrive("a", "a1")
    order.arrive("a", "a2")
    order.drop_waiting(lambda message: message == "a2")
    order.arrive("a", "a1 again")
    assert handed == ["a1"]
    order.settled("a")
    assert handed == ["a1", "a1 again"]


def test_after_stop_nothing_more_is_handed_over():
    handed = []
    order = KeyOrder(handed.append)
    order.arrive("a", "a1")
    order.arrive("a", "a2")
    order.stop()
    order.settled("a")
    order.arrive("b", "b1")
    assert handed == ["a1"]
