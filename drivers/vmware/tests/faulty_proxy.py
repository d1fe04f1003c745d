"""An HTTPS proxy before vCenter that can do what the simulator never does: refuse, break off, delay, cut, forget sessions.

A rule names the SOAP method that it is for, how often it applies, and what happens.  Everything that passes is counted.
"""

from __future__ import annotations

import http.client
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from parts.certificates import make_certificates

_METHOD = re.compile(rb"<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)")
_FAULT = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault>
<faultcode>ServerFaultCode</faultcode><faultstring>{words}</faultstring>
<detail><{name}Fault xmlns="urn:vim25" xsi:type="{name}">{inside}</{name}Fault></detail>
</soapenv:Fault></soapenv:Body></soapenv:Envelope>"""
_INSIDE = {
    "TaskInProgress": '<task type="Task">task-1</task>',
    "NotAuthenticated": '<object type="Folder">group-d1</object><privilegeId>System.View</privilegeId>',
    "NoPermission": '<object type="Folder">group-d1</object><privilegeId>VirtualMachine.Interact.PowerOn</privilegeId>',
}


class Broken(Exception):
    """The connection is to be closed without an answer."""


@dataclass
class Rule:
    """What happens to the next ``times`` requests of a method; ``skip`` lets so many pass before."""

    method: str
    before: Callable[[], bytes | None] | None = None
    after: Callable[[bytes], bytes] | None = None
    times: int = 1
    skip: int = 0
    contains: bytes = b""
    keep_length: bool = False

    def applies(self, method: str, body: bytes) -> bool:
        if method != self.method or self.contains not in body or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class FaultyProxy:
    """Listens on a port of its own; ``rules`` may change while it runs."""

    def __init__(self, vcenter: Any, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        certificates = make_certificates(folder)
        self.ca_file = certificates["ca_pem"]
        self.certificate = certificates["server_pem"]
        self.rules: list[Rule] = []
        self.seen: Counter[str] = Counter()
        self.bodies: list[tuple[str, bytes]] = []
        self.vcenter = vcenter
        self._upstream = ssl.create_default_context(cafile=vcenter.ca_file)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates["server_pem"], certificates["server_key"])
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # What a rule may do

    def refuse(self, method: str, name: str, words: str = "", **rule: Any) -> None:
        text = _FAULT.format(name=name, words=words or name, inside=_INSIDE.get(name, ""))
        self.rules.append(Rule(method, before=text.encode, **rule))

    def break_off(self, method: str, *, after: bool, **rule: Any) -> None:
        """Close without an answer, before the request is passed on or after it was carried out."""

        def broken(*_: Any) -> bytes:
            raise Broken

        self.rules.append(Rule(method, after=broken, **rule) if after else Rule(method, before=broken, **rule))

    def delay(self, method: str, seconds: float, **rule: Any) -> None:
        self.rules.append(Rule(method, before=lambda: time.sleep(seconds), **rule))

    def cut(self, method: str, **rule: Any) -> None:
        """Send half of the answer."""
        self.rules.append(Rule(method, after=lambda answer: answer[: len(answer) // 2], keep_length=True, **rule))

    def rewrite(self, method: str, old: bytes, new: bytes, **rule: Any) -> None:
        self.rules.append(Rule(method, after=lambda answer: answer.replace(old, new), **rule))

    def still_running(self, times: int, **rule: Any) -> None:
        """Say of tasks that are done that they run."""
        self.rewrite(
            "RetrievePropertiesEx", b">success</val>", b">running</val>", times=times, contains=b"info.state", **rule
        )

    # How it passes things on

    def answer(self, path: str, verb: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        found = _METHOD.search(body)
        method = found[1].decode() if found else verb
        self.seen[method] += 1
        self.bodies.append((method, body))
        rule = next((one for one in self.rules if one.applies(method, body)), None)
        if rule is not None and rule.before is not None:
            instead = rule.before()
            if instead is not None:
                return 500, {"Content-Type": "text/xml; charset=utf-8"}, instead
        status, kept, content = self._pass(path, verb, headers, body)
        if rule is not None and rule.after is not None:
            changed = rule.after(content)
            return status, kept | {"X-Length": str(len(content if rule.keep_length else changed))}, changed
        return status, kept, content

    def _pass(self, path: str, verb: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPSConnection(
            self.vcenter.host, self.vcenter.port, timeout=30, context=self._upstream
        )
        passed = {name: value for name, value in headers.items() if name.lower() not in {"host", "accept-encoding"}}
        connection.request(verb, path, body, passed)
        answer = connection.getresponse()
        content = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() in {"content-type", "set-cookie"}}
        connection.close()
        return answer.status, kept, content

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """The test counts what it wants to know."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                try:
                    status, headers, content = proxy.answer(self.path, self.command, dict(self.headers), body)
                except Broken:
                    self.close_connection = True
                    return
                self.send_response(status)
                length = headers.pop("X-Length", str(len(content)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(content)
                if length != str(len(content)):
                    self.close_connection = True

            do_GET = do_POST  # noqa: N815 - the standard library's names
            do_PUT = do_POST  # noqa: N815

        return Handler
