"""The connection to one libvirt host.  The only importer of libvirt.

Rules:

1. Every call runs in a thread of its own and is waited for with a limit; libvirt's calls have none.
2. A question (`read`) is asked again over a new connection when the old one turns out to be dead; a change never is.
3. A change asks for leave right before it is sent (`Attempt.guard`), on a connection that was up a moment before.
4. A question without an answer: the host is unreachable.  A change without an answer: its outcome is unknown.
5. Every libvirtError leaves as an error of the catalogue (``faults``); the C name of its code is kept in the detail.

There is no lock: connections live in a dict whose single operations are atomic, and two threads that connect at the same
time cost one connection too many, which is closed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import libvirt
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from federation.contract.errors import (
    HypervisorUnreachable,
    OperationError,
    OutcomeUnknown,
    PermissionDenied,
)
from federation_libvirt.attempt import Attempt
from federation_libvirt.faults import code_of, translate, without_password
from federation_libvirt.settings import Timeouts
from federation_libvirt.waiting import Watch, answer_of

__all__ = ["Link", "Native", "start_event_loop"]

logger = logging.getLogger(__name__)

Native = Any
"""A libvirt object (virConnect, virDomain, virStoragePool, virStorageVol, virStream); libvirt-python has no types."""

Answer = TypeVar("Answer")

UNANSWERED_LIMIT = 32
"""Calls to one host that may hang at the same time; above it the host counts as unreachable at once."""
KEEPALIVE_COUNT = 3

_CODES = {getattr(libvirt, name): name for name in dir(libvirt) if name.startswith("VIR_ERR_")}
# The three severities share the numbers of the first codes (virErrorLevel and virErrorNumber are two enumerations).
_CODES |= {0: "VIR_ERR_OK", 1: "VIR_ERR_INTERNAL_ERROR", 2: "VIR_ERR_NO_MEMORY"}
_DOMAINS = {getattr(libvirt, name): name for name in dir(libvirt) if name.startswith("VIR_FROM_")}
_EVENT_LOOP: dict[str, threading.Thread] = {}

# virDomainModificationImpact
LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
VOLUME_PHYSICAL = libvirt.VIR_STORAGE_VOL_GET_PHYSICAL
RESIZE_BYTES = libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
SNAPSHOTS_TOPOLOGICAL = libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL
REVERT_PAUSED = libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED
REVERT_FORCE = libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_FORCE
METADATA_ELEMENT = libvirt.VIR_DOMAIN_METADATA_ELEMENT
XML_INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE
XML_SECURE = libvirt.VIR_DOMAIN_XML_SECURE
DEFINE_VALIDATE = libvirt.VIR_DOMAIN_DEFINE_VALIDATE
SAVE_RUNNING = libvirt.VIR_DOMAIN_SAVE_RUNNING
SHUTDOWN_ACPI = libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
LIST_ACTIVE = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
EXPAND_FEATURES = libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
STATS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
ADDRESS_SOURCES = (
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
)
"""Who knows a guest's IP addresses without asking the guest: libvirt's own DHCP server, and the node's ARP table."""
XML_MIGRATABLE = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
ALL_CELLS = libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS
UNDEFINE_ALL = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
JOB_RUNNING = frozenset({libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED})

STATE_NAMES = {
    libvirt.VIR_DOMAIN_NOSTATE: "nostate",
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "blocked",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF: "shutoff",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "pmsuspended",
}
"""virDomainState, by the names that ``virsh`` and this driver's pure modules use."""
TRANSIENT_PAUSES = frozenset(
    {
        libvirt.VIR_DOMAIN_PAUSED_SAVE,
        libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
        libvirt.VIR_DOMAIN_PAUSED_DUMP,
        libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT,
        libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN,
        libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
    }
)
"""Reasons for which a domain is paused only while something else goes on (virDomainPausedReason)."""
PAUSED_CRASHED = libvirt.VIR_DOMAIN_PAUSED_CRASHED
_GONE = frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT})
NEVER_STARTED = frozenset({libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, libvirt.VIR_DOMAIN_SHUTOFF_FAILED})
"""virDomainShutoffReason of a domain that has not run since it was defined or since libvirtd started."""

ENDED_ON_PURPOSE = frozenset(
    {
        libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
        libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED,
        libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED,
        libvirt.VIR_DOMAIN_SHUTOFF_SAVED,
    }
)


