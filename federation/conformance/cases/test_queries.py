"""Reads: lists and pages, nodes, consoles, metrics; what is shown is what is there, in the contract's units."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from federation.conformance.asking import creation, instance
from federation.conformance.bench import Bench, Subject
from federation.conformance.trying import expect_refusal, require
from federation.contract.capabilities import Capability
from federation.contract.operations import Lane, find, on_lane
from federation.contract.validation import parse_request, required_capabilities

STOPPED = creation(start=False)
CONSOLES = [flag for flag in Capability if flag.startswith("console_") and flag is not Capability.CONSOLE_OUTPUT]
SLACK_BYTES = 64 << 20
"""What a node's memory may differ by for reasons of its own."""


def _some(bench: Bench, count: int) -> list[Subject]:
    subjects = [bench.subject(number) for number in range(count)]
    for subject in subjects:
        bench.succeed("create", STOPPED(bench, subject))
    return subjects


def _pages(bench: Bench, limit: int, **more: Any) -> Iterator[dict[str, Any]]:
    after = None
    while True:
        page = bench.succeed("list_instances", {"limit": limit, "after": after} | more)
        yield page
        after = page.get("next")
        if after is None:
            return


@pytest.mark.clause("CHG-6")
@pytest.mark.parametrize("operation", [o.name for o in on_lane(Lane.QUERY)])
def test_a_query_changes_nothing(bench: Bench, subject: Subject, operation: str) -> None:
    """No query asks for leave, and the instance is the same afterwards."""
    declared = find(operation)
    named = "instance" in declared.request.__struct_fields__
    request: dict[str, Any] = {"instance": subject.instance} if named else {}
    if operation == "get_console":
        request["kind"] = next((flag.removeprefix("console_") for flag in CONSOLES if flag in bench.flags), "vnc")
    require(bench, required_capabilities(declared, parse_request(declared, request)))
    bench.succeed("create", creation()(bench, subject))
    before = bench.settle(subject)
    run = bench.do(operation, request)
    run.result()
    assert run.guards == 0
    assert bench.settle(subject) == before


@pytest.mark.clause("QRY-1")
@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_pages_hold_every_instance_once_in_the_order_of_ids(bench: Bench, limit: int) -> None:
    """Pages of every size: sorted by id, no page above its limit, nothing doubled, nothing left out."""
    made = {subject.instance for subject in _some(bench, 5)}
    pages = list(_pages(bench, limit))
    ids = [one["id"] for page in pages for one in page["instances"]]
    assert all(len(page["instances"]) <= limit for page in pages)
    assert ids == sorted(set(ids))
    assert made <= set(ids)


@pytest.mark.clause("QRY-1")
def test_a_page_begins_behind_what_it_is_told(bench: Bench) -> None:
    """The instance where a page ended may be gone when the next one is asked for."""
    made = {subject.instance for subject in _some(bench, 3)}
    seen: list[str] = []
    page = bench.succeed("list_instances", {"limit": 1})
    while True:
        shown = [one["id"] for one in page["instances"]]
        seen += shown
        for gone in made & set(shown):
            bench.succeed("destroy", {"instance": gone})
        if page.get("next") is None:
            break
        page = bench.succeed("list_instances", {"limit": 1, "after": page["next"]})
    assert made <= set(seen)
    assert seen == sorted(set(seen))


@pytest.mark.clause("QRY-2")
def test_paging_while_instances_come_and_go_shows_what_stays(bench: Bench) -> None:
    """Whatever is there all the time is on exactly one page, whatever else comes and goes meanwhile."""
    stays = {subject.instance for subject in _some(bench, 4)}
    stop = threading.Event()
    trouble: list[BaseException] = []

    def come_and_go() -> None:
        while not stop.is_set():
            passing = bench.subject()
            try:
                bench.succeed("create", STOPPED(bench, passing))
                bench.succeed("destroy", {"instance": passing.instance})
            except BaseException as error:  # noqa: BLE001 (told to the case, which fails)
                trouble.append(error)
                return

    traffic = threading.Thread(target=come_and_go, name="come and go")
    traffic.start()
    try:
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            ids = [one["id"] for page in _pages(bench, 2) for one in page["instances"]]
            assert ids == sorted(set(ids))
            assert stays <= set(ids)
    finally:
        stop.set()
        traffic.join(bench.target.conformance.operation_seconds)
    assert trouble == []


@pytest.mark.clause("QRY-3")
def test_a_node_that_is_not_there_is_an_invalid_filter(bench: Bench) -> None:
    """invalid_request that names the node."""
    expect_refusal(
        bench.do("list_instances", {"node": "no-such-node"}, bare=True), "invalid_request", told="no-such-node"
    )


@pytest.mark.clause("QRY-3")
def test_a_node_s_list_holds_its_own_instances_only(bench: Bench) -> None:
    """With ``node``, what runs elsewhere is left out."""
    for subject in _some(bench, 2):
        for node in bench.nodes:
            ids = {one["id"] for page in _pages(bench, 1000, node=node) for one in page["instances"]}
            assert (subject.instance in ids) == (node == subject.node)


@pytest.mark.clause("QRY-4")
def test_what_another_worker_changed_is_seen_at_once(bench: Bench, subject: Subject) -> None:
    """A driver that remembers what it read before shows it wrongly."""
    bench.succeed("create", STOPPED(bench, subject))
    assert bench.succeed("get_instance", {"instance": subject.instance})["power_state"] == "stopped"
    with bench.another_process() as other:
        other.run("power_on", {"instance": subject.instance}).result()
        assert bench.succeed("get_instance", {"instance": subject.instance})["power_state"] == "running"
        listed = {one["id"]: one for page in _pages(bench, 1000) for one in page["instances"]}
        assert listed[subject.instance]["power_state"] == "running"
        other.run("destroy", {"instance": subject.instance}).result()
    assert bench.do("get_instance", {"instance": subject.instance}).code == "not_found"


