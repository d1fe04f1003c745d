"""libvirt's error codes as errors of the catalogue, by a table.  Pure: codes and domains go by their C names.

Rules, first match wins:

1. What the RPC layer itself reports means that the connection is gone, or refused when the errno says so.
2. A code that stands in the table becomes the class that it stands under.
3. Everything else, also codes of a libvirt newer than this table, is hypervisor_refused, in the hypervisor's words.
"""

from __future__ import annotations

import errno
import re

from federation.contract import errors as e

_TABLE: dict[type[e.OperationError], str] = {
    e.HypervisorUnreachable: """
        NO_CONNECT INVALID_CONN NO_SERVER NO_CLIENT RPC GNUTLS_ERROR UNKNOWN_HOST NO_HOSTNAME SSH LIBSSH
        NO_ROOT NO_SOURCE NO_TARGET NO_XEN NO_XENSTORE
    """,
    e.PermissionDenied: "AUTH_FAILED AUTH_CANCELLED AUTH_UNAVAILABLE ACCESS_DENIED OPERATION_DENIED",
    e.NotFound: "NO_DOMAIN",
    e.AlreadyExists: "DOM_EXIST",
    e.InvalidState: "OPERATION_INVALID",
    e.Conflict: "RESOURCE_BUSY BLOCK_COPY_ACTIVE OPERATION_ABORTED CHECKPOINT_INCONSISTENT",
    e.TimedOut: "OPERATION_TIMEOUT AGENT_UNRESPONSIVE AGENT_UNSYNCED",
    e.InsufficientResources: "NO_MEMORY DRIVER_FULL",
    e.InvalidRequest: """
        XML_ERROR XML_DETAIL XML_INVALID_SCHEMA CONF_SYNTAX PARSE_FAILED INVALID_MAC OS_TYPE NO_OS NO_KERNEL NO_NAME
        INVALID_NETWORK NO_NETWORK OVERFLOW SEXPR_SERIAL
    """,
    e.NotSupported: """
        NO_SUPPORT CONFIG_UNSUPPORTED OPERATION_UNSUPPORTED ARGUMENT_UNSUPPORTED CPU_INCOMPATIBLE NO_SECURITY_MODEL
    """,
    e.HypervisorRefused: """
        OK NONE WARNING ERROR INTERNAL_ERROR OPERATION_FAILED INVALID_ARG INVALID_DOMAIN CALL_FAILED SYSTEM_ERROR
        GET_FAILED POST_FAILED HTTP_ERROR XEN_CALL OPEN_FAILED READ_FAILED WRITE_FAILED
        NETWORK_EXIST INVALID_STORAGE_POOL INVALID_STORAGE_VOL NO_STORAGE_POOL NO_STORAGE_VOL STORAGE_VOL_EXIST
        STORAGE_POOL_BUILT STORAGE_PROBE_FAILED INVALID_NODE_DEVICE NO_NODE_DEVICE NO_DEVICE DEVICE_MISSING
        INVALID_INTERFACE NO_INTERFACE MULTIPLE_INTERFACES INVALID_NWFILTER NO_NWFILTER BUILD_FIREWALL
        INVALID_NWFILTER_BINDING NO_NWFILTER_BINDING INVALID_SECRET NO_SECRET HOOK_SCRIPT_FAILED
        INVALID_DOMAIN_SNAPSHOT NO_DOMAIN_SNAPSHOT SNAPSHOT_REVERT_RISKY INVALID_STREAM NO_DOMAIN_METADATA
        MIGRATE_UNSAFE MIGRATE_PERSIST_FAILED MIGRATE_FINISH_OK DBUS_SERVICE INVALID_DOMAIN_CHECKPOINT
        NO_DOMAIN_CHECKPOINT NO_DOMAIN_BACKUP INVALID_NETWORK_PORT NETWORK_PORT_EXIST NO_NETWORK_PORT MULTIPLE_DOMAINS
        NETWORK_METADATA NO_NETWORK_METADATA
    """,
}

CLASS_OF: dict[str, type[e.OperationError]] = {
    f"VIR_ERR_{name}": error for error, names in _TABLE.items() for name in names.split()
}
"""Every known code."""

RPC_DOMAINS = frozenset({"VIR_FROM_RPC", "VIR_FROM_REMOTE"})
_BROKEN_PIPE = frozenset({"VIR_ERR_SYSTEM_ERROR", "VIR_ERR_INTERNAL_ERROR", "VIR_ERR_OPERATION_FAILED"})
_PASSWORD_IN_URI = re.compile(r"(://[^:/@\s]*):[^@/\s]+@")


def translate(code: str, domain: str, number: int | None, words: str, context: str) -> e.OperationError:
    """The catalogue's error for a libvirt error.

    ``code`` and ``domain`` are C names, ``number`` is libvirt's int1 (the errno of a system error), ``words`` is the
    message and ``context`` says which node was asked for what.
    """
    message = f"{context}: {without_password(words)}"
    return _class_of(code, domain, number)(message, libvirt_code=code)


def _class_of(code: str, domain: str, number: int | None) -> type[e.OperationError]:
    if domain in RPC_DOMAINS and code in _BROKEN_PIPE:
        return e.PermissionDenied if number == errno.EACCES else e.HypervisorUnreachable
    if code == "VIR_ERR_SYSTEM_ERROR" and number in {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM}:
        return e.InsufficientResources
    return CLASS_OF.get(code, e.HypervisorRefused)


def code_of(error: e.OperationError) -> str:
    """The C name of the libvirt code behind an error, or nothing."""
    return error.detail.get("libvirt_code", "")


def without_password(text: str) -> str:
    """The text with the password of every URI blotted out."""
    return _PASSWORD_IN_URI.sub(r"\1:***@", text)
