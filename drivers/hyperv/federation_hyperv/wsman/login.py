"""Where a host is and how to log in; the password never shows in a repr, a log or an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Authentication = Literal["kerberos", "negotiate", "ntlm", "certificate", "basic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How to reach one host.

    ``ca_file`` is the authority that signed the host's certificate (empty: the system's store); ``verify`` false is for
    trying things out only.  Without TLS, Kerberos and NTLM encrypt each message; Basic is refused with a ValueError.
    Timeouts are seconds.
    """

    address: str
    port: int = 5986
    tls: bool = True
    authentication: Authentication = "negotiate"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    verify: bool = True
    certificate_file: str = ""
    certificate_key_file: str = field(default="", repr=False)
    connect_seconds: float = 10.0
    operation_seconds: int = 60
    max_envelope_bytes: int = 8 << 20
    """The most that an answer may have.  A host whose MaxEnvelopeSizekb is less answers in that (MS-WSMV 3.1.4.1.7)."""

    def __post_init__(self) -> None:
        """Refuse what would send a secret in clear text."""
        if self.authentication == "basic" and not self.tls:
            raise ValueError("Basic authentication sends the password in clear text: use TLS, or negotiate")
        if self.authentication == "certificate" and not self.tls:
            raise ValueError("a client certificate needs TLS")
