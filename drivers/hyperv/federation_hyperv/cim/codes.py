"""Return codes of Hyper-V's methods, and what they mean.

Sources: the "Return value" tables of the methods' pages (for example Msvm_VirtualSystemManagementService.DefineSystem)
and MS-ERREF for job error codes, which are Win32 or HRESULT values cut to their low 16 bits.
"""

from __future__ import annotations

import enum


class ReturnCode(enum.IntEnum):
    """What a method of root/virtualization/v2 returns."""

    COMPLETED = 0
    NOT_SUPPORTED = 1
    FAILED = 2
    TIMEOUT = 3
    INVALID_PARAMETER = 4
    INVALID_STATE = 5
    INCOMPATIBLE_PARAMETERS = 6
    JOB_STARTED = 4096
    V2_FAILED = 32768
    ACCESS_DENIED = 32769
    V2_NOT_SUPPORTED = 32770
    STATUS_UNKNOWN = 32771
    V2_TIMEOUT = 32772
    V2_INVALID_PARAMETER = 32773
    SYSTEM_IN_USE = 32774
    V2_INVALID_STATE = 32775
    INCORRECT_DATA_TYPE = 32776
    SYSTEM_NOT_AVAILABLE = 32777
    OUT_OF_MEMORY = 32778
    FILE_NOT_FOUND = 32779


class JobState(enum.IntEnum):
    """`JobState` of CIM_ConcreteJob."""

    NEW = 2
    STARTING = 3
    RUNNING = 4
    SUSPENDED = 5
    SHUTTING_DOWN = 6
    COMPLETED = 7
    TERMINATED = 8
    KILLED = 9
    EXCEPTION = 10
    COMPLETED_WITH_WARNINGS = 32768

    @property
    def is_final(self) -> bool:
        """Whether the job is over."""
        return self not in {
            JobState.NEW, JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED, JobState.SHUTTING_DOWN,
        }  # fmt: skip


class Meaning(enum.StrEnum):
    """What a code says, in words of the federation's catalogue."""

    INVALID_REQUEST = "invalid_request"
    INVALID_STATE = "invalid_state"
    NOT_FOUND = "not_found"
    NOT_SUPPORTED = "not_supported"
    PERMISSION_DENIED = "permission_denied"
    INSUFFICIENT_RESOURCES = "insufficient_resources"
    BACKEND_UNAVAILABLE = "backend_unavailable"
    CONFLICT = "conflict"
    TIMED_OUT = "timed_out"
    HYPERVISOR_REFUSED = "hypervisor_refused"


RETURN_MEANINGS: dict[int, Meaning] = {
    ReturnCode.NOT_SUPPORTED: Meaning.NOT_SUPPORTED,
    ReturnCode.TIMEOUT: Meaning.TIMED_OUT,
    ReturnCode.INVALID_PARAMETER: Meaning.INVALID_REQUEST,
    ReturnCode.INVALID_STATE: Meaning.INVALID_STATE,
    ReturnCode.INCOMPATIBLE_PARAMETERS: Meaning.INVALID_REQUEST,
    ReturnCode.ACCESS_DENIED: Meaning.PERMISSION_DENIED,
    ReturnCode.V2_NOT_SUPPORTED: Meaning.NOT_SUPPORTED,
    ReturnCode.V2_TIMEOUT: Meaning.TIMED_OUT,
    ReturnCode.V2_INVALID_PARAMETER: Meaning.INVALID_REQUEST,
    ReturnCode.SYSTEM_IN_USE: Meaning.CONFLICT,
    ReturnCode.V2_INVALID_STATE: Meaning.INVALID_STATE,
    ReturnCode.INCORRECT_DATA_TYPE: Meaning.INVALID_REQUEST,
    ReturnCode.SYSTEM_NOT_AVAILABLE: Meaning.CONFLICT,
    ReturnCode.OUT_OF_MEMORY: Meaning.INSUFFICIENT_RESOURCES,
    ReturnCode.FILE_NOT_FOUND: Meaning.NOT_FOUND,
}

# Win32 codes that jobs end with (MS-ERREF 2.2), besides the codes above.
JOB_MEANINGS: dict[int, Meaning] = {
    2: Meaning.NOT_FOUND,  # ERROR_FILE_NOT_FOUND
    3: Meaning.NOT_FOUND,  # ERROR_PATH_NOT_FOUND
    5: Meaning.PERMISSION_DENIED,  # ERROR_ACCESS_DENIED
    14: Meaning.INSUFFICIENT_RESOURCES,  # ERROR_OUTOFMEMORY
    32: Meaning.CONFLICT,  # ERROR_SHARING_VIOLATION
    53: Meaning.BACKEND_UNAVAILABLE,  # ERROR_BAD_NETPATH
    80: Meaning.CONFLICT,  # ERROR_FILE_EXISTS
    87: Meaning.INVALID_REQUEST,  # ERROR_INVALID_PARAMETER
    112: Meaning.INSUFFICIENT_RESOURCES,  # ERROR_DISK_FULL
}


def return_meaning(code: int) -> Meaning:
    """What a return code other than 0 and 4096 says; an unlisted one is the hypervisor's refusal."""
    return RETURN_MEANINGS.get(code, Meaning.HYPERVISOR_REFUSED)


def job_meaning(code: int) -> Meaning:
    """What the ErrorCode of a failed job says; an unlisted one is the hypervisor's refusal."""
    return JOB_MEANINGS.get(code & 0xFFFF) or RETURN_MEANINGS.get(code & 0xFFFF, Meaning.HYPERVISOR_REFUSED)
