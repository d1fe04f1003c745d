"""The worker's own errors, and the exit codes that a supervisor reads."""

from __future__ import annotations

import enum


class WorkerError(Exception):
    """The root of what the worker itself raises; the message says what to change."""


class Unavailable(WorkerError):
    """A port's other side (broker, manager) cannot be reached now; the same call may succeed later."""


class DriverNotUsable(WorkerError):
    """The driver cannot be found, loaded or opened."""


class SettingsInvalid(WorkerError):
    """The configuration file cannot be read, or a field of it has the wrong type or value."""


class ExitCode(enum.IntEnum):
    """How a worker ended; all but STOPPED and REFUSED are worth a restart."""

    STOPPED = 0
    """It was asked to, and nothing was left half done."""
    DRAIN_INCOMPLETE = 4
    """It was asked to, and operations still ran at the drain timeout; another worker recovers them."""
    FAILED = 70
    """A defect of the worker; the log has it."""
    STUCK = 75
    """Every slot is taken by revoked calls that do not end: a fresh process is needed."""
    REFUSED = 78
    """The manager does not admit this worker; configuration or version has to change first."""
