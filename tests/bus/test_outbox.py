from __future__ import annotations

import random

import pytest
from bus.observing import Settled
from hypothesis import given
from hypothesis import strategies as st

from federation.bus.address import LinkOptions
from federation.bus.amqp.outbox import Outbox
from federation.bus.errors import BodyTooLarge, BusOverloaded
from federation.bus.link import Publication, PublishResult

C, N, R, L = PublishResult.CONFIRMED, PublishResult.NACKED, PublishResult.RETURNED, PublishResult.LOST


def _sent(count: int, **options: object) -> tuple[Outbox, list[Settled]]:
    outbox = Outbox("user", LinkOptions(**options))
    outbox.begin(131072)
    settled = [Settled() for _ in range(count)]
    for each in settled:
        outbox.put(Publication("x", "k", b"b"), each)
    outbox.drain(bytearray())
    return outbox, settled


def _results(settled: list[Settled]) -> list[list[PublishResult]]:
    return [each.results for each in settled]


def test_a_multiple_confirm_settles_all_up_to_it():
    outbox, settled = _sent(5)
    outbox.confirm(2, N, multiple=False)
    outbox.confirm(4, C, multiple=True)
    assert _results(settled) == [[C], [N], [C], [C], []]


def test_a_returned_publication_is_settled_as_returned_by_its_confirm_only():
    outbox, settled = _sent(3)
    outbox.returned("2")
    assert _results(settled) == [[], [], []]
    outbox.confirm(3, C, multiple=True)
    assert _results(settled) == [[C], [R], [C]]


def test_publications_without_a_callback_count_for_the_brokers_tags():
    outbox = Outbox("user", LinkOptions())
    outbox.begin(131072)
    first, last = Settled(), Settled()
    for callback in (first, None, last):
        outbox.put(Publication("x", "k", b"b"), callback)
    outbox.drain(bytearray())
    outbox.confirm(3, N, multiple=False)
    assert _results([first, last]) == [[], [N]]


def test_a_lost_channel_loses_what_was_sent_and_keeps_what_waits():
    outbox, settled = _sent(2)
    waiting = Settled()
    outbox.put(Publication("x", "k", b"b"), waiting)
    outbox.lose_sent()
    assert _results([*settled, waiting]) == [[L], [L], []]
    outbox.begin(131072)
    outbox.drain(bytearray())
    outbox.confirm(1, C, multiple=False)
    assert waiting.results == [C]


@given(st.integers(1, 60), st.randoms(use_true_random=False))
def test_whatever_the_broker_answers_each_publication_is_settled_exactly_once(count: int, chance: random.Random):
    outbox, settled = _sent(count)
    for _ in range(chance.randrange(2 * count)):
        outbox.confirm(chance.randint(1, count), chance.choice([C, N]), multiple=chance.random() < 0.5)
    outbox.lose_all()
    assert [len(each.results) for each in settled] == [1] * count
    assert len(outbox) == 0


def test_what_nobody_answers_within_the_confirm_timeout_counts_as_lost():
    outbox, settled = _sent(2, confirm_timeout=5.0)
    waiting = Settled()
    outbox.put(Publication("x", "k", b"b"), waiting)
    outbox.expire(0.0)
    assert _results(settled) == [[], []]
    outbox.expire(float("inf"))
    outbox.confirm(2, C, multiple=True)
    assert _results([*settled, waiting]) == [[L], [L], [L]]


def test_above_the_limit_a_publication_is_refused_until_others_settle():
    outbox, _ = _sent(2, max_unsettled=2)
    with pytest.raises(BusOverloaded, match="2 publications"):
        outbox.put(Publication("x", "k", b"b"), Settled())
    outbox.confirm(1, C, multiple=False)
    outbox.put(Publication("x", "k", b"b"), Settled())


def test_a_body_above_the_limit_is_refused():
    outbox, _ = _sent(0, max_body_bytes=3)
    with pytest.raises(BodyTooLarge):
        outbox.put(Publication("x", "k", b"long"), Settled())


def test_a_callback_that_raises_is_reported_and_stops_nobody_else(caplog):
    outbox, _ = _sent(0)

    def broken(_: PublishResult) -> None:
        raise RuntimeError("broken callback")

    after = Settled()
    outbox.put(Publication("x", "k", b"b"), broken)
    outbox.put(Publication("x", "k", b"b"), after)
    outbox.drain(bytearray())
    outbox.confirm(2, C, multiple=True)
    assert after.results == [C]
    assert "broken callback" in caplog.text


def test_a_broker_that_takes_only_smaller_frames_loses_what_was_cut_for_larger_ones():
    outbox, _ = _sent(0)
    waiting = Settled()
    outbox.put(Publication("x", "k", b"b" * 9000), waiting)
    outbox.lose_sent()
    outbox.begin(4096)
    assert waiting.results == [L]
