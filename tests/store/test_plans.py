"""The questions that are asked all the time are answered by an index, however many operations have been settled."""

from __future__ import annotations

import pytest
from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH, MAX_CACHED_STATEMENT_PARAMS
from sqlalchemy import event, insert, text
from store.making import CLUSTER, ON_POSTGRESQL, ON_SQLITE, SHARDS, SUCCEEDED, new_operation

from federation.protocol.records import OperationState
from federation.store.encoding import text_of
from federation.store.ledger import _new_row
from federation.store.tables import KEYS, OPERATIONS

SETTLED = 20_000
QUESTIONS = {
    "stuck": (lambda t: t.stuck(SHARDS, 5.0, 10), {"ix_operations_silent"}),
    "unsettled": (lambda t: t.unsettled("key-7"), {"ix_operations_unsettled"}),
    "operations": (lambda t: t.operations(["old-1"]), {"pk_operations", "sqlite_autoindex_operations_1"}),
    "keys": (lambda t: t.keys(["key-1"]), {"pk_ordering_keys", "sqlite_autoindex_ordering_keys_1"}),
    "accepted_before": (
        lambda t: t.accepted_before(CLUSTER, "x"),
        {"uq_operations_cluster_idempotency_key", "sqlite_autoindex_operations_3"},
    ),
    "unpublished": (lambda t: t.unpublished(SHARDS, 10, ("key-1", 1)), {"ix_outbox_key_sequence_shard"}),
    "waiting_copies": (lambda t: t.waiting_copies(SHARDS, 10, ("key-1", 1)), {"ix_outbox_key_sequence_shard"}),
    "queued_releases": (lambda t: t.queued_releases(CLUSTER), {"ix_operations_queued_release"}),
    "parked operations": (
        lambda t: t.operation_records(state=OperationState.UNKNOWN),
        {"ix_operations_cluster_state_id"},
    ),
    "figures": (
        lambda t: t.partition_figures(),
        {"ix_operations_unsettled", "ix_operations_silent", "ix_operations_queued_release"},
    ),
    "last durations": (lambda t: t.last_durations(CLUSTER, 50), {"ix_operations_cluster_state_id"}),
    "outbox figures": (lambda t: t.outbox_figures(SHARDS), {"pk_operations", "sqlite_autoindex_operations_1"}),
    "a page of a cluster": (
        lambda t: t.operation_records(cluster=CLUSTER, limit=20),
        {"ix_operations_cluster_id", "pk_operations"},
    ),
}


@pytest.fixture
def filled(store, url):
    """A store with many settled operations and a few open ones."""
    numbers = range(SETTLED)
    with store.transaction() as transaction:
        transaction._execute(insert(KEYS), [settled_key(number) for number in numbers])
        transaction._execute(insert(OPERATIONS), [settled_operation(number) for number in numbers])
        for number in range(500):
            transaction.accept(new_operation(f"open-{number}"))
    if url.startswith("postgresql"):  # as its autovacuum does; nobody does it on SQLite
        with store.transaction() as transaction:
            transaction._execute(text("ANALYZE"))
    return store


def settled_key(number):
    return {"key": f"key-{number}", "cluster": CLUSTER, "last_sequence": 1, "position": 1, "moved_at": 1.0}


def settled_operation(number):
    row = _new_row(new_operation(f"key-{number}", id=f"old-{number}", shard=number % 32))
    return {
        **row,
        "sequence": 1,
        "state": "succeeded",
        "finished_at": 2.0,
        "touched_at": 1.0,
        "outcome": text_of(SUCCEEDED),
    }


def plan_of(transaction, ask):
    """The plans of all statements that a method executes."""
    executed = []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        executed.append((statement, parameters))

    connection = transaction._connection
    event.listen(connection, "before_cursor_execute", note)
    ask(transaction)
    event.remove(connection, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if transaction._dialect == "sqlite" else "EXPLAIN "
    rows = [row for one, given in executed for row in connection.exec_driver_sql(explain + one, given)]
    return "\n".join(str(row[-1]) for row in rows)


@pytest.fixture
def plans(filled):
    with filled.reading() as transaction:
        return {name: plan_of(transaction, ask) for name, (ask, _) in QUESTIONS.items()}


@ON_SQLITE
def test_every_frequent_question_is_answered_by_its_index(plans):
    assert {name: plan for name, plan in plans.items() if not any(index in plan for index in QUESTIONS[name][1])} == {}


@ON_POSTGRESQL
def test_no_frequent_question_reads_all_operations(plans):
    assert {name: plan for name, plan in plans.items() if "Seq Scan on operations" in plan} == {}


@ON_POSTGRESQL
def test_no_question_is_so_long_that_psycopg_parses_it_anew_each_time(filled):
    """Above its limits it keeps no parsed statement; with the longest lists that was a fifth of a manager's time."""
    executed = []

    def note(_connection, _cursor, statement, parameters, *_):
        executed.append((len(statement), len(parameters)))

    ids = [f"id-{number}" for number in range(1000)]
    with filled.transaction() as transaction:
        event.listen(transaction._connection, "before_cursor_execute", note)
        asked = (transaction.operations, transaction.keys, transaction.operations_by_id, transaction.locked_instances)
        for ask in (*asked, transaction.outgoing):
            list(ask(ids))
    assert len(executed) > 5
    assert max(length for length, _ in executed) <= MAX_CACHED_STATEMENT_LENGTH
    assert max(count for _, count in executed) <= MAX_CACHED_STATEMENT_PARAMS