@pytest.mark.clause("QRY-4")
def test_list_and_get_show_the_same(bench: Bench, subject: Subject) -> None:
    """One instance looks the same in a page and alone."""
    bench.succeed("create", STOPPED(bench, subject))
    listed = {one["id"]: one for page in _pages(bench, 1000) for one in page["instances"]}
    assert listed[subject.instance] == bench.succeed("get_instance", {"instance": subject.instance})


@pytest.mark.clause("QRY-5")
def test_nodes_are_listed_by_name_with_what_they_have(bench: Bench) -> None:
    """Sorted, each once, and nothing is used that is not there."""
    nodes = bench.succeed("list_nodes", {})["nodes"]
    names = [node["name"] for node in nodes]
    assert names == sorted(set(names))
    for node in nodes:
        if node["reachable"] and node["memory_bytes_total"] is not None:
            assert node["memory_bytes_total"] >= 1 << 24, "memory is not in bytes"
            assert node["vcpus_total"] >= 1
            assert node["memory_bytes_used"] >= 0
            assert node["storage_bytes_total"] is None or node["storage_bytes_used"] <= node["storage_bytes_total"]


@pytest.mark.clause("QRY-5", "REQ-1")
def test_a_running_instance_takes_its_memory_from_its_node(bench: Bench, subject: Subject) -> None:
    """``memory_bytes_used`` and ``instances`` grow when one is started there, in bytes."""

    def node() -> dict[str, Any]:
        nodes: list[dict[str, Any]] = bench.succeed("list_nodes", {})["nodes"]
        return next(one for one in nodes if one["name"] == subject.node)

    before = node()
    bench.succeed("create", creation()(bench, subject))
    after = node()
    grown = after["memory_bytes_used"] - before["memory_bytes_used"]
    assert after["instances"] > 0
    assert grown > -SLACK_BYTES, f"memory used went down by {-grown} bytes"
    assert after["memory_bytes_used"] >= 1 << 24


@pytest.mark.clause("QRY-5")
def test_a_probe_says_that_the_hypervisor_answers(bench: Bench) -> None:
    """Reachable, in a time that is one."""
    report = bench.succeed("probe", {})
    assert report["reachable"]
    assert 0 <= report["seconds"] < bench.target.conformance.query_seconds


@pytest.mark.clause("QRY-6")
@pytest.mark.parametrize("limit", [1, 16, 1 << 18])
def test_console_output_is_no_longer_than_asked_for(bench: Bench, subject: Subject, limit: int) -> None:
    """The last bytes, and whether there were more."""
    require(bench, [Capability.CONSOLE_OUTPUT])
    limit = min(limit, bench.description.capabilities.limits.max_console_bytes or limit)
    bench.succeed("create", creation()(bench, subject))
    if bench.target.conformance.guest.ready_line:
        bench.wait_ready(subject)
    output = bench.succeed("get_console_output", {"instance": subject.instance, "max_bytes": limit})
    # A byte that is no UTF-8 becomes a sign of three bytes, so signs are counted.
    assert len(output["text"]) <= limit
    if output["truncated"]:
        more = bench.succeed("get_console_output", {"instance": subject.instance, "max_bytes": min(2 * limit, 1 << 18)})
        assert len(more["text"]) > len(output["text"]) or limit == 1 << 18


@pytest.mark.clause("QRY-7")
@pytest.mark.parametrize("flag", CONSOLES, ids=str)
def test_a_console_says_where_it_is(bench: Bench, subject: Subject, flag: Capability) -> None:
    """A kind that is declared: host and port, or a URL, of a running instance."""
    require(bench, [flag])
    bench.succeed("create", creation()(bench, subject))
    kind = flag.removeprefix("console_")
    console = bench.succeed("get_console", {"instance": subject.instance, "kind": kind})
    assert (console["host"] is None) == (console["port"] is None and console.get("tls_port") is None)
    assert console["url"] or console["host"], console


@pytest.mark.clause("QRY-8", "REQ-1")
def test_counters_of_an_instance_never_run_backwards(bench: Bench, subject: Subject) -> None:
    """Read twice: nothing is negative, nothing gets less, and the times are in order and UTC."""
    require(bench, [Capability.METRICS])
    bench.succeed("create", creation()(bench, subject))
    first = bench.succeed("get_metrics", {"instance": subject.instance})
    second = bench.succeed("get_metrics", {"instance": subject.instance})
    assert first["at"] <= second["at"]
    if first["cpu_seconds"] is not None:
        assert 0 <= first["cpu_seconds"] <= second["cpu_seconds"]
    if first["memory_bytes_used"] is not None:
        assert first["memory_bytes_used"] >= 0
    for one, other in zip(first["disks"], second["disks"], strict=True):
        assert one["name"] == other["name"]
        for counter in ("read_bytes", "written_bytes", "read_requests", "write_requests"):
            assert one[counter] is None or 0 <= one[counter] <= other[counter]


@pytest.mark.clause("QRY-4")
def test_a_read_shows_a_guest_that_was_stopped(bench: Bench, subject: Subject) -> None:
    """After power_off nothing shows the instance running."""
    bench.succeed("create", creation()(bench, subject))
    bench.succeed("power_off", instance(mode="hard")(bench, subject))
    assert bench.succeed("get_instance", {"instance": subject.instance})["power_state"] == "stopped"
