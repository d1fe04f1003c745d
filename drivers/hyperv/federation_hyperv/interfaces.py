"""Network interfaces: synthetic adapters with a fixed address, connected to a virtual switch by its name.

They are made with the machine.  Hyper-V adds adapters to a running machine of generation 2 only, and takes none from one of
generation 1, so the driver does not declare ``hot_interfaces``, which promises both for every instance.
"""

from __future__ import annotations

from federation.contract.errors import HypervisorRefused, NotFound
from federation.contract.instances import Interface
from federation_hyperv import facts, msvm
from federation_hyperv.attempt import Attempt
from federation_hyperv.facts import Properties
from federation_hyperv.host import VSMS, Host
from federation_hyperv.machine import Machine

MAX_INTERFACES = 8
"""Synthetic adapters of one machine."""
_PORT = "Msvm_SyntheticEthernetPortSettingData"
_CONNECTION = "Msvm_EthernetPortAllocationSettingData"


def switch_paths(host: Host, wanted: list[str]) -> dict[str, str]:
    """WMI paths of virtual switches by their names; NotFound names those that there are."""
    if not wanted:
        return {}
    found = {str(one["ElementName"]): one.path for one in host.select("Msvm_VirtualEthernetSwitch")}
    for name in wanted:
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise NotFound(f"{host.node} has no virtual switch {name!r}; switches: {known}", network=name)
    return found


def connect(attempt: Attempt, machine: Machine, wanted: list[tuple[str, Interface]], switches: dict[str, str]) -> None:
    """Make interfaces, each with its address: adapters, then connections, then VLANs."""
    if not wanted:
        return
    machine.add(attempt, "network adapters", [msvm.port(mac, f"Network Adapter {mac}") for mac, _ in wanted])
    machine.read()
    connections = []
    for mac, interface in wanted:
        path = msvm.setting_path(_PORT, str(_port(machine, mac)["InstanceID"]))
        connections.append(msvm.connection(path, switches[interface.network]))
    machine.add(attempt, "network connections", connections)
    machine.read()
    for mac, interface in wanted:
        if interface.vlan is not None:
            _set_vlan(attempt, machine, mac, interface.vlan)


def _set_vlan(attempt: Attempt, machine: Machine, mac: str, vlan: int) -> None:
    connection = facts.connection_of(machine.devices(), _port(machine, mac))
    if connection is None:
        raise HypervisorRefused(f"{machine.name}: Hyper-V does not show the connection of {mac}")
    machine.host.run(
        attempt, f"set the VLAN of {mac}", machine.host.service(VSMS), "AddFeatureSettings",
        {
            "AffectedConfiguration": msvm.setting(str(connection["InstanceID"]), _CONNECTION),
            "FeatureSettings": [msvm.access_vlan(vlan)],
        },
    )  # fmt: skip


def _port(machine: Machine, mac: str) -> Properties:
    for port in machine.devices().ports:
        if msvm.mac_of(str(port.get("Address") or "")) == mac:
            return port
    raise HypervisorRefused(f"{machine.name}: Hyper-V took adapter {mac} and does not show it")
