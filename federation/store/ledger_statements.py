"""The statements of the ledger, built once; SQLAlchemy keeps their compiled text by identity of structure."""

from __future__ import annotations

import functools

from sqlalchemy import Select, and_, bindparam, case, delete, exists, func, insert, or_, select, tuple_, update
from sqlalchemy.sql.dml import ReturningInsert

from federation.store.session import insert_into, insert_unless_there
from federation.store.tables import KEYS, OPERATIONS, OUTBOX

_KEY = KEYS.c
_OPERATION = OPERATIONS.c
_OUTBOX = OUTBOX.c
_OPEN = _OPERATION.finished_at.is_(None)

_KEY_FACTS = (
    _KEY.key,
    _KEY.position,
    _KEY.parked_by,
    _KEY.parked_clock,
    _KEY.parked_seconds,
    _KEY.gap_rounds,
)
_OPERATION_FACTS = (
    _OPERATION.id,
    _OPERATION.key,
    _OPERATION.sequence,
    _OPERATION.round,
    _OPERATION.finished_at,
    _OPERATION.deadline,
    _OPERATION.cancel_requested,
    _OPERATION.attempt,
    _OPERATION.granted_round,
    _OPERATION.granted_delivery,
    _OPERATION.granted_question,
    _OPERATION.granted_wait,
    _OPERATION.worker,
    _OPERATION.answered_clock,
    _OPERATION.answered_seconds,
    _OPERATION.cluster,
    _OPERATION.partition,
)
_COMMAND = (
    _OPERATION.shard,
    _OPERATION.id,
    _OPERATION.name,
    _OPERATION.revision,
    _OPERATION.release,
    _OPERATION.cluster,
    _OPERATION.epoch,
    _OPERATION.partition,
    _OPERATION.key,
    _OPERATION.sequence,
    _OPERATION.round,
    _OPERATION.deadline,
    _OPERATION.arguments,
    _OPERATION.trace,
)


def _locked(statement: Select[tuple[object, ...]], *, writes: bool) -> Select[tuple[object, ...]]:
    """Lock in a writing transaction.  FOR NO KEY UPDATE leaves foreign keys alone; SQLite has its one write lock."""
    return statement.with_for_update(key_share=True) if writes else statement


# Accepting.


@functools.cache
def take_sequence(dialect: str) -> ReturningInsert[tuple[int]]:
    """Lock the key, made on its first operation, and raise its last sequence by one."""
    statement = insert_into(dialect, KEYS).values(
        key=bindparam("key"), cluster=bindparam("cluster"), last_sequence=1, moved_at=bindparam("moved_at")
    )
    raised = {"last_sequence": _KEY.last_sequence + 1}
    return statement.on_conflict_do_update(index_elements=[_KEY.key], set_=raised).returning(_KEY.last_sequence)


@functools.cache
def take_sequences(dialect: str) -> ReturningInsert[tuple[str, int]]:
    """Lock keys, made on their first operation, and raise the last sequence of each by the ``last_sequence`` of its row.

    So few rows at a time that psycopg keeps the statement prepared (see ``session.chunks``).
    """
    statement = insert_into(dialect, KEYS)
    raised = {"last_sequence": _KEY.last_sequence + statement.excluded.last_sequence}
    return (
        statement.on_conflict_do_update(index_elements=[_KEY.key], set_=raised)
        .returning(_KEY.key, _KEY.last_sequence)
        .execution_options(insertmanyvalues_page_size=8)
    )


GIVE_SEQUENCE_BACK = update(KEYS).where(_KEY.key == bindparam("at")).values(last_sequence=_KEY.last_sequence - 1)
DROP_UNUSED_KEY = delete(KEYS).where(_KEY.key == bindparam("at"), _KEY.last_sequence == 0)


def insert_operation(dialect: str) -> ReturningInsert[tuple[str]]:
    """Writes and returns nothing when the id or the idempotency key is known."""
    return insert_unless_there(dialect, OPERATIONS, _OPERATION.id)


INSERT_OPERATIONS = insert(OPERATIONS)
INSERT_OUTBOX = insert(OUTBOX)
OPERATION = select(OPERATIONS).where(_OPERATION.id == bindparam("id"))
OPERATION_BY_IDEMPOTENCY = select(OPERATIONS).where(
    _OPERATION.cluster == bindparam("cluster"), _OPERATION.idempotency_key == bindparam("idempotency_key")
)

# Reading facts.  Key rows are locked in their sorted order: PostgreSQL locks after it has sorted.

_IN_KEYS = _KEY.key.in_(bindparam("keys", expanding=True))
KEY_FACTS = {w: _locked(select(*_KEY_FACTS).where(_IN_KEYS).order_by(_KEY.key), writes=w) for w in (False, True)}
LAST_SEQUENCE = {
    w: _locked(select(_KEY.last_sequence).where(_KEY.key == bindparam("key")), writes=w) for w in (False, True)
}
OPERATION_FACTS = select(*_OPERATION_FACTS).where(_OPERATION.id.in_(bindparam("ids", expanding=True)))
UNSETTLED_FACTS = (
    select(*_OPERATION_FACTS).where(_OPERATION.key == bindparam("key"), _OPEN).order_by(_OPERATION.sequence)
)

# Writing facts.  Round and cancel_requested are written by their own statements only, which need no lock on the key: a
# transaction that read them before must not write them back.

