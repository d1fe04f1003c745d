"""The door never raises: every reply is a result or an error of the catalogue."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.contract.errors import CATALOGUE
from federation.manager.door import AdmissionDoor, ManagerDoor


@pytest.fixture
def door(world):
    return ManagerDoor(world.manager)


def test_a_value_comes_back_in_builtin_types(world, door):
    made = world.create()
    reply = door.call("operation", {"operation": made.id})
    assert reply["result"]["value"]["id"] == made.id
    assert reply["error"] is None


def test_an_unknown_method_is_told_which_are_known(door):
    error = door.call("explode", {})["error"]
    assert error["code"] == "invalid_request"
    assert "submit" in error["message"]


def test_an_unknown_argument_is_named(door):
    assert "surprise" in door.call("clusters", {"surprise": 1})["error"]["message"]


def test_an_instance_may_be_named_instead_of_its_id(world, door):
    made = world.create("web-1")
    reply = door.call("submit", {"name": "pause", "instance": "web-1"})
    assert reply["result"]["value"]["key"] == made.key


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda x: st.lists(x) | st.dictionaries(st.text(max_size=5), x),
    max_leaves=5,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_is_asked_the_answer_is_of_the_catalogue(world, door, data):
    for one in (door, AdmissionDoor(world.manager)):
        method = data.draw(st.sampled_from(sorted(one._methods)))
        keys = ["name", "cluster", "instance", "operation", "arguments", "worker", "limit", "driver", "state"]
        reply = one.call(method, data.draw(st.dictionaries(st.sampled_from(keys), _ANY)))
        assert reply["error"] is None or reply["error"]["code"] in CATALOGUE


def test_what_comes_out_of_the_door_holds_no_user_data_and_no_password_of_a_url(world):
    door = ManagerDoor(world.manager)
    spec = {
        "name": "secret",
        "flavour": {"vcpus": 1, "memory_bytes": 1 << 30},
        "boot": {
            "kind": "image",
            "url": "https://me:hidden@images/x",
            "checksum": "sha256:" + "0" * 64,
            "format": "qcow2",
        },
        "guest": {"user_data": "password: swordfish"},
    }
    replies = [door.call("submit", {"name": "create", "cluster": "lab", "arguments": {"spec": spec}})]
    replies += [door.call(method, {}) for method in ("operations", "instances")]
    operation = replies[0]["result"]["value"]["id"]
    replies += [door.call("operation", {"operation": operation}), door.call("cancel", {"operation": operation})]
    for reply in replies:
        assert reply["error"] is None
        assert "swordfish" not in str(reply)
        assert "hidden" not in str(reply)
    world.until(lambda: world.bus.published)
    assert world.bus.published[0].arguments["spec"]["guest"]["user_data"] == "password: swordfish"


def test_who_asks_for_a_console_gets_what_opens_it(world, door):
    made = world.create()
    console = {"kind": "webmks", "url": "wss://host/mks?session=7", "ticket": "opens-it", "password": "once"}
    world.bus.reply = {"result": console}
    asked = {"name": "get_console", "instance": made.key, "arguments": {"kind": "webmks"}}
    shown = door.call("read", asked)["result"]["value"]
    assert {name: shown[name] for name in console} == console


def test_a_defect_behind_the_door_is_answered_and_logged(world, caplog):
    world.manager.operating.counts = lambda: 1 // 0
    reply = ManagerDoor(world.manager).call("counts", {})
    assert reply["error"]["code"] == "unavailable"
    assert "ZeroDivisionError" in reply["error"]["message"]
    assert "a defect of the manager" in caplog.text
