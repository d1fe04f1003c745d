"""What a guest printed on its serial console: the log that virtlogd writes, read through a storage pool.

virDomainOpenConsole gives only what is printed from then on.  The log lies in a directory that is a storage pool, so it
can be read over any libvirt connection, also from far away.  virtlogd rotates it (2 MiB by default, three old ones); the
newest rotated file is read as well when the log itself is shorter than what was asked for.
"""

from __future__ import annotations

from federation.contract.instances import ConsoleOutput
from federation_libvirt import names
from federation_libvirt.fleet import Fleet


def output(fleet: Fleet, instance: str, max_bytes: int) -> ConsoleOutput:
    """The last ``max_bytes``; empty when the guest has not printed anything."""
    pool = fleet.find(instance).host.console
    if not pool.exists():
        return ConsoleOutput(text="", truncated=False)
    log = names.console_log(instance)
    content, more = pool.tail(log, max_bytes)
    if not more and len(content) < max_bytes:
        older, more = pool.tail(f"{log}.0", max_bytes - len(content))
        content = older + content
    return ConsoleOutput(text=content.decode("utf-8", errors="replace"), truncated=more)
