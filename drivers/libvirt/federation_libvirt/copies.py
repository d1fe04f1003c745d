"""A disk copied on its node, flattened: what it stands on comes with it.

libvirt copies from the format that it reads in the file.  A guest with a raw disk can write the head of another format
there, one that names a file of the host.  So the copy is made, and kept, only when libvirt reads what the definition says:
before, and after, since it reads anew whenever somebody refreshes the pool.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.contract.errors import InvalidState
from federation_libvirt.attempt import Attempt
from federation_libvirt.host import Host
from federation_libvirt.storage import Clone, Pool, Source

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Share:
    """The part of an operation's progress that a copy takes, in percent."""

    first: float
    last: float


def _check_format(host: Host, source: Source) -> None:
    found = source.pool.describe(source.name)
    if found is None or found.format != source.format:
        seen = "nothing" if found is None else found.format
        raise InvalidState(
            f"{host.node}: volume {source.name} is used as {source.format}, libvirt reads {seen} in it; it is not copied",
            volume=source.name,
        )


def copy(attempt: Attempt, host: Host, pool: Pool, wanted: Clone, share: Share) -> None:
    """Make the copy, telling how far it is; a cancel lets libvirt finish, which has no way to give it up.

    Raises InvalidState when libvirt reads another format in the source than it is used with; the copy may be there then.
    """
    total = _size(host, wanted.source)

    def tell() -> None:
        done = pool.length(wanted.name) or 0
        percent = share.first + (share.last - share.first) * min(done / total, 1.0) if total else None
        attempt.progress(percent, "copying the disk")
        attempt.sleep(_LOOK_SECONDS)

    _check_format(host, wanted.source)
    pool.clone(attempt, wanted, tell, host.settings.timeouts.copy_seconds)
    _check_format(host, wanted.source)


def _size(host: Host, source: Source) -> int:
    """Bytes to read, as far as the node says."""
    size = source.pool.length(source.name) or 0
    described = source.pool.describe(source.name)
    if described is not None and described.backing.startswith(f"{host.disks.folder()}/"):
        size += host.disks.length(described.backing.rpartition("/")[2]) or 0
    return size
