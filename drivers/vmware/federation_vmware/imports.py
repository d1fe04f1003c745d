"""A machine made together with the disk that is sent to it: vSphere's ``ImportVApp`` and its lease for the transfer.

vSphere Web Services API, "HttpNfcLease": the server makes the machine, names an address for each of its disks, and keeps the machine
locked until the lease is completed, aborted or has not been heard of for its timeout (300 s); of the latter two it removes the
machine.  A lease belongs to its session, so nobody can take over another one's: a machine that a dead worker was sending is
removed and made again.
"""

from __future__ import annotations

import http.client
import logging
import ssl
import time
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any
from urllib.parse import urlsplit

from pyVmomi import vim

from federation.contract.errors import (
    Conflict,
    HypervisorRefused,
    HypervisorUnreachable,
    InvalidState,
    NotFound,
    OperationError,
    OutcomeUnknown,
)
from federation_vmware import tasks
from federation_vmware.attempt import Attempt
from federation_vmware.connection import Session, gone, translated
from federation_vmware.datastore_files import guarded_by_network
from federation_vmware.disk_images import DiskImage
from federation_vmware.machine import Fleet, Machine
from federation_vmware.ownership import Ownership
from federation_vmware.removal import remove

logger = logging.getLogger(__name__)

IMPORTING = frozenset({"ResourcePool.ImportVAppLRO"})
"""What vCenter calls the task of an import (``descriptionId``)."""
PERCENT = (20.0, 80.0)
"""The part of a creation that the transfer is."""
ABANDONED_SECONDS = 360.0
"""vCenter's timeout of a lease, and a minute."""
_FIRST_LOOK, _SLOWEST_LOOK = 0.05, 1.0
_TOLD_SECONDS = 5.0
_ANSWER_SECONDS = 300.0
_DONE = frozenset({http.client.OK, http.client.CREATED, http.client.NO_CONTENT})


def run(fleet: Fleet, attempt: Attempt, what: str, begin: Callable[[Session], Any], image: DiskImage) -> None:
    """Let vCenter make the machine and send it its disk; ``begin`` asks for the lease.

    On an error the lease is aborted; the caller removes what is left of the machine, or makes it anew when vCenter was lost
    (HypervisorUnreachable).
    """
    attempt.guard()
    lease = fleet.connection.change(what, begin)
    try:
        info = _ready(fleet, attempt, what, lease)
        _transfer(fleet, attempt, lease, _address(fleet, info), image)
        attempt.guard()
        _tell(fleet, f"{what}: complete", lease, lambda one: one.HttpNfcLeaseComplete())
    except OperationError as error:
        _abort(fleet, attempt, lease, error)
        if gone(error):
            lost = f"{what}: the session ended, and the lease of the import with it"
            raise HypervisorUnreachable(lost, host=fleet.settings.host) from error
        raise


def settle(fleet: Fleet, attempt: Attempt, instance: str) -> None:
    """Wait until a machine that an earlier attempt has asked for is there, or cannot come any more.

    Imports of others may run as well, for hours: after a lease's timeout none of them can be that of a dead worker.
    """
    ends = time.monotonic() + ABANDONED_SECONDS
    while time.monotonic() < ends and tasks.running(fleet.connection, IMPORTING) and fleet.find_any(instance) is None:
        attempt.progress(None, "an earlier attempt may have begun an import")
        attempt.sleep(_SLOWEST_LOOK)


def clear(fleet: Fleet, attempt: Attempt, machine: Machine, owner: Ownership) -> None:
    """Remove a machine whose disk an earlier attempt was sending; its lease may hold it for a while yet."""
    ends = time.monotonic() + ABANDONED_SECONDS
    while True:
        attempt.progress(None, "removing what an earlier attempt was sending")
        try:
            remove(fleet, attempt, machine, owner)
        except NotFound:
            return
        except (Conflict, InvalidState, HypervisorRefused) as error:
            if error is attempt.interruption:
                raise
            if time.monotonic() > ends:
                raise OutcomeUnknown(f"{machine.instance} is still being imported by an earlier attempt") from error
            attempt.sleep(_SLOWEST_LOOK)
        else:
            return


def _ready(fleet: Fleet, attempt: Attempt, what: str, lease: Any) -> Any:
    """What the lease says of the transfer, once the machine is there."""
    limit = fleet.settings.timeouts.task_seconds
    ends, pause = time.monotonic() + limit, _FIRST_LOOK
    while True:
        found = fleet.connection.properties(what, vim.HttpNfcLease, [lease], ["state", "error"])[0][1]
        if found.get("state") == "ready":
            return fleet.connection.properties(what, vim.HttpNfcLease, [lease], ["info"])[0][1]["info"]
        if found.get("error") is not None:
            raise translated(found["error"], what)
        if found.get("state") != "initializing":
            raise HypervisorRefused(f"{what}: the import has ended ({found.get('state')})")
        if time.monotonic() > ends:
            raise OutcomeUnknown(f"{what}: the import has not begun within {limit:g} s")
        attempt.sleep(pause)
        pause = min(_SLOWEST_LOOK, pause * 1.5)


