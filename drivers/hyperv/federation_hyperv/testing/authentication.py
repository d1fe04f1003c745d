"""Who may ask: Basic, Negotiate (NTLM, Kerberos) with each message encrypted, and client certificates."""

from __future__ import annotations

import base64
import hmac
import os
import re
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import spnego
from spnego.exceptions import SpnegoError

from federation_hyperv.testing.certificates import may_log_in

_BOUNDARY = "Encrypted Boundary"
# What a client says that logs in by its certificate (DSP0226, C.3.5; the whole value of Authorization).
_MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
# pyspnego finds its accounts by a variable of the process, which several clusters in one process share.
_ENVIRONMENT = threading.Lock()


class BadMessage(Exception):
    """An encrypted message that cannot be read."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """The one account that hosts accept, and in which ways.

    ``allow_unencrypted`` is WinRM's setting of that name: Basic, and Negotiate without encryption, over plain HTTP.
    """

    username: str
    password: str = field(repr=False)
    basic: bool = True
    negotiate: bool = True
    allow_unencrypted: bool = False
    ntlm_file: str = ""
    """The account once more, in the file from which pyspnego's acceptor takes it."""
    certificate_subject: str = ""
    """The user (UPN) whose certificates log in to the account; empty: certificates are not accepted."""
    keytab: str = ""
    """The keys of ``host/<service_host>``, which pypsrp asks for; empty: no Kerberos.  Needs pyspnego's extra ``kerberos``."""
    service_host: str = "localhost"
    principal: str = ""
    """The Kerberos principal that logs in to the account."""


class Session:
    """The state of one connection."""

    def __init__(self, accounts: Accounts, *, tls: bool, ask_certificate: Callable[[], bytes | None]) -> None:
        self._accounts = accounts
        self._tls = tls
        self._ask_certificate = ask_certificate
        self._context: Any = None
        self._kind = ""
        self.is_authenticated = False
        self.must_encrypt = False

    def challenges(self) -> list[str]:
        """What WWW-Authenticate offers."""
        offered = ["Negotiate"] if self._accounts.negotiate else []
        if self._accounts.keytab:
            offered.append("Kerberos")
        if self._basic_allowed:
            offered.append('Basic realm="WSMAN"')
        return offered

    @property
    def _basic_allowed(self) -> bool:
        return self._accounts.basic and (self._tls or self._accounts.allow_unencrypted)

    def authenticate(self, header: str) -> str | None:
        """Take an Authorization header; the answer's WWW-Authenticate, None when there is none to give."""
        if header.strip() == _MUTUAL:
            self.is_authenticated = self._check_certificate()
            return None
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "basic" and self._basic_allowed:
            self.is_authenticated = self._check_basic(value)
            return None
        if scheme.lower() in {"negotiate", "ntlm", "kerberos"} and self._accounts.negotiate:
            return self._step(scheme, value)
        return None

    def _check_certificate(self) -> bool:
        subject = self._accounts.certificate_subject
        if not self._tls or not subject:
            return False
        shown = self._ask_certificate()
        return shown is not None and may_log_in(shown, subject)

    def _check_basic(self, value: str) -> bool:
        try:
            text = base64.b64decode(value, validate=True).decode()
        except ValueError:
            return False
        wanted = f"{self._accounts.username}:{self._accounts.password}"
        return hmac.compare_digest(text.encode(), wanted.encode())

    def _step(self, scheme: str, value: str) -> str | None:
        try:
            token = base64.b64decode(value, validate=True)
            with _ENVIRONMENT:
                os.environ["NTLM_USER_FILE"] = self._accounts.ntlm_file
                if self._accounts.keytab:
                    os.environ["KRB5_KTNAME"] = self._accounts.keytab
                if self._context is None or self._context.complete:
                    self.is_authenticated = False
                    sealed_by = "Kerberos" if scheme.lower() == "kerberos" else "SPNEGO"
                    self._kind = f"application/HTTP-{sealed_by}-session-encrypted"
                    self._context = spnego.server(
                        hostname=self._accounts.service_host,
                        service="host",
                        protocol=_protocol(scheme, token),
                    )
                answer = self._context.step(token)
        except (ValueError, SpnegoError):
            self._context = None
            return None
        if self._context.complete:
            self.is_authenticated = self._is_ours()
            self.must_encrypt = not self._tls and not self._accounts.allow_unencrypted
        return f"{scheme} {base64.b64encode(answer).decode()}" if answer else None

    def _is_ours(self) -> bool:
        """NTLM's acceptor knows no other account; Kerberos vouches for everybody in the realm."""
        if self._context.negotiated_protocol != "kerberos":
            return True
        return str(self._context.client_principal) == self._accounts.principal

    def decrypt(self, body: bytes) -> bytes:
        """The message inside a multipart/encrypted body (MS-WSMV 2.2.9.1); BadMessage when it cannot be read."""
        parts = [part for part in re.split(rb"--\s*Encrypted Boundary(?:--)?\r\n", body) if part.strip()]
        if len(parts) != 2 or self._context is None:  # the description and the message
            raise BadMessage("not two parts")
        found = re.search(rb"Length=(\d+)", parts[0])
        payload = re.sub(rb"^\s*Content-Type: application/octet-stream\r\n", b"", parts[1])
        if found is None or len(payload) < 4:  # the header's length
            raise BadMessage("no length")
        (length,) = struct.unpack("<i", payload[:4])
        try:
            plain: bytes = self._context.unwrap_winrm(payload[4 : 4 + length], payload[4 + length :])
        except (SpnegoError, ValueError) as error:
            raise BadMessage("the seal is broken") from error
        if len(plain) != int(found[1]):
            raise BadMessage("another length than announced")
        return plain

    def encrypt(self, body: bytes) -> tuple[str, bytes]:
        """The content type and the body of an encrypted answer."""
        wrapped = self._context.wrap_winrm(body)
        length = len(body) + wrapped.padding_length
        head = (
            f"--{_BOUNDARY}\r\n\tContent-Type: {self._kind}\r\n"
            f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={length}\r\n"
            f"--{_BOUNDARY}\r\n\tContent-Type: application/octet-stream\r\n"
        )
        data = struct.pack("<i", len(wrapped.header)) + wrapped.header + wrapped.data
        kind = f'multipart/encrypted;protocol="{self._kind}";boundary="{_BOUNDARY}"'
        return kind, head.encode() + data + f"--{_BOUNDARY}--\r\n".encode()


def _protocol(scheme: str, token: bytes) -> str:
    if token.startswith(b"NTLMSSP"):
        return "ntlm"
    return "kerberos" if scheme.lower() == "kerberos" else "negotiate"
