"""Drivers that are broken in what they raise and say."""

from __future__ import annotations

from federation.contract import requests as r
from federation.contract.call import Call
from federation.contract.errors import InsufficientResources, NotFound, OperationError
from federation.contract.instances import Instance
from federation.testing.simulated import SimulatedDriver


class RaisesItsOwn(SimulatedDriver):
    """Lets an exception of its hypervisor's library out."""

    def power_on(self, call: Call, request: r.PowerOn) -> Instance:
        """Start."""
        try:
            return super().power_on(call, request)
        except OperationError as error:
            raise RuntimeError(str(error)) from error


class RaisesUndeclared(SimulatedDriver):
    """Raises an error of the catalogue that its operation does not declare."""

    def pause(self, call: Call, request: r.Pause) -> Instance:
        """Halt."""
        try:
            return super().pause(call, request)
        except NotFound as error:
            raise InsufficientResources(error.message) from error


class TellsSecrets(SimulatedDriver):
    """Quotes the whole request when it is refused."""

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make an instance."""
        try:
            return super().create(call, request)
        except OperationError as error:
            message = f"{error.message}; the request was {request}"
            raise type(error)(message, **error.detail) from error
