"""Files on datastores: whether one is there, folders, and what is read and sent over vCenter's HTTPS ``/folder``.

https://developer.broadcom.com: vSphere Web Services SDK Programming Guide, "Accessing Files on a Datastore".
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from pyVmomi import vim, vmodl

from federation.contract.errors import (
    HypervisorRefused,
    HypervisorUnreachable,
    InvalidRequest,
    OperationError,
    PermissionDenied,
    TimedOut,
)
from federation_vmware import names
from federation_vmware.attempt import Attempt
from federation_vmware.connection import Session, translated
from federation_vmware.machine import Fleet

MAX_DESCRIPTOR = 64 << 10
_EXTENT = re.compile(r"^RW\s+(\d+)\s", re.MULTILINE)
_SECTOR = 512
_SEARCH_SECONDS = 0.1


def exists(fleet: Fleet, path: str) -> bool:
    """Whether a file is there; asked of vCenter's datastore browser."""
    datastore, inside = names.split(path)
    folder, _, name = inside.rpartition("/")
    place = fleet.places.datastore(datastore)

    def ask(session: Session) -> bool:
        browser = session.bound(place.reference).browser
        task = browser.SearchDatastore_Task(
            f"[{datastore}] {folder}", vim.host.DatastoreBrowser.SearchSpec(matchPattern=[name])
        )
        ends = time.monotonic() + fleet.settings.timeouts.request_seconds
        while task.info.state in {"queued", "running"}:
            if time.monotonic() > ends:
                raise TimedOut(f"look for {path}: the datastore does not answer", datastore=datastore)
            time.sleep(_SEARCH_SECONDS)
        if task.info.error is not None:
            raise task.info.error
        return any(one.path == name for one in task.info.result.file or ())

    try:
        return fleet.connection.read(f"look for {path}", ask)
    except OperationError as error:
        if error.detail.get("vsphere_fault") == "FileNotFound":
            return False
        raise


def make_folder(fleet: Fleet, attempt: Attempt, path: str) -> None:
    """Make the folder of a file; one that is there stays."""
    datastore, inside = names.split(path)
    folder = inside.rpartition("/")[0]
    if exists(fleet, f"[{datastore}] {folder}"):
        return
    where = fleet.places.site().datacenter.reference

    def send(session: Session) -> None:
        session.content.fileManager.MakeDirectory(f"[{datastore}] {folder}", session.bound(where), True)  # noqa: FBT003

    attempt.guard()
    try:
        fleet.connection.change(f"make folder {folder}", send)
    except OperationError as error:
        if error.detail.get("vsphere_fault") != "FileAlreadyExists":
            raise


def virtual_bytes(fleet: Fleet, path: str) -> int | None:
    """How large the disk behind a descriptor is, None when the descriptor does not say."""
    text = fleet.connection.read(f"read {path}", lambda _session: _fetch(fleet, path)).decode("utf-8", "replace")
    sectors = sum(int(found) for found in _EXTENT.findall(text))
    return sectors * _SECTOR or None


def open_upload(fleet: Fleet, path: str, length: int) -> http.client.HTTPSConnection:
    """A connection that waits for ``length`` bytes of a file."""
    connection = _connect(fleet)
    connection.putrequest("PUT", _address(fleet, path))
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", str(length))
    connection.putheader("Cookie", fleet.connection.cookie)
    connection.endheaders()
    return connection


def finish_upload(path: str, connection: http.client.HTTPSConnection) -> None:
    """What vCenter says of the file that it was sent."""
    answer = connection.getresponse()
    answer.read(MAX_DESCRIPTOR)
    _check(answer.status, answer.reason, path)


def guarded_by_network(path: str, work: Callable[[], Any]) -> Any:
    """Run, and say of a broken connection that vCenter was lost."""
    try:
        return work()
    except (OSError, http.client.HTTPException) as error:
        raise HypervisorUnreachable(f"send {path}: {type(error).__name__}: {error}") from error
    except vmodl.MethodFault as fault:
        raise translated(fault, f"send {path}") from fault


def _fetch(fleet: Fleet, path: str) -> bytes:
    connection = _connect(fleet)
    try:
        headers = {"Cookie": fleet.connection.cookie, "Range": f"bytes=0-{MAX_DESCRIPTOR - 1}"}
        connection.request("GET", _address(fleet, path), headers=headers)
        answer = connection.getresponse()
        if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return b""  # an empty file
        _check(answer.status, answer.reason, path)
        return answer.read(MAX_DESCRIPTOR)
    finally:
        connection.close()


def _connect(fleet: Fleet) -> http.client.HTTPSConnection:
    settings = fleet.settings
    connection = http.client.HTTPSConnection(
        settings.host, settings.port, timeout=settings.timeouts.request_seconds, context=fleet.connection.tls()
    )
    connection.connect()
    return connection


def _address(fleet: Fleet, path: str) -> str:
    datastore, inside = names.split(path)
    if not inside:
        raise InvalidRequest(f"{path!r} is no path of a datastore", field="path")
    query = urlencode({"dcPath": fleet.places.site().datacenter.name, "dsName": datastore})
    return f"/folder/{quote(inside)}?{query}"


def _check(status: int, reason: str, path: str) -> None:
    if status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
        raise PermissionDenied(f"{path}: vCenter answers {status} {reason}; needs Datastore.FileManagement")
    if status not in {http.client.OK, http.client.CREATED, http.client.NO_CONTENT, http.client.PARTIAL_CONTENT}:
        raise HypervisorRefused(f"{path}: vCenter answers {status} {reason}", status=status)
