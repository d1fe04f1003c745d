#!/usr/bin/python3 -IS
"""Whether the container's process is well: a manager's REST API says that it is ready, a worker is connected to the broker.

Ends with 0 or 1 and says why; it asks on loopback only and sends no credentials.  It is run every few seconds, so it loads
little: the standard library's HTTP client alone takes longer than all of this.
"""

from __future__ import annotations

import os
import re
import socket
import sys

ESTABLISHED = "01"
SECONDS = 10.0
QUESTION = b"GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n"


def manager_is_ready(listen: str) -> str | None:
    """None, or what the REST API says is wrong."""
    port = int(listen.rpartition(":")[2])
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            status = _asked(connection) if "FEDERATION_API_CERTIFICATE" not in os.environ else _asked(_tls(connection))
    except OSError as error:
        return f"the REST API is not ready: {error}"
    return None if status == b"200" else f"the REST API is not ready: it answers {status!r}"


def _asked(connection: socket.socket) -> bytes:
    """The status of the answer."""
    connection.sendall(QUESTION)
    with connection.makefile("rb") as answer:
        return answer.readline(256).partition(b" ")[2][:3]


def _tls(connection: socket.socket) -> socket.socket:
    """The certificate bears the name by which others come, not that of loopback, and nothing secret is sent."""
    import ssl  # noqa: PLC0415 (loaded where it is needed)

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


def worker_is_connected() -> str | None:
    """None, or that the worker has no connection to its broker."""
    ports = broker_ports(broker_url(_read("/proc/1/environ")))
    for table in ("/proc/1/net/tcp", "/proc/1/net/tcp6"):
        for line in _read(table).splitlines()[1:]:
            _, _, remote, state = line.split()[:4]
            if state == ESTABLISHED and int(remote.rpartition(":")[2], 16) in ports:
                return None
    return f"no connection to a broker's port {' or '.join(map(str, sorted(ports)))}"


def broker_url(environment: str) -> str:
    """The broker's URL as the process with this environment (of /proc) has it."""
    found = dict(entry.split("=", 1) for entry in environment.split("\0") if "=" in entry)
    if "FEDERATION_BROKER" in found or "FEDERATION_BROKER_FILE" not in found:
        return found.get("FEDERATION_BROKER", "")
    return _read(found["FEDERATION_BROKER_FILE"]).strip()


def broker_ports(url: str) -> set[int]:
    """The ports that the URL names, or RabbitMQ's own."""
    place = url.partition("://")[2].rpartition("@")[2].partition("/")[0].partition("?")[0]
    named = {int(port) for port in re.findall(r":(\d+)(?=,|$)", place)}
    return named or {5671, 5672}


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (pathlib takes longer than the rest)
        return file.read()


def main() -> int:
    """The exit status."""
    listen = os.environ.get("FEDERATION_API_LISTEN")
    wrong = manager_is_ready(listen) if listen else worker_is_connected()
    print(wrong or "well")
    return int(wrong is not None)


if __name__ == "__main__":
    sys.exit(main())
