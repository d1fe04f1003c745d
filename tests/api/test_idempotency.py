"""A key means one request and one effect, also where requests with it meet, crash or come again much later."""

from __future__ import annotations

import itertools
import time

import msgspec
import pytest
import sqlalchemy
from api.conftest import spec
from manager.conftest import make_world  # noqa: F401 (a fixture)

from federation.api import declared, fixed
from federation.api.handling import Handling, Received
from federation.api.problems import Refusal, rendered
from federation.contract.errors import Unavailable
from federation.manager.access import new_token
from federation.manager.door import ManagerDoor
from federation.protocol.queries import QueryReply, error_on_wire
from federation.protocol.records import Role, TokenRecord
from federation.store.tables import OPERATIONS

ROUTES = {route.name: route for route in [*declared.routes(), *fixed.routes()]}
DAY = 86400.0


class Api:
    """The REST interface without its web server; ``after`` sees what the next change at the door is answered."""

    def __init__(self, world):
        self.world = world
        self.door = ManagerDoor(world.manager)
        self.after = None
        self.handling = Handling(self.ask, world.manager.access)
        self.use_token()

    def use_token(self, clusters=None):
        self.token, identity, digest = new_token()
        record = TokenRecord(
            id=identity, name="a", digest=digest, role=Role.ADMIN, clusters=clusters, created_at=0, expires_at=0
        )
        self.world.manager.access.add(record, 100 * DAY)

    def ask(self, method, arguments):
        reply = self.door.call(method, arguments)
        if method in {"submit", "create_cluster"} and self.after is not None:
            after, self.after = self.after, None
            return after(reply)
        return reply

    def post(self, name, body, key="k", **path):
        encoded = msgspec.json.encode(body)
        headers = {
            "authorization": f"Bearer {self.token}",
            "content-type": "application/json",
            **({"idempotency-key": key} if key else {}),
        }
        where = ROUTES[name].path.format(**path)
        answer = self.handling.answer(
            ROUTES[name], Received(path=path, raw_path=where, query="", headers=headers, body=encoded)
        )
        return msgspec.json.decode(answer.body), "Idempotency-Replayed" in answer.headers

    def create(self, name, key="k"):
        return self.post("create", {"cluster": "lab", "spec": machine(name)}, key)

    def instances(self):
        return sorted(each.name for each in self.world.manager.estate.instances(None, None, 100))


def machine(name):
    return {**spec(name), "boot": {"kind": "template", "template": "debian"}}


@pytest.fixture
def api(make_world):  # noqa: F811 (the fixture)
    world = make_world()
    world.furnish()
    return Api(world)


def test_another_request_with_the_key_of_one_that_is_under_way_is_refused(api):
    met = []

    def meet(reply):
        with pytest.raises(Refusal, match="another request") as refused:
            api.create("web-2")
        met.append(refused.value.status)
        return reply

    api.after = meet
    api.create("web-1")
    assert (met, api.instances()) == ([422], ["web-1"])


def test_the_same_request_twice_at_once_makes_one_operation(api):
    met = []

    def meet(reply):
        met.append(api.create("web-1"))
        return reply

    api.after = meet
    first, _ = api.create("web-1")
    assert (met[0][0]["id"], api.instances()) == (first["id"], ["web-1"])


def test_a_request_that_meets_its_own_first_sending_is_not_told_that_it_failed(api):
    body, met = {"name": "keyed", "driver": "simulated"}, []

    def meet(reply):
        with pytest.raises(Refusal, match="under way") as refused:
            api.post("create_cluster", body)
        met.append((refused.value.status, refused.value.headers.get("Retry-After")))
        return reply

    api.after = meet
    first, _ = api.post("create_cluster", body)
    assert met == [(503, "2")]
    assert api.post("create_cluster", body) == (first, True)


def test_a_key_of_which_nobody_knows_whether_it_was_done_takes_the_same_request_only(api):
    def lost(_reply):
        return msgspec.to_builtins(QueryReply(error=error_on_wire(Unavailable("the store went away"))))

    api.after = lost
    with pytest.raises(Refusal, match="went away"):
        api.create("web-1")
    with pytest.raises(Refusal, match="another request"):
        api.create("web-2")
    again, _ = api.create("web-1")
    assert again["arguments"]["spec"]["name"] == "web-1"
    assert api.instances() == ["web-1"]
    assert api.create("web-1") == (again, True)


@pytest.mark.parametrize("key", ["k", None])
def test_a_change_of_which_nobody_knows_whether_it_was_accepted_is_not_told_to_have_done_nothing(api, key):
    api.after = lambda _: msgspec.to_builtins(QueryReply(error=error_on_wire(Unavailable("the store went away"))))
    with pytest.raises(Refusal) as refused:
        api.create("web-1", key)
    told = msgspec.json.decode(rendered(refused.value, "r-1"))
    assert (told["status"], told["code"], told["effect"]) == (503, "unavailable", "unknown")
    assert "Idempotency-Key" in told["next_move"]
    assert api.instances() == ["web-1"]


def test_what_failed_may_be_corrected_and_sent_with_its_key(api):
    with pytest.raises(Refusal, match="none-such"):
        api.post("create", {"cluster": "none-such", "spec": machine("web-1")})
    assert api.create("web-1")[0]["key"] == api.world.manager.estate.instance("web-1").id


def test_what_a_token_may_not_do_takes_no_key(api):
    api.use_token(clusters=("lab",))
    with pytest.raises(Refusal, match="not good for cluster"):
        api.post("create", {"cluster": "other", "spec": machine("web-1")})
    api.create("web-1")
    assert api.instances() == ["web-1"]


def test_a_key_that_is_used_for_something_else_after_a_day_does_that(api):
    first, _ = api.create("web-1")
    api.world.clock.wall = lambda: time.time() + 2 * DAY
    second, replayed = api.create("web-2")
    assert (second["id"] != first["id"], replayed, api.instances()) == (True, False, ["web-1", "web-2"])


def test_what_is_kept_of_a_request_does_not_tell_whether_a_guessed_password_was_in_it(api):
    machine, _ = api.create("web-1", None)
    body, kept = {"password": "hunter2", "user": "root"}, []
    for _ in range(2):
        api.use_token()
        operation, _ = api.post("set_admin_password", body, instance=machine["key"])
        with api.world.store.reading() as transaction:
            kept.append(transaction.saved_reply(api.token.split("_")[1], "k").fingerprint)
            asked = transaction._row(sqlalchemy.select(OPERATIONS).where(OPERATIONS.c.id == operation["id"]))
        assert asked.idempotency_key.endswith(kept[-1])
    assert kept[0] != kept[1]


def test_keys_of_two_methods_never_give_one_anothers_operation(api):
    keys = itertools.cycle(["same"])
    created, _ = api.create("web-1", next(keys))
    with pytest.raises(Refusal, match="another request"):
        api.post("pause", {}, next(keys), instance=created["key"])
