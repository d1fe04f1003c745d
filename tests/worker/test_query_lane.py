"""Queries beside the ordered operations."""

import threading

from worker.tiny_driver import TinyDriver, eventually, key

from federation.contract.errors import NotFound


def test_a_query_is_answered_beside_the_ordered_operations(world, run):
    worker = world.worker(TinyDriver())
    run(worker)
    answered = worker.queries.handle("get_instance", 1, {"instance": key(1)})
    assert answered["kind"] == "succeeded"
    assert answered["result"]["id"] == key(1)
    assert worker.counters.snapshot()["queries"] == {"get_instance.succeeded": 1}


def test_a_query_that_hangs_is_given_up_in_time_and_takes_only_its_own_slot(world):
    hanging = threading.Event()

    def act(_call, request):
        if request.instance == key(1):
            hanging.wait(30)

    worker = world.worker(TinyDriver(act), query_timeout=0.1, max_queries=2)
    outcome = worker.queries.handle("get_instance", 1, {"instance": key(1)})
    assert (outcome["kind"], outcome["code"]) == ("failed", "timed_out")
    assert worker.queries.handle("get_instance", 1, {"instance": key(2)})["kind"] == "succeeded"
    worker.queries.handle("get_instance", 1, {"instance": key(1)})
    full = worker.queries.handle("get_instance", 1, {"instance": key(2)})
    assert full["code"] == "timed_out"
    assert "2 query slots" in full["message"]
    hanging.set()
    eventually(lambda: worker.queries.handle("get_instance", 1, {"instance": key(2)})["kind"] == "succeeded", "a slot")


def test_a_query_that_nobody_waits_for_any_more_is_woken_from_its_sleep_and_gives_its_slot_back(world):
    ended = threading.Event()

    def act(call, _request):
        try:
            call.sleep(3000)
        finally:
            ended.set()

    worker = world.worker(TinyDriver(act), query_timeout=0.1, max_queries=1)
    assert worker.queries.handle("get_instance", 1, {"instance": key(1)})["code"] == "timed_out"
    assert ended.wait(10)
    assert worker.counters.snapshot()["driver_bugs"] == {}


def test_a_query_never_raises(world):
    def act(_call, _request):
        raise NotFound("no such machine")

    worker = world.worker(TinyDriver(act))
    assert worker.queries.handle("get_instance", 1, {"instance": key(1)})["code"] == "not_found"
    assert worker.queries.handle("get_instance", 1, {})["code"] == "invalid_request"
    assert worker.queries.handle("nothing", 1, {})["code"] == "contract_mismatch"
    assert worker.queries.handle(["a"], {}, None)["code"] == "invalid_request"
    assert worker.queries.handle("power_on", 1, {"instance": key(1)})["code"] == "contract_mismatch"
