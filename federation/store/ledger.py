"""Operations in their order: keys, operations, outbox.

Locks on PostgreSQL, always in this order, so that transactions cannot deadlock: keys by name, operations by id, outbox
rows by operation.  What decides about a key holds the key's row first (``accept``, ``keys``, ``unsettled``,
``last_sequence``); confirms, rounds, cancel wishes and progress need none, because no two statements write the same
column (see ``ledger_statements``).  Several ``accept`` in one transaction come in key order for the same reason, and
``accept_together`` sorts by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError

from federation.contract.errors import NotFound
from federation.contract.outcomes import Outcome
from federation.protocol.envelope import Command
from federation.protocol.ledger import KeyFacts, OperationFacts
from federation.protocol.records import NewOperation, OperationRecord, OperationState, Outgoing, WaitingCopy
from federation.store import ledger_statements as sql
from federation.store.encoding import dict_of, stamp_of, text_of
from federation.store.errors import UnknownRow
from federation.store.operation_rows import record_of_new, record_of_row
from federation.store.session import Session, chunks


class LedgerRows(Session):
    """The ordered part of a transaction (the port ``Ledger`` of federation.manager.store_ports)."""

    def accept(self, operation: NewOperation) -> OperationRecord:
        """Give the operation the next sequence of its key, and write it with its outbox row.

        A known id, or a known idempotency key of the cluster, gives the operation that is there instead: accepting is
        safe to repeat.  A cluster that is not there raises NotFound.
        """
        key = {"key": operation.key, "cluster": operation.cluster, "moved_at": operation.submitted_at}
        try:
            sequence = int(self._execute(sql.take_sequence(self._dialect), key).scalar_one())
        except IntegrityError:  # the key's reference to its cluster
            raise NotFound(f"there is no cluster {operation.cluster}", cluster=operation.cluster) from None
        row = {**_new_row(operation), "sequence": sequence}
        if self._row(sql.insert_operation(self._dialect), row) is None:
            # It was accepted before; the sequence is given back, so that the key has no hole.
            self._execute(sql.GIVE_SEQUENCE_BACK, {"at": operation.key})
            self._execute(sql.DROP_UNUSED_KEY, {"at": operation.key})
            earlier = self._earlier(operation)
            if earlier is None:
                raise UnknownRow(f"operation {operation.id} is there and cannot be read")
            return earlier
        self._execute(sql.INSERT_OUTBOX, _first_outbox_row(operation, sequence))
        return record_of_new(operation, sequence)

    def accept_together(self, operations: Sequence[NewOperation]) -> list[OperationRecord]:
        """The same for several that are new, at the price of few statements; records in the order of the operations.

        Operations of one key get their sequences in that order.  Where one of them, or its idempotency key, has been
        accepted before, or its cluster is not there, the database refuses, and nothing of the transaction may be kept.
        """
        if not operations:
            return []
        of_key: dict[str, list[NewOperation]] = {}
        for operation in operations:
            of_key.setdefault(operation.key, []).append(operation)
        keys = [
            {"key": key, "cluster": ones[0].cluster, "last_sequence": len(ones), "moved_at": ones[0].submitted_at}
            for key, ones in sorted(of_key.items())
        ]
        last = dict(self._rows(sql.take_sequences(self._dialect), keys))
        sequences = {
            operation.id: sequence
            for key, ones in of_key.items()
            for sequence, operation in enumerate(ones, last[key] - len(ones) + 1)
        }
        rows = [{**_new_row(operation), "sequence": sequences[operation.id]} for operation in operations]
        self._execute(sql.INSERT_OPERATIONS, rows)
        self._execute(sql.INSERT_OUTBOX, [_first_outbox_row(each, sequences[each.id]) for each in operations])
        return [record_of_new(operation, sequences[operation.id]) for operation in operations]

    def accepted_before(self, cluster: str, idempotency_key: str) -> OperationRecord | None:
        """The operation that was accepted with this key, None when it is new."""
        known = {"cluster": cluster, "idempotency_key": idempotency_key}
        row = self._row(sql.OPERATION_BY_IDEMPOTENCY, known)
        return None if row is None else record_of_row(row)

    def _earlier(self, operation: NewOperation) -> OperationRecord | None:
        row = self._row(sql.OPERATION, {"id": operation.id})
        if row is not None:
            return record_of_row(row)
        key = operation.idempotency_key
        return None if key is None else self.accepted_before(operation.cluster, key)

    def keys(self, keys: Collection[str]) -> dict[str, KeyFacts]:
        """The facts of those of these keys that have had an operation, locked in sorted order."""
        rows = self._rows_in(sql.KEY_FACTS[self._writes], "keys", keys)
        return {
            key: KeyFacts(key, position, parked_by, stamp_of(clock, seconds), gap_rounds)
            for key, position, parked_by, clock, seconds, gap_rounds in rows
        }

    def operations(self, ids: Collection[str]) -> dict[str, OperationFacts]:
        """The facts of those of these operations that are there."""
        return {row[0]: _facts(row) for row in self._rows_in(sql.OPERATION_FACTS, "ids", ids)}

    def unsettled(self, key: str) -> list[OperationFacts]:
        """The operations of a key without an outcome, by sequence; locks the key."""
        self.last_sequence(key)
        return [_facts(row) for row in self._rows(sql.UNSETTLED_FACTS, {"key": key})]

    def last_sequence(self, key: str) -> int:
        """The sequence of the last accepted operation of a key, 0 when there is none; locks the key."""
        row = self._row(sql.LAST_SEQUENCE[self._writes], {"key": key})
        return 0 if row is None else int(row[0])

    def save(
        self,
        keys: Iterable[KeyFacts],
        operations: Iterable[OperationFacts],
        outcomes: Mapping[str, Outcome],
        now: float,
    ) -> None:
        """Write what was decided about keys and unsettled operations that this transaction has locked.

        An operation with an attempt becomes running, one with an outcome settles and leaves the outbox.  Facts that
        are settled and have no new outcome were settled before and stay as they are.  ``now`` is Unix seconds.
        UnknownRow when a key or operation is not there or cannot change any more.
        """
        key_rows = {facts.key: _key_row(facts, now) for facts in keys}
        changed = {f.id: f for f in operations if not f.settled or f.id in outcomes}
        _check_outcomes(changed, outcomes)
        self._change_all(sql.SAVE_KEY, [row for _, row in sorted(key_rows.items())])
        self._change_all(
            sql.SAVE_OPERATION, [_operation_row(f, outcomes.get(id_), now) for id_, f in sorted(changed.items())]
        )
        for chunk in chunks(outcomes):
            self._execute(sql.LEAVE_OUTBOX, {"ids": chunk})

    def _change_all(self, statement: Any, rows: list[dict[str, Any]]) -> None:
        if rows and (hit := self._changed(statement, rows)) != len(rows):
            ids = ", ".join(str(row["at"]) for row in rows)
            raise UnknownRow(f"{len(rows) - hit} of these are not there or settled already: {ids}")

    def new_round(self, ids: Collection[str]) -> list[Outgoing]:
        """Publish the unsettled ones of these operations again: the round goes up by one, they stand in the outbox.

        Returned by key and sequence.
        """
        found: list[Outgoing] = []
        for chunk in chunks(ids):
            locked = self._rows(sql.REPUBLISHABLE, {"ids": chunk})
            if locked:
                self._execute(sql.RAISE_ROUND, {"ids": chunk, "new_touched_at": self._wall_clock()})
                self._execute(sql.LEAVE_OUTBOX, {"ids": chunk})
                found.extend(_outgoing(row, rounds_later=1) for row in locked)
        if found:
            self._execute(sql.INSERT_OUTBOX, [_outbox_row(outgoing) for outgoing in found])
        return sorted(found, key=_by_key)

    def confirmed(self, copies: Iterable[tuple[str, int]]) -> None:
        """Take (operation id, round) out of the outbox where that round is still the current one."""
        parts = list(chunks(copies, columns=2))
        now = self._wall_clock()
        for part in parts:
            self._execute(sql.CONFIRM, {"copies": part, "new_touched_at": now})
        for part in parts:
            self._execute(sql.CONFIRM_OUTBOX, {"copies": part})

    def unpublished(self, shards: Collection[int], limit: int, after: tuple[str, int] | None = None) -> list[Outgoing]:
        """At most ``limit`` commands of the outbox of these shards, by key and sequence, from behind ``after``."""
        if not shards:
            return []
        after_key, after_sequence = after or ("", 0)
        page = {"after_key": after_key, "after_sequence": after_sequence, "most": limit}
        return [_outgoing(row) for row in self._rows(sql.UNPUBLISHED, {"shards": sorted(shards), **page})]

    def waiting_copies(
        self, shards: Collection[int], limit: int, after: tuple[str, int] | None = None
    ) -> list[WaitingCopy]:
        """The same rows of the outbox as ``unpublished`` gives, told by their identity only."""
        if not shards:
            return []
        after_key, after_sequence = after or ("", 0)
        page = {"after_key": after_key, "after_sequence": after_sequence, "most": limit}
        rows = self._rows(sql.WAITING_COPIES, {"shards": sorted(shards), **page})
        return [WaitingCopy(operation=id_, key=key, sequence=number, round=round_) for id_, key, number, round_ in rows]

    def outgoing(self, ids: Collection[str]) -> list[Outgoing]:
        """The commands of those of these operations that stand in the outbox, by key and sequence."""
        return sorted((_outgoing(row) for row in self._rows_in(sql.OUTGOING, "ids", ids)), key=_by_key)

    def stuck(self, shards: Collection[int], before: float, limit: int) -> list[str]:
        """Ids of unsettled operations at the head of their unparked key that have been silent, the longest first.

        Silent: since ``before`` (Unix seconds) not confirmed, not answered, not moved up to the head; and no copy of
        it waits in the outbox.
        """
        if not shards:
            return []
        rows = self._rows(sql.STUCK, {"shards": sorted(shards), "before": before, "most": limit})
        return [row[0] for row in rows]

    def unstartable(self, now: float, limit: int) -> list[tuple[str, str]]:
        """(key, id) of operations at the head of unparked keys that were never granted and are cancelled or overdue."""
        return [(row[0], row[1]) for row in self._rows(sql.UNSTARTABLE, {"now": now, "most": limit})]

    def request_cancel(self, operation: str) -> OperationRecord | None:
        """Write the wish to cancel an unsettled operation; None when there is no such operation."""
        self._execute(sql.REQUEST_CANCEL, {"at": operation})
        row = self._row(sql.OPERATION, {"id": operation})
        return None if row is None else record_of_row(row)

    def progress(self, operation: str, attempt: int, percent: float | None, stage: str | None) -> None:
        """Write how far an attempt has come, if it is the newest and not settled."""
        row = {"at": operation, "of_attempt": attempt, "new_percent": percent, "new_stage": stage}
        self._execute(sql.PROGRESS, row)

    def keep_arguments(self, operation: str, arguments: Mapping[str, object]) -> None:
        """Keep this of a settled operation's arguments and no more; what stood there is overwritten."""
        self._execute(sql.FORGET, {"at": operation, "new_arguments": text_of(arguments)})

    def resolution(self, operation: str, resolution: str) -> None:
        """Write what an operator decided about an unknown outcome; NotFound when there is no such operation."""
        if not self._changed(sql.RESOLUTION, {"at": operation, "new_resolution": resolution}):
            raise NotFound(f"there is no operation {operation}", operation=operation)


