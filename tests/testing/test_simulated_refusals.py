"""What the simulated driver refuses: by a catalogue error, and leaving nothing behind."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from testing.scenarios import CHECKSUM, GIB, INSTANCE, SCENARIOS, create, do, image, new_id, node

from federation.contract import requests as r
from federation.contract.capabilities import Capability
from federation.contract.consoles import ConsoleKind
from federation.contract.errors import (
    AlreadyExists,
    ImageRejected,
    ImageUnavailable,
    InsufficientResources,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
)
from federation.contract.instances import (
    BootKernel,
    BootTemplate,
    BootVolume,
    DataDisk,
    Flavour,
    ImageFormat,
    PowerState,
)
from federation.testing.calls import RecordedCall
from federation.testing.history import ABSENT
from federation.testing.hypervisor.log import read_log
from federation.testing.hypervisor.profiles import HypervisorKind
from federation.testing.hypervisor.settings import NodeSettings
from federation.testing.simulated import SimulatedDriver


def test_the_driver_is_found_by_its_entry_point():
    (point,) = entry_points(group="federation.drivers", name="simulated")
    assert point.load() is SimulatedDriver


KERNEL = {
    "kernel_url": "https://k/vmlinuz", "kernel_checksum": CHECKSUM,
    "initrd_url": "https://k/initrd", "initrd_checksum": CHECKSUM,
}  # fmt: skip


REFUSED = {
    "unknown template": (create(boot=BootVolume(volume="missing://v")), ImageUnavailable),
    "unknown image": (create(boot=image("missing://nothing")), ImageUnavailable),
    "unknown kernel": (create(boot=BootKernel(**KERNEL | {"initrd_url": "missing://i"})), ImageUnavailable),
    "checksum of a bad image": (create(boot=image("corrupt://image")), ImageRejected),
    "checksum of a known image": (create(boot=image("https://known", checksum="sha256:" + "1" * 64)), ImageRejected),
    "more memory than the node has": (
        create(flavour=Flavour(vcpus=1, memory_bytes=1 << 40)),
        InsufficientResources,
    ),
    "more processors than the node has": (create(flavour=Flavour(vcpus=65, memory_bytes=GIB)), InsufficientResources),
    "more storage than the node has": (create(data_disks=(DataDisk(size_bytes=1 << 50),)), InsufficientResources),
    "a name that is taken": (create(name="taken"), AlreadyExists),
    "an unknown node": (create(node="node-9"), NotFound),
    "no node": (create(node=None), InvalidRequest),
    "an unknown extension": (create(extensions={"simulated": {"colour": "red"}}), InvalidRequest),
    "a template that is not there": (create(boot=BootTemplate(template="t")), ImageUnavailable),
    "a template larger than the disk": (
        create(boot=BootTemplate(template="golden", size_bytes=1 << 20)),
        InvalidRequest,
    ),
    "a volume of another format": (create(boot=BootVolume(volume="spare", format=ImageFormat.RAW)), ImageRejected),
    "a volume of a pool that is not there": (create(boot=BootVolume(volume="spare", pool="fast")), ImageUnavailable),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_created_is_refused_by_a_catalogue_error_and_leaves_nothing_behind(case, open_driver, tmp_path):
    driver = open_driver(images={"https://known": CHECKSUM})
    do(driver, create(instance=new_id(), name="taken"))
    before, log = node(driver), read_log(tmp_path / "state")
    request, error = REFUSED[case]
    with pytest.raises(error):
        do(driver, request)
    assert node(driver) == before
    after = {one.key: one.seen for one in read_log(tmp_path / "state").finals}
    assert after.pop(INSTANCE, ABSENT) == ABSENT
    assert after == {one.key: one.seen for one in log.finals}


def test_an_instance_that_is_there_is_not_created_again_and_not_harmed(driver):
    made = do(driver, create())
    with pytest.raises(AlreadyExists, match="exists already"):
        do(driver, create(name="two"))
    assert do(driver, r.GetInstance(instance=INSTANCE)) == made


def test_a_name_that_somebody_takes_in_the_meantime_is_refused_and_nothing_is_left_behind(driver, tmp_path):
    class Overtaken(RecordedCall):
        def guard(self):
            super().guard()
            if self.guards == 2:
                do(driver, create(instance=new_id()))

    with pytest.raises(AlreadyExists, match="the name one belongs to"):
        do(driver, create(), Overtaken())
    finals = {one.key: one.seen for one in read_log(tmp_path / "state").finals}
    assert finals[INSTANCE] == ABSENT


@pytest.mark.parametrize("pace", [0.0, 1.0], ids=["instant", "slow"])
def test_running_instances_fill_a_node_and_the_next_start_is_refused(pace, open_driver):
    driver = open_driver(pace=pace, nodes=(NodeSettings(name="node-1", memory_bytes=3 * GIB),))
    do(driver, create(flavour=Flavour(vcpus=1, memory_bytes=2 * GIB)))
    second = new_id()
    do(driver, create(second, start=False, name="two", flavour=Flavour(vcpus=1, memory_bytes=2 * GIB)))
    with pytest.raises(InsufficientResources, match="has 1073741824 free memory_bytes"):
        do(driver, r.PowerOn(instance=second))
    do(driver, r.PowerOff(instance=INSTANCE))
    assert do(driver, r.PowerOn(instance=second)).power_state is PowerState.RUNNING


OF_INSTANCES = [
    name for name in SCENARIOS if not name.startswith(("create ", "destroy", "set_node")) and name != "create"
]
STATES = {
    PowerState.RUNNING: (),
    PowerState.STOPPED: (r.PowerOff(instance=INSTANCE),),
    PowerState.PAUSED: (r.Pause(instance=INSTANCE),),
    PowerState.SUSPENDED: (r.Suspend(instance=INSTANCE),),
}
WRONG = [
    (r.Pause(instance=INSTANCE), {PowerState.STOPPED, PowerState.SUSPENDED}),
    (r.Unpause(instance=INSTANCE), {PowerState.STOPPED, PowerState.SUSPENDED}),
    (r.Suspend(instance=INSTANCE), {PowerState.STOPPED}),
    (r.Resume(instance=INSTANCE), {PowerState.STOPPED, PowerState.PAUSED}),
    (r.Reboot(instance=INSTANCE), {PowerState.STOPPED, PowerState.PAUSED, PowerState.SUSPENDED}),
    (r.PowerOn(instance=INSTANCE), {PowerState.PAUSED}),
    (r.PowerOff(instance=INSTANCE), set()),
    (
        r.PowerOff(instance=INSTANCE, mode=r.PowerOffMode.GRACEFUL),
        {PowerState.PAUSED, PowerState.SUSPENDED},
    ),
    (
        r.Resize(instance=INSTANCE, flavour=Flavour(vcpus=1, memory_bytes=GIB)),
        {PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED},
    ),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("request_", "wrong"), WRONG, ids=lambda value: type(value).__name__)
def test_an_operation_that_the_state_does_not_allow_is_refused_naming_the_state(request_, wrong, state, driver):
    do(driver, create())
    for step in STATES[state]:
        do(driver, step)
    before = do(driver, r.GetInstance(instance=INSTANCE))
    if state in wrong:
        with pytest.raises(InvalidState, match=f"is {state}, expected"):
            do(driver, request_)
        assert do(driver, r.GetInstance(instance=INSTANCE)) == before
    else:
        do(driver, request_)


@pytest.mark.parametrize("name", OF_INSTANCES)
def test_an_operation_on_what_is_not_there_says_so(name, driver):
    with pytest.raises(NotFound):
        do(driver, SCENARIOS[name].request)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if not name.startswith(("adopt", "set_node"))])
def test_a_foreign_machine_is_listed_only_when_asked_for_and_never_touched(name, driver, control, tmp_path):
    control.plant_foreign(INSTANCE, "strange", "node-1")
    assert do(driver, r.ListInstances()).instances == ()
    (there,) = do(driver, r.ListInstances(foreign=True)).instances
    assert not there.owned
    with pytest.raises((InvalidState, AlreadyExists)):
        do(driver, SCENARIOS[name].request)
    assert do(driver, r.ListInstances(foreign=True)).instances == (there,)
    assert read_log(tmp_path / "state").effects == ()


def test_the_name_of_a_foreign_machine_is_taken(driver, control):
    control.plant_foreign(new_id(), "strange", "node-1")
    with pytest.raises(AlreadyExists, match="the name strange belongs to"):
        do(driver, create(name="strange"))


@pytest.mark.parametrize("kind", HypervisorKind)
def test_each_kind_declares_what_it_can_and_refuses_the_rest_untouched(kind, open_driver, tmp_path):
    driver = open_driver(kind=kind)
    flags = driver.description().capabilities.flags
    requests = {
        Capability.BOOT_KERNEL: create(boot=BootKernel(**KERNEL)),
        Capability.BOOT_TEMPLATE: create(boot=BootTemplate(template="t")),
        Capability.PAUSE: r.Pause(instance=INSTANCE),
        Capability.CONSOLE_OUTPUT: r.GetConsoleOutput(instance=INSTANCE),
        Capability.CONSOLE_RDP: r.GetConsole(instance=INSTANCE, kind=ConsoleKind.RDP),
        Capability.CONSOLE_VNC: r.GetConsole(instance=INSTANCE, kind=ConsoleKind.VNC),
        Capability.ADMIN_PASSWORD: SCENARIOS["set_admin_password"].request,
    }
    missing = set(requests) - flags
    assert bool(missing) == (kind is not HypervisorKind.GENERIC)
    for flag in missing:
        with pytest.raises(NotSupported, match=flag):
            do(driver, requests[flag])
    assert read_log(tmp_path / "state").effects == ()
    first = do(driver, r.ListNodes()).nodes[0]
    assert first.name == {"generic": "node-1", "kvm": "kvm-1", "vsphere": "esxi-1", "hyperv": "hv-1"}[kind]
