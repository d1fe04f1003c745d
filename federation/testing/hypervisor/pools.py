"""How the operations look at the shared storage, and how a volume becomes a disk."""

from __future__ import annotations

from federation.contract.errors import NotFound
from federation.testing.hypervisor import stored
from federation.testing.hypervisor.records import Disk
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.stored import Stored


def pool_of(session: Session, asked: str) -> str:
    """The pool asked for, or the usual one; NotFound that names those that there are."""
    pools = session.hypervisor.settings.pools
    pool = asked or pools[0]
    if pool not in pools:
        raise NotFound(f"pool {pool!r} does not exist; the cluster has {', '.join(pools)}", pool=pool)
    return pool


def find_stored(session: Session, kind: str, pool: str, name: str) -> Stored | None:
    """The volume or template as it is now."""
    return session.look("read_storage", lambda connection: stored.find(connection, kind, pool, name))


def volume_disk(session: Session, volume: Stored, *, root: bool = False, read_only: bool = False) -> Disk:
    """The disk that the volume is in a machine; in the usual pool it is named like the volume."""
    usual = volume.pool == session.hypervisor.settings.pools[0]
    return Disk(
        name=volume.name if usual else f"{volume.pool}/{volume.name}",
        size_bytes=volume.size_bytes,
        source=f"volume {volume.name}",
        made_by=session.call.operation,
        kept=True,
        volume=volume.name,
        pool=volume.pool,
        root=root,
        read_only=read_only,
        generation=volume.generation,
        content=volume.content,
    )
