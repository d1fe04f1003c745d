"""Several hosts in a cluster, machines that are not ours, and hosts that go away."""

from __future__ import annotations

import threading
import time
import uuid

import msgspec
import pytest

from federation.contract import requests as r
from federation.contract.errors import HypervisorUnreachable, InvalidRequest, InvalidState, OutcomeUnknown
from federation.contract.instances import PowerState
from federation_libvirt.attempt import Attempt
from federation_libvirt.settings import Timeouts

MEBIBYTE = 1 << 20
FOREIGN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><os><type>hvm</type></os>
{metadata}</domain>"""
ANOTHERS = """<metadata><f:instance xmlns:f='urn:driver-federation:libvirt:1' cluster='another' instance='{uuid}'
operation='o' stage='complete' boot=''>{{}}</f:instance></metadata>"""


def plant(lab, *, node: int = 0, running: bool = False, metadata: str = "") -> str:
    """A machine that is not ours."""
    identity = str(uuid.uuid4())
    xml = FOREIGN.format(name=f"foreign-{identity[:8]}", uuid=identity, metadata=metadata.format(uuid=identity))
    domain = lab.native(node).defineXML(xml)
    if running:
        domain.create()
    return identity


def listed(lab, **fields) -> list[str]:
    """Ids over all pages."""
    found, after = [], None
    while True:
        page = lab.driver.list_instances(lab.call(), r.ListInstances(after=after, **fields))
        found += [instance.id for instance in page.instances]
        if page.next is None:
            return found
        assert page.next == page.instances[-1].id
        after = page.next


def test_instances_are_listed_page_by_page_over_all_hosts_in_the_order_of_their_ids(lab):
    made = [lab.create(lab.spec(node=lab.nodes[n % 2]), start=False) for n in range(5)]
    foreign = plant(lab, node=1)
    ids = sorted(instance.id for instance in made)
    for limit in (1, 2, 4, 5, 6):
        assert listed(lab, limit=limit) == ids
    assert listed(lab, limit=2, foreign=True) == sorted([*ids, foreign])
    on_first = sorted(instance.id for instance in made if instance.node == lab.nodes[0])
    assert listed(lab, node=lab.nodes[0], limit=2) == on_first
    with pytest.raises(InvalidRequest, match="nowhere"):
        listed(lab, node="nowhere")
    page = lab.driver.list_instances(lab.call(), r.ListInstances())
    assert {instance.id: instance for instance in page.instances} == {instance.id: instance for instance in made}


@pytest.mark.parametrize("metadata", ["", ANOTHERS])
def test_a_machine_that_is_not_ours_is_seen_as_foreign_and_never_touched(lab, metadata):
    foreign = plant(lab, running=True, metadata=metadata)
    before = lab.inventory()
    seen = lab.driver.list_instances(lab.call(), r.ListInstances(foreign=True)).instances
    assert [(instance.id, instance.owned, instance.power_state) for instance in seen] == [
        (foreign, False, PowerState.RUNNING)
    ]
    assert lab.get(foreign) == seen[0]
    for name, request in (
        ("destroy", r.Destroy(instance=foreign)),
        ("power_off", r.PowerOff(instance=foreign)),
        ("reboot", r.Reboot(instance=foreign)),
        ("pause", r.Pause(instance=foreign)),
        ("suspend", r.Suspend(instance=foreign)),
        ("get_console_output", r.GetConsoleOutput(instance=foreign)),
    ):
        call = lab.call()
        with pytest.raises(InvalidState, match="foreign, not of cluster lab-cluster"):
            getattr(lab.driver, name)(call, request)
        assert call.guards == 0
    assert lab.inventory() == before


def test_nodes_say_what_they_have_and_what_is_taken(lab):
    empty = lab.driver.list_nodes(lab.call(), r.ListNodes()).nodes
    assert [node.name for node in empty] == lab.nodes
    lab.create()
    lab.create(start=False)
    plant(lab, running=True)
    first, second = lab.driver.list_nodes(lab.call(), r.ListNodes()).nodes
    assert second == msgspec.structs.replace(empty[1], storage_bytes_used=second.storage_bytes_used)
    assert first.memory_bytes_used == (128 + 64) * MEBIBYTE
    assert (first.vcpus_used, first.instances) == (2, 2)
    assert first.memory_bytes_total > 0
    assert first.storage_bytes_total > first.storage_bytes_used > 0
    assert "QEMU" in first.hypervisor


def impatient(lab) -> Timeouts:
    return msgspec.structs.replace(lab.settings.timeouts, connect_seconds=1, read_seconds=2)


def test_one_host_that_is_down_hides_neither_itself_nor_the_other(lab):
    near = lab.create(lab.spec(node=lab.nodes[0]), start=False)
    far = lab.create(lab.spec(node=lab.nodes[1]), start=False)
    lab.hosts.kill(1)
    driver = lab.another_driver(timeouts=impatient(lab))
    up, down = driver.list_nodes(lab.call(), r.ListNodes()).nodes
    assert (up.reachable, down.reachable, down.accepts_instances) == (True, False, False)
    assert "host1" in down.message
    report = driver.probe(lab.call(), r.Probe())
    assert report.reachable
    assert "host1" in report.message
    assert driver.get_instance(lab.call(), r.GetInstance(instance=near.id)) == near
    # It may be on the host that does not answer: not found would be a guess.
    for name, request in (
        ("get_instance", r.GetInstance(instance=far.id)),
        ("destroy", r.Destroy(instance=far.id)),
        ("list_instances", r.ListInstances(node=lab.nodes[1])),
    ):
        with pytest.raises(HypervisorUnreachable, match="host1"):
            getattr(driver, name)(lab.call(), request)
    assert len(driver.list_instances(lab.call(), r.ListInstances(node=lab.nodes[0])).instances) == 1
    page = driver.list_instances(lab.call(), r.ListInstances())
    assert ([one.id for one in page.instances], page.unreachable) == ([near.id], ("host1",))
    assert driver.create(lab.call(), r.Create(instance=str(uuid.uuid4()), spec=lab.spec(), start=False)).owned
    lab.hosts.start_node(1)
    assert driver.get_instance(lab.call(), r.GetInstance(instance=far.id)) == far
    assert len(driver.list_instances(lab.call(), r.ListInstances()).instances) == 3


def test_a_host_that_hangs_is_unreachable_within_the_limit_and_heals(lab):
    instance = lab.create(start=False).id
    driver = lab.another_driver(timeouts=impatient(lab))
    driver.get_instance(lab.call(), r.GetInstance(instance=instance))
    lab.hosts.pause(0)
    start = time.monotonic()
    with pytest.raises(HypervisorUnreachable, match="host0"):
        driver.power_on(lab.call(), r.PowerOn(instance=instance))
    assert time.monotonic() - start < 15
    lab.hosts.resume(0)
    assert driver.power_on(lab.call(), r.PowerOn(instance=instance)).power_state is PowerState.RUNNING


def test_libvirtd_that_comes_back_finds_its_machines_and_the_driver_goes_on(lab):
    instance = lab.create().id
    lab.hosts.kill(0)
    with pytest.raises(HypervisorUnreachable):
        lab.another_driver(timeouts=impatient(lab)).get_instance(lab.call(), r.GetInstance(instance=instance))
    lab.hosts.start_node(0)
    assert lab.get(instance).power_state is PowerState.RUNNING
    assert lab.driver.pause(lab.call(), r.Pause(instance=instance)).power_state is PowerState.PAUSED


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.15])
@pytest.mark.parametrize("at", [2, 4, 5, 6])
def test_libvirtd_killed_in_the_middle_of_a_create_and_back_soon_delays_it_and_no_more(lab, at, delay):
    """Changes with everything cached: define, root disk, console log, define, start, mark."""
    lab.create(lab.spec(lab.image()), start=False)
    back = threading.Timer(3.0, lab.hosts.start_node, (0,))

    def kill() -> None:
        lab.hosts.kill(0)
        back.start()

    killing = threading.Timer(delay, kill)
    call = lab.meddling(at, killing.start if delay else kill)
    request = r.Create(instance=str(uuid.uuid4()), spec=lab.spec(lab.image()))
    instance = lab.driver.create(call, request)
    if delay:
        killing.join()
    back.join()
    assert instance.power_state is PowerState.RUNNING
    assert delay or any("lost" in stage for _, stage in call.progressed)
    assert lab.get(instance.id) == instance
    volumes = [name for name in lab.inventory()["host0"]["pools"]["lab"] if name.startswith(instance.id)]
    assert len(volumes) == 1
    lab.destroy(instance.id)


@pytest.mark.slow
def test_libvirtd_killed_in_the_middle_of_a_change_and_not_back_leaves_the_outcome_unknown(lab):
    instance = lab.create().id
    driver = lab.another_driver(timeouts=msgspec.structs.replace(impatient(lab), settle_tries=2))
    call = lab.meddling(1, lambda: lab.hosts.kill(0))
    with pytest.raises(OutcomeUnknown, match=r"lost in the middle of power_off"):
        driver.power_off(call, r.PowerOff(instance=instance))
    lab.hosts.start_node(0)
    # The next attempt finds out: the instance had not been stopped, and now it is.
    again = lab.call(operation=call.operation, attempt=2)
    assert driver.power_off(again, r.PowerOff(instance=instance)).power_state is PowerState.STOPPED


def test_two_drivers_that_make_the_pools_of_a_new_host_at_the_same_time_both_succeed(lab):
    changes = {"pool": f"race-{uuid.uuid4().hex[:8]}"}
    base = str(lab.folders[0].parent)
    changes["pool_path"] = f"{base}/{{node}}/volumes/{changes['pool']}"
    changes["console_path"] = f"{base}/{{node}}/console/{changes['pool']}"
    drivers = [lab.another_driver(**changes) for _ in range(4)]
    ends: list[object] = []

    def ask(driver) -> None:
        try:
            for node in lab.nodes:
                driver._fleet.host(node).prepare(Attempt(lab.call()))
            ends.append("prepared")
        except Exception as error:  # noqa: BLE001 - compared below
            ends.append(error)

    threads = [threading.Thread(target=ask, args=(driver,)) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == ["prepared"] * 4
    for node in range(2):
        for name in (changes["pool"], f"{changes['pool']}-console"):
            pool = lab.native(node).storagePoolLookupByName(name)
            assert pool.isActive()
            pool.destroy()
            pool.delete(0)
            pool.undefine()
