"""A group of simulated hosts in this process: started, reached, cut off, stopped."""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from federation_hyperv.testing.authentication import Accounts
from federation_hyperv.testing.effects import Effect, EffectLog, read_effects
from federation_hyperv.testing.faults import Fault, Faults
from federation_hyperv.testing.files import Files
from federation_hyperv.testing.host import HostFacts, SimulatedHost
from federation_hyperv.testing.jobs import Timetable
from federation_hyperv.testing.listener import Listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What hosts there are and how they are reached.  Without ``certificate_file`` they speak plain HTTP.

    ``allow_unencrypted`` is WinRM's AllowUnencrypted: Basic over plain HTTP.
    """

    hosts: tuple[HostFacts, ...] = (HostFacts(name="HV1"),)
    username: str = "federation"
    password: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)
    certificate_file: str = ""
    certificate_key_file: str = ""
    client_ca_file: str = ""
    """The authority whose client certificates log in as ``username``, PEM; empty: none do."""
    client_subject: str = ""
    """The user that they must name (UPN, in subjectAltName); `*` stands for anything."""
    client_certificate_later: bool = True
    """Ask for it when a request says that it has one, as Windows Server 2022 does, and not in the handshake."""
    keytab_file: str = ""
    """Keys of ``host/<kerberos_host>``, for Kerberos; empty: without it."""
    kerberos_host: str = "localhost"
    kerberos_principal: str = ""
    """Who logs in as ``username``: `name@REALM`."""
    allow_unencrypted: bool = False
    address: str = "127.0.0.1"
    first_port: int = 0
    """0: a free port for each host; else this one for the first host and the next ones for the others."""


class SimulatedCluster:
    """Hosts by name.  What lies on their disks is below ``folder``, the effect log is `effects.db` in it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.settings = settings
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.faults = Faults()
        self.lock = threading.RLock()
        self.effects_file = folder / "effects.db"
        self._effects = EffectLog(self.effects_file)
        self._timetable = Timetable(self.lock)
        self._peers: dict[str, SimulatedHost] = {}
        self.hosts = [
            SimulatedHost(
                facts, files=Files(folder / facts.name, folder / "shares"), effects=self._effects, faults=self.faults,
                timetable=self._timetable, peers=self._peers,
            )
            for facts in settings.hosts
        ]  # fmt: skip
        self._peers.update({host.name.lower(): host for host in self.hosts})
        self.listeners: dict[str, Listener] = {}
        self._threads: list[threading.Thread] = []
        self._secret: Path | None = None

    def start(self) -> SimulatedCluster:
        """Listen; OSError when a port is taken."""
        accounts = Accounts(
            self.settings.username,
            self.settings.password,
            allow_unencrypted=self.settings.allow_unencrypted,
            ntlm_file=self._keep_ntlm_account(),
            certificate_subject=self.settings.client_subject if self.settings.client_ca_file else "",
            keytab=self.settings.keytab_file,
            service_host=self.settings.kerberos_host,
            principal=self.settings.kerberos_principal,
        )
        for index, host in enumerate(self.hosts):
            port = self.settings.first_port + index if self.settings.first_port else 0
            listener = Listener((self.settings.address, port), host, accounts, self.lock, self._tls())
            self.listeners[host.name] = listener
            thread = threading.Thread(
                target=listener.serve_forever, args=(0.1,), name=f"hyperv-{host.name}", daemon=True
            )  # fmt: skip
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self) -> None:
        """Close everything; what jobs had not done is never done."""
        for listener in self.listeners.values():
            listener.shutdown()
            listener.cut()
            listener.server_close()
        self._timetable.stop()
        self._effects.close()
        if self._secret is not None:
            self._secret.unlink(missing_ok=True)

    def port(self, name: str) -> int:
        """Where a host listens."""
        return int(self.listeners[name].server_address[1])

    def host(self, name: str) -> SimulatedHost:
        """A host by its name; KeyError when there is none."""
        return self._peers[name.lower()]

    def order(self, fault: Fault) -> Fault:
        """Order a fault."""
        return self.faults.order(fault)

    def lose(self, name: str) -> None:
        """The host is gone: its connections end, no new request is answered, its jobs never end."""
        with self.lock:
            self.host(name).is_gone = True
        self.listeners[name].cut()

    def bring_back(self, name: str) -> None:
        """The host answers again."""
        with self.lock:
            self.host(name).is_gone = False

    def effects(self) -> list[Effect]:
        """All that took effect so far."""
        return read_effects(self.effects_file)

    def requests(self, name: str) -> int:
        """How many requests a host has answered."""
        return sum(self.listeners[name].service.requests.values())

    def _tls(self) -> ssl.SSLContext | None:
        if not self.settings.certificate_file:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.settings.certificate_file, self.settings.certificate_key_file or None)
        if self.settings.client_ca_file:
            context.load_verify_locations(self.settings.client_ca_file)
            context.verify_mode = ssl.CERT_OPTIONAL
            context.post_handshake_auth = self.settings.client_certificate_later
        return context

    def _keep_ntlm_account(self) -> str:
        """pyspnego's acceptor takes accounts from a file that an environment variable names."""
        descriptor, name = tempfile.mkstemp(prefix="ntlm-", dir=self.folder)
        self._secret = Path(name)
        with os.fdopen(descriptor, "w") as file:
            file.write(f":{self.settings.username}:{self.settings.password}\n")
        return name


@contextlib.contextmanager
def running(folder: Path, settings: Settings | None = None) -> Iterator[SimulatedCluster]:
    """A cluster for the length of a with block."""
    cluster = SimulatedCluster(folder, settings or Settings()).start()
    try:
        yield cluster
    finally:
        cluster.stop()
