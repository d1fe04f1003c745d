"""What the parameters of Hyper-V's methods name, or the refusal when they name nothing."""

from __future__ import annotations

from typing import Any

from federation_hyperv.cim import Instance, Reference
from federation_hyperv.cim.codes import ReturnCode
from federation_hyperv.cim.embedded import read_embedded
from federation_hyperv.cim.errors import CimError
from federation_hyperv.testing import words
from federation_hyperv.testing.host import Refused, SimulatedHost


def machine_of(host: SimulatedHost, reference: Any) -> Instance:
    """The machine that a parameter names; refused when there is none, or it is the host itself."""
    if not isinstance(reference, Reference):
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    found = host.repository.find(reference)
    if found is None or found["Description"] != words.MACHINE_DESCRIPTION:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    return found


def settings_from(host: SimulatedHost, reference: Any) -> Instance:
    """The settings that a parameter names, by themselves or by their machine."""
    if not isinstance(reference, Reference):
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    found = host.repository.find(reference)
    if found is not None and found.class_name == "Msvm_ComputerSystem":
        return host.settings_of(machine_of(host, reference))
    if found is None or found.class_name != "Msvm_VirtualSystemSettingData":
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    return found


def embedded(text: Any, class_name: str) -> Instance:
    """An embedded instance of a parameter; refused when it is missing, unreadable or of another class."""
    if not isinstance(text, str) or not text.strip():
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    try:
        found = read_embedded(text)
    except CimError as error:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER) from error
    if class_name and found.class_name != class_name:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    return found
