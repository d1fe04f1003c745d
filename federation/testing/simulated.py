"""The driver ``simulated``: every operation of the contract on a hypervisor that exists only as a file.

For tests, demonstrations and benchmarks.  The hypervisor outlives the workers that drive it; its effect log
(:func:`federation.testing.hypervisor.log.read_log`) is what the history checker judges by.  Like any driver it keeps no
lock: what serialises is the hypervisor.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar, Self, TypeVar, cast

import msgspec

from federation.contract import requests as r
from federation.contract.call import Call
from federation.contract.errors import InvalidRequest
from federation.contract.instances import ConsoleOutput, Instance, InstancePage
from federation.contract.nodes import Description, NodeList, ProbeReport
from federation.contract.operations import Lane, find
from federation.contract.release import CURRENT, LOWEST
from federation.contract.validation import check_capabilities
from federation.testing.clock import Clock, SystemClock
from federation.testing.hypervisor import lifecycle, nothing, power, queries
from federation.testing.hypervisor.session import Hypervisor, Session
from federation.testing.hypervisor.settings import SimulatedSettings
from federation.testing.hypervisor.steps import wait_for_calls

_Request = TypeVar("_Request", bound=r.Request)
_Result = TypeVar("_Result", bound=msgspec.Struct)


class SimulatedDriver:
    """One cluster's driver; ``clock`` is for tests."""

    settings: ClassVar[type[msgspec.Struct]] = SimulatedSettings

    def __init__(self, settings: SimulatedSettings, cluster: str, clock: Clock | None = None) -> None:
        self._settings = settings
        self._hypervisor = None if settings.nothing else Hypervisor(settings, cluster, clock or SystemClock())
        self._description = Description(
            driver="simulated",
            driver_version=_version(),
            releases=(str(LOWEST), str(CURRENT)),
            capabilities=settings.capabilities,
        )

    @classmethod
    def open(cls, settings: msgspec.Struct, cluster: str) -> Self:
        """Make the driver of one cluster; InvalidRequest when the settings are not of this driver or contradict."""
        if not isinstance(settings, SimulatedSettings):
            raise InvalidRequest(f"settings are {type(settings).__name__}, expected {SimulatedSettings.__name__}")
        return cls(settings, cluster)

    def description(self) -> Description:
        """Who this is."""
        return self._description

    def close(self) -> None:
        """Close the files."""
        if self._hypervisor is not None:
            self._hypervisor.database.close()

    def describe(self, _call: Call, _request: r.Describe) -> Description:
        """Who this is."""
        return self._description

    def probe(self, call: Call, request: r.Probe) -> ProbeReport:
        """Whether the file can be read."""
        return self._run(queries.probe, call, request)

    def list_nodes(self, call: Call, request: r.ListNodes) -> NodeList:
        """The inventory."""
        return self._run(queries.list_nodes, call, request)

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make an instance."""
        return self._run(lifecycle.create, call, request)

    def destroy(self, call: Call, request: r.Destroy) -> r.Empty:
        """Remove an instance."""
        return self._run(lifecycle.destroy, call, request)

    def resize(self, call: Call, request: r.Resize) -> Instance:
        """Change processors and memory."""
        return self._run(lifecycle.resize, call, request)

    def get_instance(self, call: Call, request: r.GetInstance) -> Instance:
        """Read one instance."""
        return self._run(queries.get_instance, call, request)

    def list_instances(self, call: Call, request: r.ListInstances) -> InstancePage:
        """Read a page of instances."""
        return self._run(queries.list_instances, call, request)

    def power_on(self, call: Call, request: r.PowerOn) -> Instance:
        """Start."""
        return self._run(power.power_on, call, request)

    def power_off(self, call: Call, request: r.PowerOff) -> Instance:
        """Stop."""
        return self._run(power.power_off, call, request)

    def reboot(self, call: Call, request: r.Reboot) -> Instance:
        """Restart."""
        return self._run(power.reboot, call, request)

    def pause(self, call: Call, request: r.Pause) -> Instance:
        """Halt the processors."""
        return self._run(power.pause, call, request)

    def unpause(self, call: Call, request: r.Unpause) -> Instance:
        """Let them run again."""
        return self._run(power.unpause, call, request)

    def suspend(self, call: Call, request: r.Suspend) -> Instance:
        """Save the memory and stop."""
        return self._run(power.suspend, call, request)

    def resume(self, call: Call, request: r.Resume) -> Instance:
        """Restore the memory and run."""
        return self._run(power.resume, call, request)

    def get_console_output(self, call: Call, request: r.GetConsoleOutput) -> ConsoleOutput:
        """What the guest printed last."""
        return self._run(queries.get_console_output, call, request)

    def _run(self, carry_out: Callable[[Session, _Request], _Result], call: Call, request: _Request) -> _Result:
        name = carry_out.__name__
        if self._hypervisor is None:
            return cast("_Result", nothing.answer(self._settings, call, name, request))
        operation = find(name)
        check_capabilities(operation, request, self._description.capabilities)
        machine = getattr(request, "instance", "")
        if operation.lane is Lane.QUERY:
            return carry_out(self._hypervisor.query(call, name, machine), request)
        with self._hypervisor.execution(call, name, machine) as session:
            wait_for_calls(session)
            return carry_out(session, request)


def _version() -> str:
    try:
        return version("driver-federation")
    except PackageNotFoundError:
        return "0+uninstalled"
