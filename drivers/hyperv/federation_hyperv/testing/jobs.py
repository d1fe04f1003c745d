"""Jobs of a simulated host: they take time, show progress, and may be ordered to fail."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from federation_hyperv.cim import Instance, load_schemas
from federation_hyperv.cim.codes import JobState


class JobError(Exception):
    """A job's work failed: the code and the words that the job shows."""

    def __init__(self, code: int, description: str) -> None:
        self.code = code
        super().__init__(description)


@dataclass(slots=True)
class Job:
    """One running job: its instance, when it began, how long it takes, what it does at the end."""

    instance: Instance
    began: float
    seconds: float
    finish: Callable[[], None]
    fails_with: JobError | None = None
    partial: Callable[[], None] | None = None
    """What half of the work leaves behind when it is ordered to fail half way."""

    def percent(self, now: float) -> int:
        """How far it is; 100 only when it is over."""
        if self.seconds <= 0:
            return 99
        return min(99, int(100 * (now - self.began) / self.seconds))


class Timetable:
    """One thread that runs what is due, each under the world's lock."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="hyperv-jobs", daemon=True)
        self._thread.start()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Run something later."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._count), act))
            self._changed.notify()

    def stop(self) -> None:
        """End the thread; what is not due yet never runs, as when a host loses power."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._stopped:
                    return
                act = heapq.heappop(self._due)[2]
            with self._lock:
                act()


def new_job(class_name: str, caption: str, *, cancellable: bool = False) -> Instance:
    """A job's instance as it is when it starts."""
    now = dt.datetime.now(dt.UTC)
    identifier = str(uuid.uuid4()).upper()
    values: dict[str, Any] = {
        "InstanceID": identifier, "Caption": caption, "ElementName": caption, "Name": caption, "Description": caption,
        "JobState": int(JobState.RUNNING), "JobStatus": "Job is running", "Status": "OK", "OperationalStatus": [2],
        "HealthState": 5, "PercentComplete": 0, "StartTime": now, "TimeSubmitted": now, "TimeOfLastStateChange": now,
        "ElapsedTime": dt.timedelta(0), "Cancellable": cancellable, "DeleteOnCompletion": False, "ErrorCode": 0,
        "LocalOrUtcTime": 2, "TimeBeforeRemoval": dt.timedelta(minutes=5), "JobType": 0,
    }  # fmt: skip
    published = load_schemas().get(class_name).properties
    return Instance(class_name, {name: value for name, value in values.items() if name in published})
