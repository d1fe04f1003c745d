"""The session with vCenter: opened when needed, renewed when it ends, every fault translated.

Rules:

1. One stub (a pool of HTTPS connections with one session cookie) serves all threads: pyVmomi takes a connection out of
   the pool for each request.  A new session is a new stub that replaces the old one at once; nothing is locked.
2. A question is asked again when vCenter is not reached (bounded, with jitter).  A change is sent once: whether it was
   carried out is found out by looking, never by sending it again.
3. ``NotAuthenticated`` means that nothing was done: the session is renewed and the request sent again, once.
4. No message holds the password; requests are never logged.
5. An account and password that vCenter has refused are not tried again for a while, until the settings' file or variable says
   others: every thread and the inventory's watcher would try, and vCenter locks an account after a few.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import logging
import secrets
import ssl
import time
import xml.parsers.expat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pyVmomi import SoapStubAdapter, vim, vmodl
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from federation.contract.errors import (
    HypervisorRefused,
    HypervisorUnreachable,
    NotFound,
    OperationError,
    PermissionDenied,
)
from federation_vmware import faults
from federation_vmware.settings import Settings

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Reference = Any
"""A managed object of pyVmomi; it is bound to a session, see ``Session.bound``."""

API_VERSION = "vim.version.version11"
"""vSphere API 6.5: every vCenter from 6.5 on speaks it."""
_IDLE_SECONDS = 10.0
"""Younger than any server's own limit, so that a connection is not used just when the server closes it."""
_CONNECTIONS = 32
_TOUCHED = 1000
_SHA1_DIGITS = 40
_KEY = secrets.token_bytes(32)
_LOST = (OSError, http.client.HTTPException, xml.parsers.expat.ExpatError)
_Collector = vmodl.query.PropertyCollector


class _Unreached(Exception):
    """vCenter was not reached or did not answer; ``final`` when trying again cannot help."""

    def __init__(self, error: Exception, *, final: bool) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.final = final


class PinnedContext(ssl.SSLContext):
    """Takes a server whose certificate has the thumbprint, SHA-256 or (of hosts, by vCenter's word) SHA-1, and no other.

    pyVmomi compares thumbprints only where an authority has already said no (9.1), so this is done here, before anything
    is sent.
    """

    thumbprint = ""

    @classmethod
    def of(cls, thumbprint: str) -> PinnedContext:
        """The context for a thumbprint in hexadecimal, with or without colons."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.thumbprint = thumbprint.replace(":", "").lower()
        return context

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """Shake hands, and compare; SSLCertVerificationError when it is another certificate."""
        wrapped = super().wrap_socket(*arguments, **options)
        algorithm = "sha1" if len(self.thumbprint) == _SHA1_DIGITS else "sha256"
        seen = hashlib.new(algorithm, wrapped.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(seen, self.thumbprint):
            wrapped.close()
            raise ssl.SSLCertVerificationError(
                f"the server's certificate has the thumbprint {seen}, not the one that is known"
            )
        return wrapped


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Account and password that vCenter has refused, as a digest, and when (monotonic seconds)."""

    fingerprint: bytes
    at: float


class Session:
    """One login; ``content`` is vCenter's ServiceContent."""

    def __init__(self, stub: Any, content: Any) -> None:
        self.stub = stub
        self.content = content

    def bound(self, reference: Reference) -> Reference:
        """The same object of the inventory, spoken to by this session."""
        return type(reference)(reference._GetMoId(), self.stub)  # noqa: SLF001 - pyVmomi's name for an object's id


