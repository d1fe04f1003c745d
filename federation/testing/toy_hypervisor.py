"""A hypervisor for the tutorial: machines that exist only in this process, behind HTTP and JSON.

``python -m federation.testing.toy_hypervisor`` serves it on loopback.  It outlives the driver that talks to it, keeps what
it is told in labels, and refuses what a hypervisor refuses.  Of machines it knows ``id``, ``name``, ``node``, ``template``,
``vcpus``, ``memory_bytes``, ``state`` (running or stopped) and ``labels``.

| request | answer |
|---|---|
| ``GET /nodes`` | 200, a list |
| ``GET /machines``, ``GET /machines/ID`` | 200; 404 |
| ``POST /machines`` | 201; 400, 404 no such node or template (``what`` says which), 409 id or name taken, 507 no memory left |
| ``POST /machines/ID/start``, ``…/stop`` | 200, also when it is so already; 404 |
| ``DELETE /machines/ID`` | 204; 404; 409 while it runs |
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Document = dict[str, Any]
TEMPLATES = frozenset({"small"})
NODES = ("toy-1", "toy-2")
MEMORY_BYTES = 16 << 30
STORAGE_BYTES = 1 << 40
VCPUS = 8
_FIELDS = {"id": str, "name": str, "node": str, "template": str, "vcpus": int, "memory_bytes": int, "labels": dict}
_LARGEST_BODY = 1 << 20


class Refused(Exception):
    """The hypervisor does not do it: status, what it is about, and words for people."""

    def __init__(self, status: HTTPStatus, what: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.document = {"what": what, "message": message}


class ToyHypervisor:
    """Nodes and machines; one change at a time, as the lock of a hypervisor's own daemon has it."""

    def __init__(self) -> None:
        self._machines: dict[str, Document] = {}
        self._lock = threading.Lock()

    def nodes(self) -> list[Document]:
        """The inventory and what is used of it."""
        with self._lock:
            return [self._node(name) for name in NODES]

    def machines(self) -> list[Document]:
        """Every machine."""
        with self._lock:
            return [dict(machine) for machine in self._machines.values()]

    def machine(self, identity: str) -> Document:
        """One machine; Refused when there is none."""
        with self._lock:
            return dict(self._known(identity))

    def make(self, plan: object) -> Document:
        """Make a stopped machine."""
        machine = _checked(plan)
        with self._lock:
            node = self._node(machine["node"]) if machine["node"] in NODES else None
            if node is None:
                raise Refused(HTTPStatus.NOT_FOUND, "node", f"there is no node {machine['node']!r}")
            if machine["template"] not in TEMPLATES:
                raise Refused(HTTPStatus.NOT_FOUND, "template", f"there is no template {machine['template']!r}")
            for other in self._machines.values():
                if machine["id"] == other["id"] or machine["name"] == other["name"]:
                    raise Refused(HTTPStatus.CONFLICT, "machine", f"{other['name']} ({other['id']}) is there already")
            if node["memory_bytes_used"] + machine["memory_bytes"] > MEMORY_BYTES:
                raise Refused(
                    HTTPStatus.INSUFFICIENT_STORAGE, "memory", f"{machine['node']} has not enough memory left"
                )
            self._machines[machine["id"]] = machine
            return dict(machine)

    def switch(self, identity: str, state: str) -> Document:
        """Start or stop a machine."""
        with self._lock:
            machine = self._known(identity)
            machine["state"] = state
            return dict(machine)

    def remove(self, identity: str) -> Document:
        """Remove a stopped machine; returns what it was."""
        with self._lock:
            if self._known(identity)["state"] != "stopped":
                raise Refused(HTTPStatus.CONFLICT, "machine", f"{identity} runs; stop it first")
            return self._machines.pop(identity)

    def _known(self, identity: str) -> Document:
        if identity not in self._machines:
            raise Refused(HTTPStatus.NOT_FOUND, "machine", f"there is no machine {identity!r}")
        return self._machines[identity]

    def _node(self, name: str) -> Document:
        here = [machine for machine in self._machines.values() if machine["node"] == name]
        return {
            "name": name,
            "vcpus": VCPUS,
            "vcpus_used": sum(machine["vcpus"] for machine in here),
            "memory_bytes": MEMORY_BYTES,
            "memory_bytes_used": sum(machine["memory_bytes"] for machine in here),
            "storage_bytes": STORAGE_BYTES,
            "storage_bytes_used": 0,
            "machines": len(here),
        }


