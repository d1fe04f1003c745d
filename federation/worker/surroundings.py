"""What the parts of one worker share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from federation.worker.counters import Counters
from federation.worker.errors import ExitCode
from federation.worker.inbox import Inbox
from federation.worker.ports import Ports
from federation.worker.settings import WorkerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """``clock`` is monotonic, in seconds; ``end`` asks the worker to end with a code and a reason."""

    settings: WorkerSettings
    ports: Ports
    inbox: Inbox
    counters: Counters
    clock: Callable[[], float]
    end: Callable[[ExitCode, str], None]