class Connection:
    """vCenter, as the driver's parts speak to it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._session: Session | None = None
        self._refused: _Refusal | None = None
        self.touched: deque[Reference] = deque(maxlen=_TOUCHED)
        """Machines that this process has changed: the inventory reads them again, whether vCenter tells of it or not."""

    def read(self, what: str, ask: Callable[[Session], Answer]) -> Answer:
        """Ask; HypervisorUnreachable when no try was answered, else what the fault means."""
        retrying = Retrying(
            retry=retry_if_exception_type(_Unreached),
            stop=lambda state: stop_after_attempt(self.settings.timeouts.read_tries)(state) or _is_final(state),
            wait=wait_random_exponential(multiplier=0.2, max=3.0),
            reraise=True,
        )
        with self._translated(what):
            return retrying(lambda: self._once(ask))

    def change(self, what: str, send: Callable[[Session], Answer]) -> Answer:
        """Send one changing request; HypervisorUnreachable means that it may have been carried out."""
        with self._translated(what):
            return self._once(send)

    def properties(
        self, what: str, kind: type, references: Sequence[Reference], paths: Sequence[str]
    ) -> list[tuple[Reference, dict[str, Any]]]:
        """The properties of some objects of one kind, in one request for each page of the answer.

        An object that is gone makes NotFound; a property that is not set is missing.
        """
        if not references:
            return []

        def ask(session: Session) -> list[tuple[Reference, dict[str, Any]]]:
            objects = [_Collector.ObjectSpec(obj=session.bound(one), skip=False) for one in references]
            return retrieve(session, [filter_spec(kind, paths, objects)])

        return self.read(what, ask)

    def members(
        self, what: str, container: Reference, kind: type, paths: Sequence[str]
    ) -> list[tuple[Any, dict[str, Any]]]:
        """The properties of everything of a kind below a folder, datacenter or cluster."""

        def ask(session: Session) -> list[tuple[Any, dict[str, Any]]]:
            where = session.content.rootFolder if container is None else session.bound(container)
            view = session.content.viewManager.CreateContainerView(where, [kind], recursive=True)
            try:
                return retrieve(session, [filter_spec(kind, paths, [through_view(view)])])
            finally:
                view.DestroyView()

        return self.read(what, ask)

    def session(self) -> Session:
        """The session, opened if there is none."""
        session = self._session
        return self._renewed(None) if session is None else session

    @property
    def cookie(self) -> str:
        """What lets other requests of HTTPS in as this session."""
        return str(self.session().stub.cookie).partition(";")[0]

    def tls(self) -> ssl.SSLContext:
        """How certificates are verified: by an authority, or by comparing the thumbprint with the settings'."""
        if self.settings.thumbprint:
            return PinnedContext.of(self.settings.thumbprint)
        return ssl.create_default_context(cafile=self.settings.ca_file or None)

    def host_tls(self, thumbprint: str) -> ssl.SSLContext:
        """How the certificate of one of vCenter's hosts is verified.

        By the authority; where vCenter itself is known by its thumbprint only, by the one that vCenter says, and
        HypervisorRefused when it says none.
        """
        if not self.settings.thumbprint:
            return self.tls()
        if not thumbprint:
            raise HypervisorRefused("vCenter names no thumbprint of its host; set ca_file instead of thumbprint")
        return PinnedContext.of(thumbprint)

    def close(self) -> None:
        """Log out."""
        session, self._session = self._session, None
        if session is not None:
            self._log_out(session)

    def _once(self, ask: Callable[[Session], Answer]) -> Answer:
        try:
            session = self.session()
            try:
                return ask(session)
            except vim.fault.NotAuthenticated:
                logger.info("the session with %s has ended; logging in again", self.settings.host)
                return ask(self._renewed(session))
        except _LOST as error:
            raise _Unreached(error, final=isinstance(error, ssl.SSLCertVerificationError)) from error

    def _renewed(self, ended: Session | None) -> Session:
        """A session that is not ``ended``; when two threads come at once, the later one wins and the other's is ended."""
        session = self._session
        if session is not None and session is not ended:
            return session
        fresh = self._log_in()
        if self._session is not ended and self._session is not None:
            self._log_out(fresh)
            return self._session
        self._session = fresh
        return fresh

    def _log_in(self) -> Session:
        settings = self.settings
        user, password = settings.credentials()
        self._check_refused(_fingerprint(user, password))
        stub = SoapStubAdapter(
            host=settings.host,
            port=settings.port,
            path="/sdk",
            version=API_VERSION,
            sslContext=self.tls(),
            poolSize=_CONNECTIONS,
            connectionPoolTimeout=_IDLE_SECONDS,
            httpConnectionTimeout=settings.timeouts.request_seconds,
        )
        content: Any = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
        try:
            content.sessionManager.Login(user, password, None)
        except vim.fault.InvalidLogin:
            self._refused = _Refusal(_fingerprint(user, password), time.monotonic())
            stub.DropConnections()
            raise
        self._refused = None
        return Session(stub, content)

    def _check_refused(self, fingerprint: bytes) -> None:
        refused, pause = self._refused, self.settings.timeouts.login_pause_seconds
        if refused is None or refused.fingerprint != fingerprint:
            return
        left = refused.at + pause - time.monotonic()
        if left > 0:
            raise PermissionDenied(
                f"log in: vCenter says InvalidLogin; not tried again for {left:.0f} s unless account or password change",
                vsphere_fault="InvalidLogin",
            )

    def _log_out(self, session: Session) -> None:
        try:
            session.content.sessionManager.Logout()
        except (*_LOST, vmodl.MethodFault) as error:
            logger.debug("logging out of %s failed: %s", self.settings.host, type(error).__name__)
        session.stub.DropConnections()

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except vmodl.MethodFault as fault:
            raise translated(fault, what) from fault
        except _Unreached as error:
            name = f"{self.settings.host}:{self.settings.port}"
            raise HypervisorUnreachable(f"{what}: vCenter {name} is not reached: {error}", host=name) from error


