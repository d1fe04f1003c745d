"""What must be so before anybody works on a store that was restored from a backup.

The world has gone on since the backup was made: operations ran, workers hold grants and messages of the lost time line,
queues have copies of them.  Rules (docs/how-to/life-of-an-installation.md says what an operator does about each):

1. Every cluster goes on in an epoch that there never was, counted in seconds of this century, so that no queue of the lost
   time line is read again; and it accepts nothing until one lease after the first manager has seen it (``epochs``, rules 2
   and 3), so that no grant of the lost time line is alive beside a new one.
2. What was not settled in the backup may have run since, or not: its outcome is unknown, and its instance is parked until
   an operator has looked.  What waited behind a parked operation never runs in any time line: it is refused.
3. So nothing of the restored store is unsettled, and whatever a worker still says of the lost time line is about an
   operation that is settled, or that this store never had: it is answered with a refusal and its outcome is dropped.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import msgspec

from federation.contract.errors import OutcomeUnknown
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.manager.clocks import Clock
from federation.manager.observing import forget_secrets, observe
from federation.manager.store_ports import Transaction
from federation.protocol.ledger import KeyFacts, refused_by_resolve, settle
from federation.protocol.records import ClusterRecord, OldEpoch

_CENTURY = 1_767_225_600
"""2026-01-01 00:00 UTC in Unix seconds: epochs after a restore count from here, and fit 32 bits until 2094."""
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did beside loading: operations whose outcome is unknown now, refused ones, parked keys."""

    clusters: tuple[str, ...]
    unknown: int
    refused: int
    parked: tuple[str, ...]
    revoked_tokens: int


@dataclass(slots=True)
class _Count:
    unknown: int = 0
    refused: int = 0


def finish_restore(transaction: Transaction, clock: Clock, taken_at: float, *, revoke_tokens: bool) -> Restored:
    """Make a store that was loaded from a backup safe to work on, within the transaction that loaded it.

    ``taken_at`` is Unix seconds; ``revoke_tokens`` revokes every token, because one that was revoked since is good again.
    """
    when = dt.datetime.fromtimestamp(taken_at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    count, parked, clusters = _Count(), list[str](), transaction.clusters()
    for cluster in clusters:
        _begin_unseen_epoch(transaction, cluster, clock.wall())
        while keys := transaction.unsettled_keys(cluster.name, _CHUNK):
            for facts in transaction.keys(keys).values():
                if facts.parked_by is None:
                    count.unknown += _park(transaction, facts, clock, when)
                    parked.append(facts.key)
                else:
                    count.refused += _refuse(transaction, facts, facts.parked_by, clock)
    revoked = _revoke_tokens(transaction, clock.wall()) if revoke_tokens else 0
    return Restored(tuple(c.name for c in clusters), count.unknown, count.refused, tuple(parked), revoked)


def _begin_unseen_epoch(transaction: Transaction, cluster: ClusterRecord, now: float) -> None:
    """The epoch of the backup is over; one is wanted that follows an epoch of this very second."""
    transaction.add_old_epoch(
        OldEpoch(cluster=cluster.name, epoch=cluster.epoch, partitions=cluster.partitions, closed_at=now)
    )
    epoch = max(cluster.epoch + 1, int(now) - _CENTURY)
    wanted = {"wanted_partitions": cluster.partitions, "wanted_since": now}
    transaction.save_cluster(msgspec.structs.replace(cluster, epoch=epoch, **wanted))


def _park(transaction: Transaction, key: KeyFacts, clock: Clock, when: str) -> int:
    """Nobody knows what became of these operations: the first one parks the key, the others say which that is."""
    first, *others = transaction.unsettled(key.key)
    unknown = Outcome(
        kind=OutcomeKind.UNKNOWN,
        code=OutcomeUnknown.code,
        message=f"the store was restored from a backup of {when}: whether and how it ended since is not known",
    )
    done = settle(key, first, unknown, clock.stamp())
    settled = [done.operation, *(replace(facts, settled=True) for facts in others)]
    moved = replace(done.key, position=settled[-1].sequence)
    now = clock.wall()
    transaction.save([moved], settled, {facts.id: unknown for facts in settled}, now)
    records = transaction.operations_by_id({facts.id for facts in settled})
    observe(transaction, records[first.id], unknown, now)
    for facts in others:
        transaction.resolution(facts.id, f"with {first.id}")
        forget_secrets(transaction, records[facts.id])
    return len(settled)


def _refuse(transaction: Transaction, key: KeyFacts, parked_by: str, clock: Clock) -> int:
    waiting = transaction.unsettled(key.key)
    refusal = refused_by_resolve(parked_by)
    moved = replace(key, position=waiting[-1].sequence)
    settled = [replace(facts, settled=True) for facts in waiting]
    transaction.save([moved], settled, {facts.id: refusal for facts in settled}, clock.wall())
    for record in transaction.operations_by_id({facts.id for facts in settled}).values():
        forget_secrets(transaction, record)
    return len(settled)


def _revoke_tokens(transaction: Transaction, now: float) -> int:
    good = [token.id for token in transaction.tokens() if token.revoked_at is None]
    for token in good:
        transaction.revoke_token(token, now)
    return len(good)