def _new_row(operation: NewOperation) -> dict[str, Any]:
    return {
        "id": operation.id,
        "cluster": operation.cluster,
        "epoch": operation.epoch,
        "name": operation.name,
        "revision": operation.revision,
        "release": operation.release,
        "key": operation.key,
        "partition": operation.partition,
        "shard": operation.shard,
        "arguments": text_of(operation.arguments),
        "submitted_at": operation.submitted_at,
        "deadline": operation.deadline,
        "idempotency_key": operation.idempotency_key,
        "requested_by": operation.requested_by,
        "trace": operation.trace,
        "asked_revision": operation.asked_revision,
        "touched_at": operation.submitted_at,
    }


def _facts(row: Any) -> OperationFacts:
    (id_, key, sequence, round_, finished_at, deadline, cancel, attempt, *granted, cluster, partition) = row
    granted_round, granted_delivery, question, wait, worker, clock, seconds = granted
    return OperationFacts(
        id=id_,
        key=key,
        sequence=sequence,
        round=round_,
        settled=finished_at is not None,
        deadline=deadline,
        cancel_requested=cancel,
        attempt=attempt,
        granted_copy=None if granted_round is None else (granted_round, granted_delivery),
        granted_question=question,
        granted_wait=wait,
        worker=worker,
        last_answer=stamp_of(clock, seconds),
        cluster=cluster,
        partition=partition,
    )


