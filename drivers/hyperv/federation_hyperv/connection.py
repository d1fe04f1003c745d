"""One host's WinRM, and the translation of everything that can go wrong there into the catalogue.

The only module of the driver that imports the transport.  Reads are tried again when the connection breaks; calls of
methods are not, because nobody knows whether the host got them: the driver looks at what is there instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from federation.contract import errors
from federation.contract.errors import (
    HypervisorRefused,
    HypervisorUnreachable,
    NotFound,
    OperationError,
    OutcomeUnknown,
    PermissionDenied,
)
from federation_hyperv import wsman
from federation_hyperv.cim import VIRTUALIZATION, Instance, Reference, Value
from federation_hyperv.cim.codes import Meaning, job_meaning
from federation_hyperv.cim.embedded import read_embedded
from federation_hyperv.cim.errors import CimError
from federation_hyperv.facts import Properties
from federation_hyperv.settings import Settings

MAX_WORDS = 500
"""Characters of Hyper-V's own words that go into a message."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a method answered: its outputs by name."""

    outputs: Mapping[str, Value]

    @property
    def job(self) -> Reference | None:
        """The job that was started; None when the call is done."""
        job = self.outputs.get("Job")
        return job if isinstance(job, Reference) else None

    @property
    def started(self) -> bool:
        """Whether a job goes on (4096)."""
        return self.outputs.get("ReturnValue") == 4096  # noqa: PLR2004 (Hyper-V's number)

    def embedded(self, name: str) -> Properties:
        """The properties of an object that came as a text; HypervisorRefused when there is none."""
        value = self.outputs.get(name)
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, str):
            value = read_embedded(value)
        if not isinstance(value, Instance):
            raise HypervisorRefused(f"the host answered without {name}")
        return value.properties


class Link:
    """The connections to one host; made when they are needed."""

    def __init__(self, node: str, settings: Settings) -> None:
        self._node = node
        self._settings = settings
        # Two threads may both make one at first; the second is used and the first is closed by nobody's use of it.
        self._made: wsman.Host | None = None

    def query(self, wql: str, namespace: str = VIRTUALIZATION) -> list[Instance]:
        """All objects that a WQL query finds."""
        with self._translated():
            return self._host().query(wql, namespace=namespace)

    def get(self, reference: Reference) -> Instance | None:
        """One object; None when it is not there."""
        with self._translated():
            try:
                return self._host().get(reference)
            except wsman.InstanceNotFound:
                return None

    def invoke(self, target: Reference, method: str, arguments: Mapping[str, Value]) -> Reply:
        """Call a method, once.  A return code is translated as ``cim.codes`` says what it means."""
        with self._translated():
            return Reply(self._host().invoke(target, method, **arguments))

    def code_of(self, target: Reference, method: str, arguments: Mapping[str, Value]) -> int:
        """Call a method, once, whose return codes are not those of Hyper-V; returns the code."""
        with self._translated():
            try:
                self._host().invoke(target, method, **arguments)
            except wsman.CallFailed as error:
                return error.code
            return 0

    def identify(self) -> str:
        """Vendor and version of the host's WinRM."""
        with self._translated():
            found = self._host().identify()
            return f"{found.vendor} {found.version}".strip()

    def close(self) -> None:
        """Close idle connections."""
        made, self._made = self._made, None
        if made is not None:
            made.close()

    def _host(self) -> wsman.Host:
        if self._made is None:
            self._made = wsman.Host(self._login(), name=self._node)
        return self._made

    def _login(self) -> wsman.Login:
        settings, host = self._settings, self._settings.hosts[self._node]
        user, password = settings.credentials() or ("", "")
        return wsman.Login(
            address=host.address,
            port=host.port or (5986 if settings.tls else 5985),
            tls=settings.tls,
            authentication=settings.authentication.value,
            username=user,
            password=password,
            ca_file=settings.ca_file,
            certificate_file=settings.certificate_file,
            certificate_key_file=settings.certificate_key_file,
            connect_seconds=settings.timeouts.connect_seconds,
            operation_seconds=max(1, int(settings.timeouts.read_seconds)),
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except wsman.CallFailed as error:
            raise error_of_meaning(error.meaning, f"{self._node}: {error}") from error
        except (wsman.HostUnreachable, wsman.LostAnswer) as error:
            raise HypervisorUnreachable(f"node {self._node}: {error}", node=self._node) from error
        except wsman.AccessDenied as error:
            told = f"node {self._node}: {error}; the account needs the group Hyper-V Administrators"
            raise PermissionDenied(told, node=self._node) from error
        except wsman.InstanceNotFound as error:
            raise NotFound(f"node {self._node}: {_short(str(error))}", node=self._node) from error
        except (wsman.TransportError, CimError) as error:
            raise HypervisorRefused(f"node {self._node}: {_short(str(error))}", node=self._node) from error


def error_of_meaning(meaning: Meaning, message: str) -> OperationError:
    """The catalogue's error for what a code says.

    A timeout inside the host says nothing of what became of the change; a wrong parameter or something that the host does
    not find is the driver's doing by then, not the caller's: both were checked before.
    """
    if meaning is Meaning.TIMED_OUT:
        return OutcomeUnknown(message)
    if meaning in {Meaning.INVALID_REQUEST, Meaning.NOT_FOUND, Meaning.NOT_SUPPORTED}:
        return HypervisorRefused(message)
    return errors.CATALOGUE[meaning.value](message)


def error_of_job(what: str, job: Properties) -> OperationError:
    """The error that a job has ended with, in the job's words."""
    code = int(job.get("ErrorCode") or 0)
    words = (
        job.get("ErrorDescription") or job.get("ErrorSummaryDescription") or job.get("JobStatus") or "no reason given"
    )
    return error_of_meaning(job_meaning(code), f"{what}: {_short(str(words))} (error {code})")


def _short(words: str) -> str:
    return " ".join(words.split())[:MAX_WORDS]