def retrieve(session: Session, specs: list[Any]) -> list[tuple[Reference, dict[str, Any]]]:
    """What the property collector finds, page after page."""
    collector = session.content.propertyCollector
    page = collector.RetrievePropertiesEx(specs, _Collector.RetrieveOptions())
    found: list[tuple[Reference, dict[str, Any]]] = []
    while page is not None:
        found += [(one.obj, {part.name: part.val for part in one.propSet}) for one in page.objects]
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
    return found


def filter_spec(kind: type, paths: Sequence[str], objects: list[Any]) -> Any:
    """What the property collector is asked for: these leaf paths of these objects."""
    properties = _Collector.PropertySpec(type=kind, pathSet=list(paths), all=False)
    return _Collector.FilterSpec(objectSet=objects, propSet=[properties], reportMissingObjectsInResults=True)


def through_view(view: Any) -> Any:
    """Everything in a container view."""
    step = _Collector.TraversalSpec(name="members", type=vim.view.ContainerView, path="view", skip=False)
    return _Collector.ObjectSpec(obj=view, skip=True, selectSet=[step])


def translated(fault: Any, what: str) -> OperationError:
    """A fault, raised or found in a task, as an error of the catalogue."""
    names = [kind.__name__.rsplit(".", 1)[-1] for kind in type(fault).__mro__ if kind.__module__ != "builtins"]
    return faults.translate(names, str(getattr(fault, "msg", "") or ""), what, _telling(fault))


def _fingerprint(user: str, password: str) -> bytes:
    """What tells two pairs apart without keeping them."""
    return hashlib.blake2b(f"{user}\0{password}".encode(), key=_KEY).digest()


def _telling(fault: Any) -> Mapping[str, str]:
    fields = ("privilegeId", "name", "invalidProperty", "property", "existingState", "requestedState", "file")
    found = {field: getattr(fault, field, None) for field in fields}
    return {field: str(value) for field, value in found.items() if isinstance(value, str) and value}


def _is_final(state: Any) -> bool:
    error = state.outcome.exception()
    return isinstance(error, _Unreached) and error.final


def gone(error: OperationError) -> bool:
    """Whether an error says that the object itself is not there any more."""
    return isinstance(error, NotFound) and faults.fault_of(error) == "ManagedObjectNotFound"


def measured(ask: Callable[[], Answer]) -> tuple[Answer, float]:
    """What is answered, and within how many seconds."""
    start = time.monotonic()
    answer = ask()
    return answer, time.monotonic() - start
