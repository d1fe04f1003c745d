"""vSphere's faults as errors of the catalogue.  Pure: it knows faults by their names and their ancestors' names.

Rules:

1. A fault is looked up by its own name, then by those of its ancestors, nearest first (vSphere Web Services API
   reference, "Faults"); what is found nowhere is ``hypervisor_refused`` with the fault's name in the message.
2. The message is the server's, with the fault's name before it; passwords never are in one.
3. ``TaskInProgress`` and ``ConcurrentAccess`` mean that somebody else is at the machine: ``conflict``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from federation.contract import errors as e
from federation.contract.errors import OperationError

FAULTS: Mapping[str, type[OperationError]] = {
    # Who we are
    "NoPermission": e.PermissionDenied,
    "InvalidLogin": e.PermissionDenied,
    "NotAuthenticated": e.PermissionDenied,
    "SecurityError": e.PermissionDenied,
    "PasswordExpired": e.PermissionDenied,
    # What is there and what is not
    "ManagedObjectNotFound": e.NotFound,
    "NotFound": e.NotFound,
    "FileNotFound": e.ImageUnavailable,
    "DuplicateName": e.AlreadyExists,
    "AlreadyExists": e.AlreadyExists,
    "FileAlreadyExists": e.AlreadyExists,
    # States
    "InvalidPowerState": e.InvalidState,
    "InvalidState": e.InvalidState,
    "ToolsUnavailable": e.InvalidState,
    "QuestionPending": e.InvalidState,
    "VAppTaskInProgress": e.Conflict,
    "TaskInProgress": e.Conflict,
    "ConcurrentAccess": e.Conflict,
    "MethodDisabled": e.Conflict,
    "ResourceInUse": e.Conflict,
    "FileLocked": e.Conflict,
    # What was asked
    "InvalidArgument": e.InvalidRequest,
    "InvalidName": e.InvalidRequest,
    "InvalidType": e.InvalidRequest,
    "NotSupported": e.NotSupported,
    "NotImplemented": e.NotSupported,
    "MethodNotFound": e.NotSupported,
    # Room
    "InsufficientResourcesFault": e.InsufficientResources,
    "NoDiskSpace": e.InsufficientResources,
    "InsufficientStorageSpace": e.InsufficientResources,
    "OutOfBounds": e.InsufficientResources,
    # What vCenter itself needs
    "HostCommunication": e.BackendUnavailable,
    "HostNotConnected": e.BackendUnavailable,
    "HostNotReachable": e.BackendUnavailable,
    "InaccessibleDatastore": e.BackendUnavailable,
    "DatastoreNotWritableOnHost": e.BackendUnavailable,
    "StorageFault": e.BackendUnavailable,
    "NetworkInaccessible": e.BackendUnavailable,
    "InvalidDatastore": e.BackendUnavailable,
    "InvalidDatastorePath": e.InvalidRequest,
    "Timedout": e.TimedOut,
    # The guest
    "GuestOperationsFault": e.GuestRefused,
    "ApplicationQuiesceFault": e.GuestRefused,
    "FilesystemQuiesceFault": e.GuestRefused,
    "CannotAccessVmComponent": e.HypervisorRefused,
    "RequestCanceled": e.HypervisorRefused,
}
"""Fault name to error; what is not here goes by its ancestors."""

PASSING = frozenset({"TaskInProgress", "VAppTaskInProgress"})
"""Faults that say that another task is at work: worth waiting for."""


def error_class(names: Iterable[str]) -> type[OperationError]:
    """The error for a fault, by its name and its ancestors' names, nearest first."""
    for name in names:
        found = FAULTS.get(name)
        if found is not None:
            return found
    return e.HypervisorRefused


def translate(names: Iterable[str], words: str, what: str, detail: Mapping[str, str]) -> OperationError:
    """The error for a fault that came when we wanted to do ``what``; ``detail`` are the fault's own telling fields."""
    lineage = list(names)
    name = lineage[0] if lineage else "unnamed fault"
    told = "".join(f", {field} {value}" for field, value in detail.items())
    said = f": {words}" if words and words != name else ""
    return error_class(lineage)(f"{what}: vCenter says {name}{told}{said}", vsphere_fault=name, **detail)


def fault_of(error: OperationError) -> str:
    """The name of the fault behind an error, empty when there is none."""
    return error.detail.get("vsphere_fault", "")
