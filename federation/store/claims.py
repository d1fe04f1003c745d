"""Which manager owns which outbox shards.

1. A claim holds until it expires; a manager renews all of its claims at once, well before.
2. Every living manager may own ceil(shards / living managers); what it has above that it gives up, what is free up to
   that it takes.  So shards move only from managers that have too many, or that are gone.
3. All of it happens under locks on all claims.  Time is the database's own where there can be several machines.
4. No claim is longer than ``ttl``: one that ends much later than that was made before the clock was set back and counts
   as expired, or a manager that died then would own its shards until the clock has caught up.
5. With its claims a manager says which contract releases it serves: no cluster speaks one that a living manager does not.
"""

from __future__ import annotations

import math

from sqlalchemy import Connection, delete, func, or_, select, text, update

from federation.protocol.partition_map import SHARDS
from federation.protocol.pinning import Range
from federation.store.session import insert_into
from federation.store.tables import MANAGERS, SHARD_CLAIMS

_CLAIM = SHARD_CLAIMS.c


def claim_shards(connection: Connection, manager: str, now_wall: float, ttl: float, releases: Range) -> frozenset[int]:
    """Renew, give up and take, as the rules say; ``ttl`` in seconds, ``now_wall`` in Unix seconds (SQLite only)."""
    owners = _lock_claims(connection)
    now = _now(connection, now_wall)
    _renew_manager(connection, manager, now, ttl, releases)
    living = connection.execute(select(func.count()).select_from(MANAGERS)).scalar_one()
    share = math.ceil(SHARDS / living)
    latest = now + 2 * ttl
    mine = [shard for shard, (owner, expires) in owners.items() if owner == manager and now < expires <= latest]
    free = [shard for shard, (owner, expires) in owners.items() if owner is None or not now < expires <= latest]
    kept, given_up = mine[:share], mine[share:]
    owned = [*kept, *free[: share - len(kept)]]
    if given_up:
        _write(connection, given_up, None, 0.0)
    if owned:
        _write(connection, owned, manager, now + ttl)
    return frozenset(owned)


def release_shards(connection: Connection, manager: str) -> None:
    """Give all claims of a manager back."""
    _lock_claims(connection)
    connection.execute(update(SHARD_CLAIMS).where(_CLAIM.manager == manager).values(manager=None, expires_at=0.0))
    connection.execute(delete(MANAGERS).where(MANAGERS.c.id == manager))


def _lock_claims(connection: Connection) -> dict[int, tuple[str | None, float]]:
    """Owner and expiry by shard, all rows locked; rows that are not there yet are made."""
    statement = select(SHARD_CLAIMS).order_by(_CLAIM.shard).with_for_update()
    rows = connection.execute(statement).fetchall()
    if len(rows) < SHARDS:
        missing = insert_into(connection.dialect.name, SHARD_CLAIMS).on_conflict_do_nothing()
        connection.execute(missing, [{"shard": shard, "manager": None, "expires_at": 0.0} for shard in range(SHARDS)])
        rows = connection.execute(statement).fetchall()
    return {shard: (owner, expires) for shard, owner, expires in rows if shard < SHARDS}


def _now(connection: Connection, now_wall: float) -> float:
    if connection.dialect.name != "postgresql":
        return now_wall
    return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())


def _renew_manager(connection: Connection, manager: str, now: float, ttl: float, releases: Range) -> None:
    gone = or_(MANAGERS.c.expires_at <= now, MANAGERS.c.expires_at > now + 2 * ttl)
    connection.execute(delete(MANAGERS).where(gone, MANAGERS.c.id != manager))
    lowest, highest = map(str, releases)
    row = {"expires_at": now + ttl, "release_lowest": lowest, "release_highest": highest}
    statement = insert_into(connection.dialect.name, MANAGERS).values(id=manager, **row)
    connection.execute(statement.on_conflict_do_update(index_elements=[MANAGERS.c.id], set_=row))


def _write(connection: Connection, shards: list[int], manager: str | None, expires_at: float) -> None:
    statement = update(SHARD_CLAIMS).where(_CLAIM.shard.in_(shards))
    connection.execute(statement.values(manager=manager, expires_at=expires_at))