def job_under_way(domain: Native) -> str:
    """What goes on with a running virDomain, nothing when nothing does.

    The target of a migration has statistics of it only when it is done: qemuDomainGetJobStatsInternal refuses, also while
    the guest runs there already and libvirtd still brings the migration to its end.
    """
    try:
        running = domain.jobInfo()[0] in JOB_RUNNING
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            raise
        return "a migration is coming in"
    return "a job is running" if running else ""


def start_event_loop() -> None:
    """Start libvirt's event loop once for this process; keepalive needs it before the first connection."""
    thread = threading.Thread(target=_run_events, name="libvirt-events", daemon=True)
    if _EVENT_LOOP.setdefault("thread", thread) is thread:
        libvirt.registerErrorHandler(drop_copy, None)
        libvirt.virEventRegisterDefaultImpl()
        thread.start()


def _run_events() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            logger.exception("libvirt's event loop stumbled, and goes on")
            time.sleep(1)


def drop_copy(_context: object, _error: object) -> None:
    """Do not print: libvirt writes every error to standard error as well as raising it, and the raised one is enough."""


class Link:
    """One host: asks and changes through a connection that comes back by itself."""

    def __init__(self, node: str, uri: str, timeouts: Timeouts) -> None:
        self.node = node
        self._uri = uri
        self._timeouts = timeouts
        self._connections: dict[str, Native] = {}
        self._unanswered: dict[Future[Any], str] = {}

    def read(self, what: str, ask: Callable[[Native], Answer], *, seconds: float | None = None) -> Answer:
        """Ask the host; ``ask`` gets the virConnect and may call it more than once.

        Raises HypervisorUnreachable when no answer comes within ``seconds`` (default: the setting), else what
        ``faults`` makes of libvirt's error.
        """
        limit = seconds or self._timeouts.read_seconds
        for again in (True, False):
            connection = self._connect()
            try:
                return self._perform(what, ask, connection, limit)
            except TimeoutError as error:
                self._drop(connection)
                raise HypervisorUnreachable(
                    f"{self.node}: {what}: no answer within {limit:g} s", node=self.node
                ) from error
            except HypervisorUnreachable:
                self._drop(connection)
                if not again:
                    raise
        raise AssertionError("unreachable: the second round returns or raises")

    def find(self, what: str, ask: Callable[[Native], Answer], *, missing: str) -> Answer | None:
        """Like read, but None when libvirt answers with the code ``missing`` (a C name)."""
        try:
            return self.read(what, ask)
        except OperationError as error:
            if code_of(error) == missing:
                return None
            raise

    def change(
        self,
        attempt: Attempt,
        what: str,
        act: Callable[[Native], Answer],
        *,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> Answer:
        """Change something on the host, after asking for leave, with somebody who watches it while it lasts.

        Raises HypervisorUnreachable when the connection breaks (the change may have been made), OutcomeUnknown when no
        answer comes within ``seconds``, else what ``faults`` makes of libvirt's error.
        """
        limit = seconds or self._timeouts.change_seconds
        connection = self._connect()
        attempt.guard()
        try:
            return self._perform(what, act, connection, limit, watch)
        except TimeoutError as error:
            self._drop(connection)
            raise OutcomeUnknown(
                f"{self.node}: {what}: begun, and no answer within {limit:g} s", node=self.node
            ) from error
        except HypervisorUnreachable:
            self._drop(connection)
            raise

    def close(self) -> None:
        """Let go of the connection; a later call opens a new one."""
        self._drop(self._connections.get("open"))

    def _perform(
        self,
        what: str,
        function: Callable[[Native], Answer],
        connection: Native,
        limit: float,
        watch: Watch | None = None,
    ) -> Answer:
        if len(self._unanswered) >= UNANSWERED_LIMIT:
            raise HypervisorUnreachable(
                f"{self.node}: {what}: {UNANSWERED_LIMIT} earlier calls are still unanswered", node=self.node
            )
        future: Future[Answer] = Future()
        self._unanswered[future] = what
        threading.Thread(
            target=self._fulfil, args=(future, function, connection), name=f"libvirt-{self.node}", daemon=True
        ).start()
        try:
            return answer_of(future, limit, watch)
        except libvirt.libvirtError as error:
            raise self._translated(error, what) from error

    def _fulfil(self, future: Future[Answer], function: Callable[[Native], Answer], connection: Native) -> None:
        try:
            future.set_result(function(connection))
        except Exception as error:  # noqa: BLE001 - handed over to the thread that waits
            future.set_exception(error)
        finally:
            self._unanswered.pop(future, None)

    def _connect(self) -> Native:
        connection = self._connections.get("open")
        if connection is not None and connection.isAlive() == 1:
            return connection
        self._drop(connection)
        fresh = self._open()
        kept = self._connections.setdefault("open", fresh)
        if kept is not fresh:
            _close(fresh)
        return kept

    def _open(self) -> Native:
        retrying = Retrying(
            retry=retry_if_exception_type(HypervisorUnreachable),
            stop=stop_after_delay(self._timeouts.connect_seconds),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            reraise=True,
        )
        return retrying(self._open_once)

    def _open_once(self) -> Native:
        limit = self._timeouts.connect_seconds
        try:
            connection = self._perform("connect", lambda _: self._open_native(), None, limit)
        except (PermissionDenied, HypervisorUnreachable):
            raise
        except TimeoutError as error:
            raise HypervisorUnreachable(
                f"{self.node}: connect: no answer within {limit:g} s", node=self.node
            ) from error
        except OperationError as error:
            raise HypervisorUnreachable(error.message, **error.detail) from error
        logger.info("connected to %s at %s", self.node, without_password(self._uri))
        return connection

    def _open_native(self) -> Native:
        connection = libvirt.open(self._uri)
        connection.setKeepAlive(self._timeouts.keepalive_seconds, KEEPALIVE_COUNT)
        return connection

    def _drop(self, connection: Native) -> None:
        """Forget a connection, unless another thread has already put a newer one in its place."""
        if connection is not None and self._connections.get("open") is connection:
            self._connections.pop("open", None)

    def _translated(self, error: libvirt.libvirtError, what: str) -> OperationError:
        if error.get_error_code() is None:
            # Seen under load: the call has failed and libvirt keeps no reason, as if the connection had gone.
            return HypervisorUnreachable(f"{self.node}: {what}: {error}; libvirt gives no reason", node=self.node)
        return translate(
            _CODES.get(error.get_error_code(), "VIR_ERR_UNLISTED"),
            _DOMAINS.get(error.get_error_domain(), ""),
            error.get_int1(),
            str(error),
            f"{self.node}: {what}",
        )


def _close(connection: Native) -> None:
    try:
        connection.close()
    except libvirt.libvirtError:
        logger.warning("a surplus connection did not close", exc_info=True)


def unless_gone(ask: Callable[[], Answer]) -> Answer | None:
    """The answer of a domain's method, None when the domain is gone: for walks over lists that change meanwhile."""
    try:
        return ask()
    except libvirt.libvirtError as error:
        if error.get_error_code() in _GONE:
            return None
        raise


def unless_refused(ask: Callable[[], Answer]) -> Answer | None:
    """The answer of an optional question, None when libvirt cannot answer it for this domain; a lost host raises."""
    try:
        return ask()
    except libvirt.libvirtError as error:
        if error.get_error_domain() in {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE}:
            raise
        logger.debug("not answered: %s", error)
        return None


def migration_flags(*, disks: bool, tls: bool) -> int:
    """For virDomainMigrateToURI3: live, carried out by the source's libvirtd, defined there and no more here.

    ``disks``: QEMU copies disks, but not the images that they stand on.
    """
    flags = (
        libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PEER2PEER
        | libvirt.VIR_MIGRATE_PERSIST_DEST
        | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
        | libvirt.VIR_MIGRATE_AUTO_CONVERGE
    )
    flags |= libvirt.VIR_MIGRATE_NON_SHARED_INC if disks else 0
    return int(flags | (libvirt.VIR_MIGRATE_TLS if tls else 0))


def migration_parameters(
    *, dest_xml: str, persist_xml: str, disks: list[str], uri: str = "", listen: str = ""
) -> dict[str, str | list[str]]:
    """For virDomainMigrateToURI3; ``disks`` are the devices that QEMU copies."""
    given: dict[str, str | list[str]] = {
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: dest_xml,
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: persist_xml,
        libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS: disks,
        libvirt.VIR_MIGRATE_PARAM_URI: uri,
        libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: listen,
    }
    return {name: value for name, value in given.items() if value}
