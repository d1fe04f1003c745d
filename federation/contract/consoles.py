"""Consoles: where a person can reach an instance's screen or serial line."""

from __future__ import annotations

import enum

import msgspec

from federation.contract.fields import Instant


class ConsoleKind(enum.StrEnum):
    """How the console is spoken to; each needs the capability ``console_`` and its name."""

    VNC = "vnc"
    SPICE = "spice"
    RDP = "rdp"
    WEBMKS = "webmks"
    SERIAL = "serial"


class Console(msgspec.Struct, frozen=True, kw_only=True):
    """Where the console is now; it may move when the instance is restarted or migrated.

    Either ``host`` and ``port`` are set or ``url`` is.  ``machine`` is what a console server that serves several machines
    is told (Hyper-V: the machine's id).  ``ticket`` and ``password`` are secrets.
    """

    host: str | None = None
    port: int | None = None
    tls_port: int | None = None
    url: str | None = None
    machine: str | None = None
    password: str | None = None
    ticket: str | None = None
    expires_at: Instant | None = None
    """When ticket or password end; None when they last as long as the console."""
