"""How a planted fault acts once it has fired."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

from federation.contract.errors import CATALOGUE
from federation.testing import faults
from federation.testing.calls import SimulatedCrash
from federation.testing.clock import Clock
from federation.testing.faults import Action, Fault, Phase, PlantedBugError
from federation.testing.hypervisor.database import Database

POLL_SECONDS = 0.02


def act_all(fired: Iterable[Fault], phase: Phase, database: Database, clock: Clock) -> None:
    """Let the faults of one phase act, in the order of their names."""
    for fault in fired:
        if fault.phase is phase:
            _act(fault, database, clock)


def find_hold(fired: Iterable[Fault]) -> Fault | None:
    """The fault that keeps a call under way on the hypervisor."""
    return next((f for f in fired if f.action is Action.HANG and f.phase is Phase.UNDER_WAY), None)


def _act(fault: Fault, database: Database, clock: Clock) -> None:
    match fault.action:
        case Action.RAISE:
            raise CATALOGUE[fault.code or ""](f"planted fault {fault.name}", fault=fault.name)
        case Action.BUG:
            raise PlantedBugError(f"planted fault {fault.name}")
        case Action.CRASH:
            raise SimulatedCrash(f"planted fault {fault.name}")
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.HANG if fault.phase is not Phase.UNDER_WAY:
            _hang(fault, database, clock)
        case Action.SLOW | Action.LIE | Action.IGNORE_GUARD | Action.HANG:
            return  # these change how the call itself is made


def _hang(fault: Fault, database: Database, clock: Clock) -> None:
    end = float("inf") if fault.seconds is None else clock.monotonic() + fault.seconds
    while (now := clock.monotonic()) < end:
        with database.reading() as connection:
            if faults.is_released(connection, fault.name):
                return
        clock.sleep(min(POLL_SECONDS, end - now))
