"""Drivers that are broken in how they ask for leave, and in what they do when it is gone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec

from federation.conformance.broken.proxies import PassedOn
from federation.contract import requests as r
from federation.contract.call import Call, Revoked
from federation.contract.errors import Cancelled, OperationError, OutcomeUnknown, TimedOut
from federation.contract.instances import Instance
from federation.testing.hypervisor.session import Session
from federation.testing.simulated import SimulatedDriver

_Request = TypeVar("_Request", bound=r.Request)
_Result = TypeVar("_Result", bound=msgspec.Struct)
CarryOut = Callable[[Session, _Request], _Result]


class _Deaf(PassedOn):
    def guard(self) -> None:
        with suppress(Revoked):
            self.call.guard()


class IgnoresGuard(SimulatedDriver):
    """Goes on when its leave was taken away."""

    def _run(self, carry_out: CarryOut[_Request, _Result], call: Call, request: _Request) -> _Result:
        return super()._run(carry_out, _Deaf(call), request)


class _Silent(PassedOn):
    def guard(self) -> None:
        """Nobody is asked."""


class NeverAsks(SimulatedDriver):
    """Changes things without a guard."""

    def _run(self, carry_out: CarryOut[_Request, _Result], call: Call, request: _Request) -> _Result:
        return super()._run(carry_out, _Silent(call), request)


class _Late(PassedOn):
    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.owed = 0

    def guard(self) -> None:
        if self.owed:
            self.call.guard()
        self.owed = 1


class GuardsTooLate(SimulatedDriver):
    """Makes each changing call first and asks for leave afterwards."""

    def _run(self, carry_out: CarryOut[_Request, _Result], call: Call, request: _Request) -> _Result:
        late = _Late(call)
        result = super()._run(carry_out, late, request)
        if late.owed:
            call.guard()
        return result


class _Once(PassedOn):
    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.asked = False

    def guard(self) -> None:
        if not self.asked:
            self.call.guard()
        self.asked = True


class AsksOnce(SimulatedDriver):
    """One guard for all the changing calls of an operation."""

    def _run(self, carry_out: CarryOut[_Request, _Result], call: Call, request: _Request) -> _Result:
        return super()._run(carry_out, _Once(call), request)


class _Stubborn(PassedOn):
    def guard(self) -> None:
        with suppress(Cancelled, TimedOut):
            self.call.guard()


class IgnoresCancel(SimulatedDriver):
    """Finishes what was cancelled."""

    def _run(self, carry_out: CarryOut[_Request, _Result], call: Call, request: _Request) -> _Result:
        return super()._run(carry_out, _Stubborn(call), request)


class _Abandoned(BaseException):
    """Leaves without tidying up."""

    def __init__(self, reason: OperationError) -> None:
        super().__init__()
        self.reason = reason


class _Careless(PassedOn):
    def guard(self) -> None:
        try:
            self.call.guard()
        except OperationError as error:
            raise _Abandoned(error) from error


class LeaksOnFailure(SimulatedDriver):
    """Lets Cancelled out, and what it had made by then lie about."""

    def _run(self, carry_out: CarryOut[_Request, _Result], call: Call, request: _Request) -> _Result:
        try:
            return super()._run(carry_out, _Careless(call), request)
        except _Abandoned as abandoned:
            raise abandoned.reason from None


class UndoesWithoutLeave(SimulatedDriver):
    """Tidies up when its leave is gone, while another worker already recovers."""

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make an instance."""
        try:
            return super().create(call, request)
        except Revoked:
            super().destroy(_Silent(call), r.Destroy(instance=request.instance))
            raise


class SnapshotsTwice(SimulatedDriver):
    """Names a snapshot by chance and not by its operation, so that it does not find it again."""

    def _run(self, carry_out: CarryOut[_Request, _Result], call: Call, request: _Request) -> _Result:
        if isinstance(request, r.CreateSnapshot):
            return super()._run(carry_out, _Renamed(call), request)
        return super()._run(carry_out, call, request)


class _Renamed(PassedOn):
    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._name = str(uuid.uuid4())

    @property
    def operation(self) -> str:
        """Another one each time."""
        return self._name


class RebootsAgain(SimulatedDriver):
    """Reboots once for each attempt, because it does not look for its marker."""

    def reboot(self, call: Call, request: r.Reboot) -> Instance:
        """Restart."""
        return super().reboot(_Renamed(call), request)


class DestroysOnFailedRecovery(SimulatedDriver):
    """Starts from scratch when it does not know what happened."""

    def power_on(self, call: Call, request: r.PowerOn) -> Instance:
        """Start."""
        if call.recovering:
            super().destroy(call, r.Destroy(instance=request.instance))
            message = f"instance {request.instance} was in a state that nobody knows"
            raise OutcomeUnknown(message)
        return super().power_on(call, request)