def _key_row(facts: KeyFacts, now: float) -> dict[str, Any]:
    clock, seconds = facts.parked_at or (None, None)
    return {
        "at": facts.key,
        "new_position": facts.position,
        "new_parked_by": facts.parked_by,
        "new_parked_clock": clock,
        "new_parked_seconds": seconds,
        "new_gap_rounds": facts.gap_rounds,
        "now": now,
    }


def _operation_row(facts: OperationFacts, outcome: Outcome | None, now: float) -> dict[str, Any]:
    running = OperationState.RUNNING if facts.attempt else OperationState.QUEUED
    granted_round, granted_delivery = facts.granted_copy or (None, None)
    clock, seconds = facts.last_answer or (None, None)
    return {
        "at": facts.id,
        "new_state": running.value if outcome is None else outcome.kind.value,
        "new_attempt": facts.attempt,
        "new_granted_round": granted_round,
        "new_granted_delivery": granted_delivery,
        "new_granted_question": facts.granted_question,
        "new_granted_wait": facts.granted_wait,
        "new_worker": facts.worker,
        "new_answered_clock": clock,
        "new_answered_seconds": seconds,
        "new_started_at": now if facts.attempt else None,
        "new_finished_at": None if outcome is None else now,
        "new_outcome": None if outcome is None else text_of(outcome),
        "now": now,
    }


