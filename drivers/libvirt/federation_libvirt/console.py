"""Consoles: where the screen and the serial line can be reached, and what the guest printed on the serial line.

virDomainOpenConsole gives only what is printed from then on.  So virtlogd keeps a log beside it, in a directory that is a
storage pool: it can be read over any libvirt connection, also from far away.  virtlogd rotates it (2 MiB by default, three
old ones); the newest rotated file is read as well when the log itself is shorter than what was asked for.

The serial line itself is libvirt's: ``url`` is the libvirt URI of the node and ``machine`` the domain's id, for ``virsh
--connect URL console MACHINE`` or virDomainOpenConsole.  It is as well guarded as libvirt, needs no port, and works from
wherever libvirt does; one at a time can be connected.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from urllib.parse import urlsplit, urlunsplit

from federation.contract.consoles import Console, ConsoleKind
from federation.contract.errors import InvalidState, NotSupported
from federation.contract.instances import ConsoleOutput
from federation_libvirt import names
from federation_libvirt.fleet import Fleet
from federation_libvirt.host import Host
from federation_libvirt.machine import Machine

_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not listened at


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


def reach(fleet: Fleet, instance: str, kind: ConsoleKind) -> Console:
    """Where the console is.

    Raises NotSupported for a kind that this driver or this machine does not have, InvalidState when it does not run.
    """
    if kind not in {ConsoleKind.VNC, ConsoleKind.SERIAL}:
        raise NotSupported(f"this driver has no {kind} consoles, only vnc and serial", capability=f"console_{kind}")
    machine = fleet.find(instance)
    look = machine.look()
    if not look.active:
        raise InvalidState(
            f"{instance} is {look.power_state}, its console needs it running",
            power_state=look.power_state,
            expected="running",
        )
    current = machine.current(secrets=True)
    return _screen(machine, current) if kind is ConsoleKind.VNC else _serial(machine, current)


def _screen(machine: Machine, domain: ET.Element) -> Console:
    graphics = domain.find("devices/graphics[@type='vnc']")
    if graphics is None:
        raise _lacking(machine, ConsoleKind.VNC)
    listen = graphics.find("listen")
    address = graphics.get("listen", "") if listen is None else listen.get("address", "")
    port = int(graphics.get("port", "-1"))
    if port < 0:
        raise InvalidState(f"{machine.instance} is only just starting: its screen has no port yet", expected="running")
    return Console(
        host=_address(machine.host) if address in _EVERYWHERE else address,
        port=port,
        password=graphics.get("passwd"),
    )


def _serial(machine: Machine, domain: ET.Element) -> Console:
    if domain.find("devices/console[@type='pty']") is None:
        raise _lacking(machine, ConsoleKind.SERIAL)
    return Console(url=without_secret(machine.host.uri), machine=machine.instance)


def _lacking(machine: Machine, kind: ConsoleKind) -> NotSupported:
    return NotSupported(
        f"{machine.instance} has no {kind} console: it was adopted, or made by an older driver",
        capability=f"console_{kind}",
    )


def _address(host: Host) -> str:
    """By which others reach the node: as the worker does, or by what the node calls itself."""
    return urlsplit(host.uri).hostname or host.hostname()


def without_secret(uri: str) -> str:
    """The URI without the password in it; libvirt would not use it anyway."""
    parts = urlsplit(uri)
    user, _, _ = parts.netloc.rpartition("@")
    if ":" not in user:
        return uri
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{place}"))
