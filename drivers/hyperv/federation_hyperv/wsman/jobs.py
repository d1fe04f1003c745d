"""Following a job to its end: `Msvm_ConcreteJob` and its kin, with progress and the words of a failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from federation_hyperv.cim import Instance, Reference, Value
from federation_hyperv.cim.codes import JobState
from federation_hyperv.wsman.errors import JobFailed, TransportError
from federation_hyperv.wsman.host import Host

_GOOD = {JobState.COMPLETED, JobState.COMPLETED_WITH_WARNINGS}


@dataclass(frozen=True, slots=True)
class JobReport:
    """What a job said when it was last asked; ``percent`` is its own estimate."""

    reference: Reference
    name: str
    state: JobState
    percent: int
    error_code: int
    error_description: str


def job_report(job: Instance) -> JobReport:
    """Read a job's properties; an unknown JobState counts as running."""
    try:
        state = JobState(job["JobState"])
    except ValueError:
        state = JobState.RUNNING
    words = job["ErrorDescription"] or job["ErrorSummaryDescription"] or ""
    name = job["ElementName"] or job["Name"] or job["Caption"] or "job"
    return JobReport(job.reference, name, state, job["PercentComplete"] or 0, job["ErrorCode"] or 0, words)


def follow(
    host: Host, outputs: dict[str, Value], *, seconds: float, on_progress: Callable[[JobReport], None] | None = None,
    pause_seconds: float = 0.1,
) -> JobReport | None:  # fmt: skip
    """Wait for the job that a call started; None when it was done at once.

    ``on_progress`` is told every answer.  JobFailed when the job ends otherwise than completed; JobStillRunning after
    ``seconds``.  InstanceNotFound when the host has forgotten the job (it keeps jobs for a few minutes).
    """
    reference = outputs.get("Job")
    if not isinstance(reference, Reference):
        return None
    end = time.monotonic() + seconds
    pause = pause_seconds
    while True:
        report = job_report(host.get(reference))
        if on_progress is not None:
            on_progress(report)
        if report.state.is_final:
            break
        if time.monotonic() >= end:
            raise JobStillRunning(report)
        time.sleep(min(pause, max(end - time.monotonic(), 0.0)))
        pause = min(pause * 1.5, 2.0)
    if report.state not in _GOOD or report.error_code:
        raise JobFailed(report.name, report.state, report.error_code, report.error_description)
    return report


class JobStillRunning(TransportError):
    """The time is up and the job still runs; ``report`` says how far it is."""

    def __init__(self, report: JobReport) -> None:
        self.report = report
        super().__init__(f"{report.name} still runs, {report.percent} % done")
