"""Drivers that are broken in what they do to the hypervisor and in what they show of it."""

from __future__ import annotations

import threading
import time

import msgspec

from federation.contract import requests as r
from federation.contract.call import Call
from federation.contract.capabilities import Capability
from federation.contract.errors import AlreadyExists, NotFound, OperationError
from federation.contract.instances import Instance, InstancePage, PowerState
from federation.contract.nodes import Description
from federation.contract.results import Destroyed
from federation.testing.hypervisor.records import facts
from federation.testing.hypervisor.session import Session
from federation.testing.simulated import SimulatedDriver

_KIB = 1024


class CreatesOnce(SimulatedDriver):
    """Takes what its own first attempt made for somebody else's."""

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make an instance, unless anything of that id is there."""
        if call.recovering:
            message = f"instance {request.instance} exists already"
            raise AlreadyExists(message)
        return super().create(call, request)


class LeaksOnDestroy(SimulatedDriver):
    """Forgets the disks."""

    def destroy(self, call: Call, request: r.Destroy) -> Destroyed:
        """Remove the machine."""
        return self._run(destroy, call, request)


def destroy(session: Session, _request: r.Destroy) -> Destroyed:
    """Stop and undefine."""
    machine = session.read()
    if machine is not None and machine.active:
        session.change("stop")
    if machine is not None and machine.defined:
        session.change("undefine")
    return Destroyed()


class TouchesForeign(SimulatedDriver):
    """Does not look whose machine it is."""

    def power_off(self, call: Call, request: r.PowerOff) -> Instance:
        """Stop."""
        return self._run(power_off, call, request)


def power_off(session: Session, request: r.PowerOff) -> Instance:
    """Take the power away."""
    machine = session.read()
    if machine is None:
        message = f"instance {request.instance} is not there"
        raise NotFound(message)
    if machine.active:
        session.change("stop")
    return facts(session.read() or machine)


class BlocksForever(SimulatedDriver):
    """Waits for something that never happens, and not by the call's sleep."""

    def power_off(self, call: Call, request: r.PowerOff) -> Instance:
        """Stop, if it ever comes to that."""
        threading.Event().wait()
        return super().power_off(call, request)


class RemembersTooLong(SimulatedDriver):
    """Answers a question once and repeats the answer for ever."""

    def get_instance(self, call: Call, request: r.GetInstance) -> Instance:
        """What was there when it was asked first."""
        remembered: dict[str, Instance] = self.__dict__.setdefault("remembered", {})
        if request.instance not in remembered:
            remembered[request.instance] = super().get_instance(call, request)
        return remembered[request.instance]


class CountsInKibibytes(SimulatedDriver):
    """Hands on what the hypervisor counts in."""

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make an instance."""
        made = super().create(call, request)
        return msgspec.structs.replace(made, memory_bytes=(made.memory_bytes or 0) // _KIB)


class ListsAsItComes(SimulatedDriver):
    """Does not sort."""

    def list_instances(self, call: Call, request: r.ListInstances) -> InstancePage:
        """A page, backwards."""
        page = super().list_instances(call, request)
        return msgspec.structs.replace(page, instances=page.instances[::-1])


class ListsTwice(SimulatedDriver):
    """Begins a page with what ended the one before."""

    def list_instances(self, call: Call, request: r.ListInstances) -> InstancePage:
        """A page with one that was on the last."""
        page = super().list_instances(call, request)
        if request.after is None:
            return page
        last = super().get_instance(call, r.GetInstance(instance=request.after))
        return msgspec.structs.replace(page, instances=(last, *page.instances)[: request.limit])


class HidesForeign(SimulatedDriver):
    """Shows its own machines only, also to who asks for the others."""

    def list_instances(self, call: Call, request: r.ListInstances) -> InstancePage:
        """A page."""
        return super().list_instances(call, msgspec.structs.replace(request, foreign=False))


class DeclaresTooMuch(SimulatedDriver):
    """Says that it pauses, and does not."""

    def pause(self, call: Call, request: r.Pause) -> Instance:
        """Leave it as it is."""
        return super().get_instance(call, r.GetInstance(instance=request.instance))


class DeclaresTooLittle(SimulatedDriver):
    """Pauses without declaring it."""

    def description(self) -> Description:
        """Who this is."""
        described = super().description()
        flags = described.capabilities.flags - {Capability.PAUSE}
        return msgspec.structs.replace(
            described, capabilities=msgspec.structs.replace(described.capabilities, flags=flags)
        )


class SwallowsErrors(SimulatedDriver):
    """Says that all is well whatever happened."""

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make an instance, or pretend to."""
        try:
            return super().create(call, request)
        except OperationError:
            flavour = request.spec.flavour
            return Instance(
                id=request.instance, name=request.spec.name, node=request.spec.node or "", power_state=PowerState.STOPPED,
                vcpus=flavour.vcpus, memory_bytes=flavour.memory_bytes,
            )  # fmt: skip


class MixesUpItsInstances(SimulatedDriver):
    """Keeps what it works on in itself, where its other threads overwrite it."""

    current: r.Create | None = None

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make whatever instance was asked for last."""
        self.current = request
        time.sleep(0.05)
        return super().create(call, self.current)


class DestroysOnce(SimulatedDriver):
    """Complains when there is nothing to destroy."""

    def destroy(self, call: Call, request: r.Destroy) -> Destroyed:
        """Remove an instance that has to be there."""
        super().get_instance(call, r.GetInstance(instance=request.instance))
        return super().destroy(call, request)


class ForgetsMetadata(SimulatedDriver):
    """Keeps what its hypervisor's character set holds."""

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make an instance with metadata of a kind."""
        ascii_only = {_ascii(name): _ascii(value) for name, value in request.spec.metadata.items()}
        return super().create(
            call, msgspec.structs.replace(request, spec=msgspec.structs.replace(request.spec, metadata=ascii_only))
        )


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


class AsksInQueries(SimulatedDriver):
    """Tidies up while it reads."""

    def get_instance(self, call: Call, request: r.GetInstance) -> Instance:
        """Read one instance."""
        found = super().get_instance(call, request)
        call.guard()
        return found


class DropsExtensions(SimulatedDriver):
    """Ignores the options that it does not know."""

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make an instance without its options."""
        return super().create(
            call, msgspec.structs.replace(request, spec=msgspec.structs.replace(request.spec, extensions={}))
        )
