"""What a manager serves beside its door on the bus, found by the entry point group ``federation.interfaces``."""

from __future__ import annotations

import importlib.metadata
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from federation.bootstrap.managers import RunningManager
from federation.manager.access import Access

_GROUP = "federation.interfaces"
REST = "rest"


class InterfaceError(Exception):
    """An interface cannot be served; the message says what has to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceSettings:
    """Where it listens, and with which certificate (PEM files); ``plain`` allows no TLS beyond this machine."""

    host: str
    port: int
    certificate: Path | None = None
    private_key: Path | None = None
    plain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What an interface sees of its manager."""

    ask: Callable[[str, dict[str, Any]], dict[str, Any]]
    access: Access
    broker_connected: Callable[[], bool]


class Interface(Protocol):
    """An interface that is being served."""

    @property
    def address(self) -> str:
        """Its URL."""

    def stop(self, timeout: float) -> None:
        """Take no new requests, end what is open."""


def read_address(text: str) -> tuple[str, int]:
    """``host:port`` or ``[host]:port``; raises InterfaceError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        message = f"the address to listen on is {text!r}, expected HOST:PORT such as 127.0.0.1:8780 or [::1]:8780"
        raise InterfaceError(message)
    return host, int(port)


def check_settings(settings: InterfaceSettings) -> None:
    """Refuse half a certificate, and tokens that would travel in clear beyond this machine."""
    if (settings.certificate is None) != (settings.private_key is None):
        raise InterfaceError("certificate and private_key belong together: give both or neither")
    if settings.certificate is None and not settings.plain and not _is_loopback(settings.host):
        message = (
            f"{settings.host} can be reached from elsewhere and tokens would travel in clear: give certificate and "
            f"private_key, or set plain where something in front of it ends TLS"
        )
        raise InterfaceError(message)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def start_interface(name: str, running: RunningManager, settings: InterfaceSettings) -> Interface:
    """Serve the interface of this name for a manager; raises InterfaceError."""
    check_settings(settings)
    found = [point for point in importlib.metadata.entry_points(group=_GROUP) if point.name == name]
    if not found:
        raise InterfaceError(f"no installed distribution brings the interface {name!r}; reinstall driver-federation")
    served = Served(
        ask=running.door.call, access=running.manager.access, broker_connected=lambda: running.link.connected
    )
    serve: Callable[[Served, InterfaceSettings], Interface] = found[0].load()
    return serve(served, settings)
