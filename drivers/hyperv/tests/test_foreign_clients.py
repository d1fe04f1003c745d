"""Clients that we did not write find in the simulated hosts what they know of Hyper-V.

libvirt's own client for Hyper-V is not packaged by Debian, so it is no part of these tests.  libvirt 9.0.0, built by hand with
openwsman 2.8.1, has driven the simulated hosts; what it asked, and tripped over, is asked here by pywinrm: the same
queries, one item for each Pull, every scalar property that it insists on, and a disk in its own words.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from federation_hyperv.cim import load_schemas

FOLDER = Path(__file__).resolve().parent / "os_win"
DISK = "C:\\disks\\one.vhdx"


def run(clients, program, cluster, **more):
    environment = {
        "PATH": os.environ["PATH"], "HYPERV_PORT": str(cluster.port("HV1")), "HYPERV_USER": cluster.settings.username,
        "HYPERV_PASSWORD": cluster.settings.password,
        "PYTHONPATH": os.pathsep.join((str(FOLDER.parent.parent), str(FOLDER))), **more,
    }  # fmt: skip
    done = subprocess.run(
        [str(clients.python), str(FOLDER / program)], env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_os_win_unmodified_makes_changes_and_destroys_a_machine(hyperv_clients, cluster, operator):
    operator.disk(DISK)
    done = run(hyperv_clients, "scenario.py", cluster, HYPERV_DISK=DISK)
    assert {
        "create",
        "configure",
        "attach",
        "detach",
        "vlan",
        "checkpoints",
        "running machine stays",
        "destroy",
        "not found",
    } <= set(done)
    kinds = [effect.kind for effect in cluster.effects()]
    wanted = [
        "define",
        "enabled",
        "quiesce",
        "offline",
        "reset",
        "add_feature",
        "create_checkpoint",
        "destroy_checkpoint",
        "destroy",
    ]
    assert [kind for kind in wanted if kind not in kinds] == []
    assert kinds[-1] == "destroy"
    assert cluster.host("HV1").machines() == []


@pytest.mark.slow
def test_pywinrm_and_pypsrp_ask_as_libvirt_does(hyperv_clients, cluster, operator):
    machine = operator.define("on", VirtualSystemSubType="Microsoft:Hyper-V:SubType:1")
    operator.disk(DISK)
    controller = operator.add(machine, operator.default("Synthetic SCSI Controller"))
    drive = operator.add(
        machine, operator.default("Synthetic Disk Drive").copy(Parent=controller.path, AddressOnParent="0")
    )
    operator.request(machine, 2)
    scalars = {
        cim_class.name: [name for name, field in cim_class.properties.items() if not field.array]
        for cim_class in load_schemas()
        if cim_class.name.startswith(("Win32_Comp", "Win32_Op", "Win32_Pro", "Msvm_Comp", "Msvm_VirtualSystemSettingData",
                                      "Msvm_Processor", "Msvm_Memory", "Msvm_ResourceA", "Msvm_Keyboard"))
    }  # fmt: skip
    name = machine.key("Name")
    done = run(hyperv_clients, "raw_clients.py", cluster, HYPERV_MACHINE=name, HYPERV_SCALARS=json.dumps(scalars),
               HYPERV_DRIVE=drive.path, HYPERV_DISK=DISK)  # fmt: skip
    assert {"pywinrm Msvm_ComputerSystem", "pywinrm Win32_Processor", "references", "libvirt's disk", "pywinrm reads a fault",
            "pypsrp Get", "pypsrp Invoke", "pypsrp reads a fault"} <= set(done)  # fmt: skip