def _checked(plan: object) -> Document:
    if not isinstance(plan, dict) or set(plan) != set(_FIELDS):
        raise Refused(HTTPStatus.BAD_REQUEST, "fields", f"a machine has exactly the fields {', '.join(_FIELDS)}")
    for field, kind in _FIELDS.items():
        if not isinstance(plan[field], kind) or isinstance(plan[field], bool):
            raise Refused(HTTPStatus.BAD_REQUEST, "fields", f"{field} is no {kind.__name__}")
    return {**plan, "state": "stopped"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    hypervisor: ToyHypervisor

    def do_GET(self) -> None:
        match self._path():
            case ["nodes"]:
                self._answer(lambda: (HTTPStatus.OK, self.hypervisor.nodes()))
            case ["machines"]:
                self._answer(lambda: (HTTPStatus.OK, self.hypervisor.machines()))
            case ["machines", identity]:
                self._answer(lambda: (HTTPStatus.OK, self.hypervisor.machine(identity)))
            case _:
                self._nowhere()

    def do_POST(self) -> None:
        body = self._body()
        match self._path():
            case ["machines"]:
                self._answer(lambda: (HTTPStatus.CREATED, self.hypervisor.make(body)))
            case ["machines", identity, "start"]:
                self._answer(lambda: (HTTPStatus.OK, self.hypervisor.switch(identity, "running")))
            case ["machines", identity, "stop"]:
                self._answer(lambda: (HTTPStatus.OK, self.hypervisor.switch(identity, "stopped")))
            case _:
                self._nowhere()

    def do_DELETE(self) -> None:
        match self._path():
            case ["machines", identity]:
                self._answer(lambda: (HTTPStatus.NO_CONTENT, self.hypervisor.remove(identity)))
            case _:
                self._nowhere()

    def log_message(self, *_: object) -> None:
        """Say nothing: the tutorial's terminal belongs to the tutorial."""

    def _path(self) -> list[str]:
        return self.path.partition("?")[0].strip("/").split("/")

    def _body(self) -> object:
        length = min(int(self.headers.get("Content-Length") or 0), _LARGEST_BODY)
        try:
            return json.loads(self.rfile.read(length) or b"null")
        except ValueError:
            return None  # refused as a machine without its fields

    def _nowhere(self) -> None:
        self._send(HTTPStatus.NOT_FOUND, {"what": "path", "message": f"nothing is at {self.path}"})

    def _answer(self, act: Any) -> None:
        try:
            status, document = act()
        except Refused as error:
            status, document = error.status, error.document
        self._send(status, document)

    def _send(self, status: HTTPStatus, document: object) -> None:
        body = b"" if status is HTTPStatus.NO_CONTENT else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle takes no answer; the kit kills many."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ToyServer:
    """The hypervisor on a port of loopback; 0 picks a free one."""

    def __init__(self, port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"hypervisor": ToyHypervisor()})
        self._server = _Server(("127.0.0.1", port), handler)
        self.port = int(self._server.server_address[1])

    def serve(self) -> None:
        """Answer until ``close``."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Stop answering; from another thread than ``serve``."""
        self._server.shutdown()
        self._server.server_close()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A hypervisor for the tutorial, on loopback.")
    parser.add_argument("--port", type=int, default=8901)
    server = ToyServer(parser.parse_args().port)
    print(f"the toy hypervisor answers at http://127.0.0.1:{server.port}", flush=True)
    try:
        server.serve()
    except KeyboardInterrupt:
        print("the toy hypervisor is gone, and so are its machines")


if __name__ == "__main__":
    main()
