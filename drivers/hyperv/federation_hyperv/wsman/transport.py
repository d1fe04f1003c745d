"""The only import of pypsrp: one authenticated connection to a host, its errors translated.

pypsrp logs whole envelopes at debug level and never the password; the Authorization header is requests' own and is not
logged by it.  pypsrp's session is not for two threads at once (NTLM numbers its messages), so a `Host` lends each
connection to one caller at a time.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import socket
import xml.etree.ElementTree as ET
from typing import Any

import requests
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.wsman import OptionSet, SelectorSet, WSMan
from spnego.exceptions import SpnegoError
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError

from federation_hyperv.cim import names
from federation_hyperv.wsman.errors import (
    AccessDenied,
    HostUnreachable,
    InstanceNotFound,
    LostAnswer,
    TransportError,
    WsmanFault,
)
from federation_hyperv.wsman.login import Login

_log = logging.getLogger(__name__)
# At debug level pyspnego writes down the tokens of NTLM, from which a weak password can be found by trying.
logging.getLogger("spnego").setLevel(logging.INFO)

# MS-WSMV 2.2.4.43 and WMI's own WBEM_E_ codes, as unsigned numbers.
ACCESS_DENIED = {5, 0x80070005, 0x80041003}
NOT_FOUND = {0x80041002}
DESTINATION_UNREACHABLE = 0x80338000


def _login_errors() -> tuple[type[Exception], ...]:
    """The errors of pyspnego, and what it lets through of its optional libraries for Kerberos."""
    try:
        library: Any = importlib.import_module("krb5")
    except ImportError:
        return (SpnegoError, ImportError)
    return (SpnegoError, ImportError, library.Krb5Error)


_LOGIN_ERRORS = _login_errors()


class Connection:
    """One connection; close it after any error that says the answer was lost."""

    def __init__(self, login: Login) -> None:
        self._login = login
        read_seconds = login.operation_seconds + 5
        # pypsrp says bool; requests, to which it hands it on, takes the path of an authority as well.
        verification: Any = (login.ca_file or True) if login.verify else False
        options: dict[str, Any] = {}
        if login.authentication == "certificate":
            options = {
                "certificate_pem": login.certificate_file,
                "certificate_key_pem": login.certificate_key_file,
            }
        self._wsman = WSMan(
            login.address, port=login.port, username=login.username or None, password=login.password or None,
            ssl=login.tls, auth=login.authentication, cert_validation=verification,
            max_envelope_size=login.max_envelope_bytes, operation_timeout=login.operation_seconds,
            connection_timeout=math.ceil(login.connect_seconds), read_timeout=read_seconds, no_proxy=True,
            reconnection_retries=0, **options,
        )  # fmt: skip
        self.is_usable = True

    def send(
        self, action: str, uri: str, body: ET.Element | None, selectors: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> ET.Element:  # fmt: skip
        """Send one request and give the answer's Body."""
        with self._translated(action):
            answer = self._wsman.invoke(action, uri, body, _options(options), _selectors(selectors))
            found = answer.find(f"{{{names.SOAP}}}Body")
            if found is None:
                raise WsmanFault("the host answered without a SOAP body")
            return found

    def identify(self) -> ET.Element:
        """Ask who is there, without naming a resource (DSP0226, 11)."""
        body = ET.Element(f"{{{names.SOAP}}}Envelope")
        ET.SubElement(body, f"{{{names.SOAP}}}Header")
        ET.SubElement(ET.SubElement(body, f"{{{names.SOAP}}}Body"), f"{{{names.IDENTITY}}}Identify")
        with self._translated("Identify"):
            return ET.fromstring(self._wsman.transport.send(ET.tostring(body, encoding="utf-8")))  # noqa: S314  # the host's answer, over an authenticated connection

    def close(self) -> None:
        """Close the socket."""
        self.is_usable = False
        self._wsman.close()

    @contextlib.contextmanager
    def _translated(self, action: str) -> Any:
        what = f"{action.rpartition('/')[2]} at {self._login.address}"
        try:
            yield
        except WSManFaultError as error:
            raise _fault(error, what) from error
        except AuthenticationError as error:
            self.close()
            raise AccessDenied(f"{what}: the host does not accept the account {self._login.username!r}") from error
        except requests.exceptions.RequestException as error:
            self.close()
            raise _lost(error, what) from error
        except _LOGIN_ERRORS as error:
            self.close()
            raise _no_ticket(error, what) from error
        except WinRMTransportError as error:
            self.close()
            raise LostAnswer(f"{what}: HTTP status {error.code} without a fault") from error
        except (WinRMError, ET.ParseError, HTTPError) as error:
            self.close()
            raise LostAnswer(f"{what}: the answer cannot be read") from error


def _selectors(values: dict[str, str] | None) -> SelectorSet | None:
    if not values:
        return None
    made = SelectorSet()
    for name, value in values.items():
        made.add_option(name, value)
    return made


def _options(values: dict[str, str] | None) -> OptionSet | None:
    if not values:
        return None
    made = OptionSet()
    for name, value in values.items():
        made.add_option(name, value)
    return made


def _fault(error: WSManFaultError, what: str) -> TransportError:
    codes = _codes(error)
    words = " ".join(str(error.reason or error.code or "no reason given").split())
    message = f"{what}: {words}"
    if codes & ACCESS_DENIED:
        return AccessDenied(message)
    code = max(codes, default=None)
    if codes & NOT_FOUND or codes == {DESTINATION_UNREACHABLE}:
        return InstanceNotFound(message, code)
    return WsmanFault(message, code)


def _codes(error: WSManFaultError) -> set[int]:
    """WinRM's number and, inside it, the provider's, which pypsrp does not keep apart."""
    texts = [str(error.code)] if error.code is not None else []
    answer = getattr(error.__context__, "response_text", None)
    if isinstance(answer, str):
        fault = f"{{{names.FAULT}}}WSManFault"
        texts += [item.get("Code", "") for item in ET.fromstring(answer).iter(fault)]  # noqa: S314  # pypsrp has read it before
    return {int(text) & 0xFFFFFFFF for text in texts if text.lstrip("-").isdigit()}


def _no_ticket(error: Exception, what: str) -> TransportError:
    """Logging in has failed on this side, before a request was sent: the host is not asked again with what is refused."""
    words = " ".join(str(error).split())
    if isinstance(error, ImportError):
        words += " (Kerberos needs pyspnego[kerberos])"
    if "Cannot contact any KDC" in words:
        return HostUnreachable(f"{what}: {words}")
    return AccessDenied(f"{what}: logging in failed: {words}")


def _lost(error: requests.exceptions.RequestException, what: str) -> TransportError:
    """Whether the request can have reached the host: only a connection that never stood says that it did not."""
    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.ConnectTimeout):
        return HostUnreachable(f"{what}: {type(error).__name__}")
    cause: BaseException | None = error
    seen = 0
    while cause is not None and seen < 10:  # noqa: PLR2004  # exceptions chain a few deep; a cycle must end
        if isinstance(
            cause,
            NewConnectionError | ConnectTimeoutError | NameResolutionError | ConnectionRefusedError | socket.gaierror,
        ):
            return HostUnreachable(f"{what}: no connection")
        reason = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None)
        cause = reason if isinstance(reason, BaseException) else cause.__cause__ or cause.__context__
        seen += 1
    return LostAnswer(f"{what}: {type(error).__name__} before the answer")