def _transfer(fleet: Fleet, attempt: Attempt, lease: Any, address: tuple[str, int, str, Any], image: DiskImage) -> None:
    host, port, path, context = address
    connection = http.client.HTTPSConnection(
        host, port, timeout=fleet.settings.timeouts.request_seconds, context=context
    )
    try:
        _begin(connection, path, image.length)
        _send(fleet, attempt, lease, (connection, path), image)
        if connection.sock is not None:
            connection.sock.settimeout(max(_ANSWER_SECONDS, fleet.settings.timeouts.request_seconds))
        answer = guarded_by_network(path, connection.getresponse)
        if answer.status not in _DONE:
            raise HypervisorRefused(f"send the disk: {host} answers {answer.status} {answer.reason}")
    except ssl.SSLCertVerificationError as error:
        untrusted = f"send the disk: the certificate of {host} is not trusted ({error})"
        raise HypervisorRefused(f"{untrusted}; ca_file has to hold the authority of vCenter's hosts, too") from error
    except HypervisorUnreachable as error:
        told = _told_by_lease(fleet, lease)
        if told is None:
            raise
        raise told from error
    finally:
        connection.close()


def _begin(connection: http.client.HTTPSConnection, path: str, length: int) -> None:
    """Connect and announce the disk; SSLCertVerificationError, which no repetition would change, goes through."""
    try:
        connection.connect()
    except ssl.SSLCertVerificationError:
        raise
    except OSError as error:
        raise HypervisorUnreachable(f"send the disk: {connection.host} is not reached: {error}") from error
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", "application/x-vnd.vmware-streamVmdk")
    connection.putheader("Content-Length", str(length))
    guarded_by_network(path, connection.endheaders)


def _send(
    fleet: Fleet, attempt: Attempt, lease: Any, to: tuple[http.client.HTTPSConnection, str], image: DiskImage
) -> None:
    """Piece by piece, each behind a guard; vCenter is told how far it is, which keeps the lease alive."""
    connection, path = to
    sent, told = 0, 0.0
    low, high = PERCENT
    for piece in image.pieces():
        attempt.guard()
        guarded_by_network(path, partial(connection.send, piece))
        sent += len(piece)
        attempt.progress(low + (high - low) * min(1.0, sent / image.length), "sending the image")
        if time.monotonic() - told >= _TOLD_SECONDS:
            percent = min(99, 100 * sent // image.length)
            _tell(fleet, "keep the import alive", lease, methodcaller("HttpNfcLeaseProgress", percent))
            told = time.monotonic()
    if sent != image.length:
        raise HypervisorRefused(f"the image has {sent} bytes, it was to have {image.length}")


def _address(fleet: Fleet, info: Any) -> tuple[str, int, str, ssl.SSLContext]:
    """Host, port, path and TLS of the disk's transfer; ``*`` is vCenter itself."""
    disks = [one for one in info.deviceUrl or () if one.disk]
    if len(disks) != 1:
        raise HypervisorRefused(f"vCenter names {len(disks)} addresses for the one disk")
    parts = urlsplit(disks[0].url)
    if parts.scheme != "https":
        raise HypervisorRefused(f"vCenter wants the disk by {parts.scheme!r}, which is not encrypted")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if parts.hostname in {None, "*"}:
        return fleet.settings.host, fleet.settings.port, path, fleet.connection.tls()
    return str(parts.hostname), parts.port or 443, path, fleet.connection.host_tls(disks[0].sslThumbprint or "")


def _told_by_lease(fleet: Fleet, lease: Any) -> OperationError | None:
    """Why the transfer broke off, where the lease knows; None when it does not, or cannot be asked."""
    try:
        found = fleet.connection.properties("look at the import", vim.HttpNfcLease, [lease], ["error"])[0][1]
    except OperationError as error:
        logger.info("the import's lease cannot be asked what went wrong: %s", error)
        return None
    return None if found.get("error") is None else translated(found["error"], "send the disk")


def _abort(fleet: Fleet, attempt: Attempt, lease: Any, cause: OperationError) -> None:
    """End the lease, so that the machine is free; without it vCenter does so after its timeout."""
    attempt.progress(None, f"the import has failed ({cause.code})")
    try:
        attempt.guard()
    except OperationError:
        attempt.guard()  # a cancel says so once; what was begun is ended all the same
    try:
        _tell(fleet, "abort the import", lease, lambda one: one.HttpNfcLeaseAbort(None))
    except OperationError as error:
        attempt.progress(None, f"the import cannot be aborted ({error.code}), vCenter ends it by itself")


def _tell(fleet: Fleet, what: str, lease: Any, say: Callable[[Any], Any]) -> None:
    fleet.connection.change(what, lambda session: say(session.bound(lease)))