def _check_outcomes(changed: Mapping[str, OperationFacts], outcomes: Mapping[str, Outcome]) -> None:
    """An outcome belongs to settled facts of the same call, or the position and the outcome could part."""
    odd = sorted(id_ for id_ in outcomes if id_ not in changed or not changed[id_].settled)
    if odd:
        raise ValueError(f"outcomes without settled facts: {', '.join(odd)}")


def _outgoing(row: Any, rounds_later: int = 0) -> Outgoing:
    (shard, id_, name, revision, release, cluster, epoch, partition, key, *rest) = row
    sequence, round_, deadline, arguments, trace = rest
    command = Command(
        operation=id_,
        name=name,
        revision=revision,
        release=release,
        cluster=cluster,
        epoch=epoch,
        partition=partition,
        key=key,
        sequence=sequence,
        round=round_ + rounds_later,
        deadline=deadline,
        arguments=dict_of(arguments),
        trace=trace,
    )
    return Outgoing(shard=shard, command=command)


def _first_outbox_row(operation: NewOperation, sequence: int) -> dict[str, Any]:
    row = {"operation": operation.id, "shard": operation.shard, "key": operation.key}
    return {**row, "sequence": sequence, "round": 1}


def _outbox_row(outgoing: Outgoing) -> dict[str, Any]:
    command = outgoing.command
    return {
        "operation": command.operation,
        "shard": outgoing.shard,
        "key": command.key,
        "sequence": command.sequence,
        "round": command.round,
    }


def _by_key(outgoing: Outgoing) -> tuple[str, int]:
    return outgoing.command.key, outgoing.command.sequence
