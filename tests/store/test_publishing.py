from __future__ import annotations

from dataclasses import replace

from store.making import SHARDS, UNKNOWN, granted, new_operation, settle_head


def waiting(store, shards=SHARDS, limit=1000, after=None):
    with store.reading() as transaction:
        return [
            (outgoing.command.key, outgoing.command.sequence, outgoing.command.round)
            for outgoing in transaction.unpublished(shards, limit, after)
        ]


def copies(store, shards=SHARDS, limit=1000, after=None):
    with store.reading() as transaction:
        return [(copy.key, copy.sequence, copy.round) for copy in transaction.waiting_copies(shards, limit, after)]


def confirm(store, *copies):
    with store.transaction() as transaction:
        transaction.confirmed(copies)


def new_round(store, *ids):
    with store.transaction() as transaction:
        return [(o.command.key, o.command.sequence, o.command.round) for o in transaction.new_round(ids)]


def stuck(store, before, shards=SHARDS, limit=10):
    with store.transaction() as transaction:
        return transaction.stuck(shards, before, limit)


def test_the_outbox_is_read_by_key_and_sequence_page_by_page(store, accept):
    accept(*(new_operation(key, shard=shard) for key, shard in (("b", 2), ("a", 1), ("c", 3), ("b", 2), ("a", 1))))
    assert waiting(store) == [("a", 1, 1), ("a", 2, 1), ("b", 1, 1), ("b", 2, 1), ("c", 1, 1)]
    assert waiting(store, shards=[1, 3]) == [("a", 1, 1), ("a", 2, 1), ("c", 1, 1)]
    assert waiting(store, limit=2) == [("a", 1, 1), ("a", 2, 1)]
    assert waiting(store, limit=2, after=("a", 2)) == [("b", 1, 1), ("b", 2, 1)]
    assert waiting(store, after=("b", 1)) == [("b", 2, 1), ("c", 1, 1)]
    assert waiting(store, shards=[]) == []
    for page in ({}, {"shards": [1, 3]}, {"limit": 2}, {"limit": 2, "after": ("a", 2)}, {"shards": []}):
        assert copies(store, **page) == waiting(store, **page)


def test_commands_of_the_outbox_are_read_by_operation_and_what_left_it_is_left_out(store, accept):
    first, second, third = accept(*(new_operation(key) for key in ("b", "a", "c")))
    confirm(store, (third.id, 1))
    with store.reading() as transaction:
        found = transaction.outgoing([first.id, second.id, third.id, "unknown"])
        assert [outgoing.command.operation for outgoing in found] == [second.id, first.id]
        assert transaction.outgoing([]) == []


def test_a_confirm_counts_only_for_the_current_round(store, accept):
    first, second = accept(new_operation("a"), new_operation("a"))
    assert new_round(store, first.id) == [("a", 1, 2)]
    confirm(store, (first.id, 1), (second.id, 1), ("never", 1))
    assert waiting(store) == [("a", 1, 2)]
    confirm(store, (first.id, 2), (first.id, 2))
    assert waiting(store) == []
    confirm(store)


def test_a_new_round_puts_what_is_unsettled_back_by_key_and_sequence(store, accept):
    b, a1, a2, a3 = accept(new_operation("b"), *(new_operation("a") for _ in range(3)))
    confirm(store, (b.id, 1), (a2.id, 1), (a3.id, 1))
    with store.transaction() as transaction:
        settle_head(transaction, "a")
    assert new_round(store, a3.id, b.id, a1.id, a2.id, "never") == [("a", 2, 2), ("a", 3, 2), ("b", 1, 2)]
    assert waiting(store) == [("a", 2, 2), ("a", 3, 2), ("b", 1, 2)]
    assert new_round(store, a2.id) == [("a", 2, 3)]
    assert waiting(store) == [("a", 2, 3), ("a", 3, 2), ("b", 1, 2)]
    assert new_round(store) == []
    with store.reading() as transaction:
        rounds = {facts.sequence: facts.round for facts in transaction.operations([a1.id, a2.id, a3.id]).values()}
        record = transaction.operation(a2.id)
    assert rounds == {1: 1, 2: 3, 3: 2}
    assert record.round == 3


def test_hundreds_of_operations_go_into_a_new_round_at_once(store):
    with store.transaction() as transaction:
        records = [transaction.accept(new_operation(f"key-{n:03}")) for n in range(300)]
    assert len(new_round(store, *(record.id for record in records))) == 300
    assert {round_ for _, _, round_ in waiting(store)} == {2}


def test_a_silent_head_is_stuck_and_nothing_else(store, accept, wall):
    head, behind, elsewhere = accept(new_operation("a"), new_operation("a"), new_operation("b", shard=3))
    assert stuck(store, wall.now + 100) == [], "what stands in the outbox is not stuck"
    confirm(store, (head.id, 1), (behind.id, 1), (elsewhere.id, 1))
    assert stuck(store, wall.now) == [], "confirmed just now"
    assert sorted(stuck(store, wall.now + 1)) == [head.id, elsewhere.id]
    assert stuck(store, wall.now + 1, shards=[3]) == [elsewhere.id]
    assert stuck(store, wall.now + 1, shards=[]) == []
    assert stuck(store, wall.now + 1, limit=1)[0] in {head.id, elsewhere.id}


def test_an_answer_makes_a_head_heard_again(store, accept, wall):
    (head,) = accept(new_operation("a"))
    confirm(store, (head.id, 1))
    with store.transaction() as transaction:
        facts = transaction.operations([head.id])[head.id]
        transaction.save([], [granted(facts)], {}, wall.now + 60)
    assert stuck(store, wall.now + 60) == []
    assert stuck(store, wall.now + 61) == [head.id]


def test_a_confirm_of_a_new_round_makes_a_head_heard_again(store, accept, wall):
    (head,) = accept(new_operation("a"))
    confirm(store, (head.id, 1))
    wall.now += 60
    new_round(store, head.id)
    assert stuck(store, wall.now + 10) == [], "it is back in the outbox"
    wall.now += 60
    confirm(store, (head.id, 2))
    assert stuck(store, wall.now) == []
    assert stuck(store, wall.now + 1) == [head.id]


def test_an_operation_is_not_stuck_for_having_waited_behind_another(store, accept, wall):
    head, behind = accept(new_operation("a"), new_operation("a"))
    confirm(store, (head.id, 1), (behind.id, 1))
    with store.transaction() as transaction:
        settle_head(transaction, "a", now=wall.now + 600)
    assert stuck(store, wall.now + 600) == [], "it came to the head just now"
    assert stuck(store, wall.now + 601) == [behind.id]


def test_a_key_whose_facts_are_saved_without_moving_is_still_stuck(store, accept, wall):
    (head,) = accept(new_operation("a"))
    confirm(store, (head.id, 1))
    with store.transaction() as transaction:
        key = transaction.keys(["a"])["a"]
        transaction.save([replace(key, gap_rounds=1)], [], {}, wall.now + 600)
    assert stuck(store, wall.now + 1) == [head.id]


def test_nothing_of_a_parked_key_is_stuck(store, accept, wall):
    head, behind = accept(new_operation("a"), new_operation("a"))
    confirm(store, (head.id, 1), (behind.id, 1))
    with store.transaction() as transaction:
        settle_head(transaction, "a", UNKNOWN)
    assert stuck(store, wall.now + 10_000) == []