SAVE_KEY = (
    update(KEYS)
    .where(_KEY.key == bindparam("at"))
    .values(
        position=bindparam("new_position"),
        parked_by=bindparam("new_parked_by"),
        parked_clock=bindparam("new_parked_clock"),
        parked_seconds=bindparam("new_parked_seconds"),
        gap_rounds=bindparam("new_gap_rounds"),
        moved_at=case((_KEY.position != bindparam("new_position"), bindparam("now")), else_=_KEY.moved_at),
    )
)
_SAME_ATTEMPT = _OPERATION.attempt == bindparam("new_attempt")
SAVE_OPERATION = (
    update(OPERATIONS)
    .where(_OPERATION.id == bindparam("at"), _OPEN)
    .values(
        state=bindparam("new_state"),
        attempt=bindparam("new_attempt"),
        granted_round=bindparam("new_granted_round"),
        granted_delivery=bindparam("new_granted_delivery"),
        granted_question=bindparam("new_granted_question"),
        granted_wait=bindparam("new_granted_wait"),
        worker=bindparam("new_worker"),
        answered_clock=bindparam("new_answered_clock"),
        answered_seconds=bindparam("new_answered_seconds"),
        started_at=func.coalesce(_OPERATION.started_at, bindparam("new_started_at")),
        finished_at=bindparam("new_finished_at"),
        outcome=bindparam("new_outcome"),
        touched_at=bindparam("now"),
        percent=case((_SAME_ATTEMPT, _OPERATION.percent), else_=None),
        stage=case((_SAME_ATTEMPT, _OPERATION.stage), else_=None),
    )
)
FORGET = update(OPERATIONS).where(_OPERATION.id == bindparam("at")).values(arguments=bindparam("new_arguments"))
LEAVE_OUTBOX = delete(OUTBOX).where(_OUTBOX.operation.in_(bindparam("ids", expanding=True)))

# Publishing.  Every statement touches operations before the outbox, in the order of ids.

# One manager's confirms meet another's results: rows are locked in the order of ids, as everywhere.
_OF_COPIES = tuple_(_OPERATION.id, _OPERATION.round).in_(bindparam("copies", expanding=True))
_CONFIRMED = _locked(select(_OPERATION.id).where(_OF_COPIES, _OPEN).order_by(_OPERATION.id), writes=True)
CONFIRM = update(OPERATIONS).where(_OPERATION.id.in_(_CONFIRMED)).values(touched_at=bindparam("new_touched_at"))
CONFIRM_OUTBOX = delete(OUTBOX).where(tuple_(_OUTBOX.operation, _OUTBOX.round).in_(bindparam("copies", expanding=True)))
REPUBLISHABLE = _locked(
    select(*_COMMAND).where(_OPERATION.id.in_(bindparam("ids", expanding=True)), _OPEN).order_by(_OPERATION.id),
    writes=True,
)
RAISE_ROUND = (
    update(OPERATIONS)
    .where(_OPERATION.id.in_(bindparam("ids", expanding=True)), _OPEN)
    .values(round=_OPERATION.round + 1, touched_at=bindparam("new_touched_at"))
)
_PUBLISHABLE = select(*_COMMAND).select_from(OUTBOX.join(OPERATIONS, _OPERATION.id == _OUTBOX.operation))
_ON_PAGE = (
    _OUTBOX.shard.in_(bindparam("shards", expanding=True)),
    tuple_(_OUTBOX.key, _OUTBOX.sequence) > tuple_(bindparam("after_key"), bindparam("after_sequence")),
)
_PAGE_ORDER = (_OUTBOX.key, _OUTBOX.sequence)
UNPUBLISHED = _PUBLISHABLE.where(*_ON_PAGE).order_by(*_PAGE_ORDER).limit(bindparam("most"))
WAITING_COPIES = (
    select(_OUTBOX.operation, _OUTBOX.key, _OUTBOX.sequence, _OUTBOX.round)
    .where(*_ON_PAGE)
    .order_by(*_PAGE_ORDER)
    .limit(bindparam("most"))
)
OUTGOING = _PUBLISHABLE.where(_OUTBOX.operation.in_(bindparam("ids", expanding=True)))
STUCK = (
    select(_OPERATION.id)
    .select_from(OPERATIONS.join(KEYS, _KEY.key == _OPERATION.key))
    .where(
        _OPEN,
        _OPERATION.touched_at < bindparam("before"),
        _OPERATION.shard.in_(bindparam("shards", expanding=True)),
        and_(_OPERATION.sequence == _KEY.position + 1, _KEY.parked_by.is_(None), _KEY.moved_at < bindparam("before")),
        ~exists().where(_OUTBOX.operation == _OPERATION.id),
    )
    .order_by(_OPERATION.touched_at)
    .limit(bindparam("most"))
)

UNSTARTABLE = (
    select(_OPERATION.key, _OPERATION.id)
    .select_from(OPERATIONS.join(KEYS, _KEY.key == _OPERATION.key))
    .where(
        _OPEN,
        _OPERATION.attempt == 0,
        or_(_OPERATION.cancel_requested, _OPERATION.deadline <= bindparam("now")),
        _OPERATION.sequence == _KEY.position + 1,
        _KEY.parked_by.is_(None),
    )
    .limit(bindparam("most"))
)

# What people and workers say.

REQUEST_CANCEL = update(OPERATIONS).where(_OPERATION.id == bindparam("at"), _OPEN).values(cancel_requested=True)
PROGRESS = (
    update(OPERATIONS)
    .where(_OPERATION.id == bindparam("at"), _OPERATION.attempt == bindparam("of_attempt"), _OPEN)
    .values(percent=bindparam("new_percent"), stage=bindparam("new_stage"))
)
RESOLUTION = update(OPERATIONS).where(_OPERATION.id == bindparam("at")).values(resolution=bindparam("new_resolution"))
