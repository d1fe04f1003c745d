"""Client certificates: whom one names, whether it may log in, and how a host asks for it.

WinRM's table `WSMan:\\localhost\\ClientCertificate` maps a user principal name and an issuer to a local account.  The name
stands in the certificate's subjectAltName as an otherName of Microsoft's type; the extended key usage must allow client
authentication (MS-WSMV 2.2.4.3, and Microsoft's "Certificate mapping" pages).  The issuer is checked by TLS: hosts trust the
one authority of their settings.
"""

from __future__ import annotations

import fnmatch
import select
import ssl
import time

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

_UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_UTF8_STRING = 0x0C
_ANSWER_SECONDS = 10.0


def user_principal_name(certificate: bytes) -> str:
    """The user that a certificate (DER) names; empty when it names none."""
    try:
        extension = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return ""
    named = [one.value for one in extension.value if isinstance(one, x509.OtherName) and one.type_id == _UPN]
    return _utf8_string(named[0]) if named else ""


def may_log_in(certificate: bytes, subject: str) -> bool:
    """Whether a certificate is for clients and names the mapped user; `*` in the mapping matches anything."""
    try:
        usage = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return False
    name = user_principal_name(certificate)
    return (
        ExtendedKeyUsageOID.CLIENT_AUTH in usage.value
        and bool(name)
        and fnmatch.fnmatchcase(name.lower(), subject.lower())
    )


def ask(connection: ssl.SSLSocket) -> bytes | None:
    """The client's certificate (DER), asked for now when the handshake did not; None when there is none.

    Windows Server 2022 asks after the handshake, when a request says that it logs in by certificate (TLS 1.3, RFC 8446,
    4.6.2).  OpenSSL sends the question with the next write, for which HTTP has its interim answer 100, and reads the
    certificate with the next read.
    """
    shown = connection.getpeercert(binary_form=True)
    if shown is not None or not connection.context.post_handshake_auth or connection.version() != "TLSv1.3":
        return shown
    try:
        connection.verify_client_post_handshake()
    except ssl.SSLError:  # the client has not offered it
        return None
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    before, deadline = connection.gettimeout(), time.monotonic() + _ANSWER_SECONDS
    connection.setblocking(False)  # noqa: FBT003  # the standard library's own
    try:
        while shown is None and time.monotonic() < deadline:
            select.select([connection], [], [], 0.1)
            shown = _look(connection)
    finally:
        connection.settimeout(before)
    return shown


def _look(connection: ssl.SSLSocket) -> bytes | None:
    """Read what has come: the handshake's messages; there is no data, for the client waits for an answer."""
    try:
        connection.read(1)
    except ssl.SSLWantReadError:
        return connection.getpeercert(binary_form=True)
    raise ConnectionError("the client sent something else, or left")


def _utf8_string(encoded: bytes) -> str:
    """The text of a DER UTF8String; empty when it is something else."""
    if len(encoded) < 2 or encoded[0] != _UTF8_STRING:  # a tag and a length
        return ""
    length, start = encoded[1], 2
    if length == 0x81 and len(encoded) > start:  # DER: one more byte has the length
        length, start = encoded[2], 3
    return encoded[start:].decode("utf-8", "replace") if len(encoded) == start + length else ""
