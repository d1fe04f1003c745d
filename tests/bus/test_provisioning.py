"""Broker users are made with exactly what they need; a password is told to nobody."""

import base64
import hashlib
import http.server
import json
import re
import shlex
import threading

import pytest

from federation.bootstrap.access import manager_login, removal, worker_login
from federation.bus.errors import AddressError, BrokerRefused, BusUnavailable
from federation.bus.management import read_management_url
from federation.bus.provisioning import password_hash

URL = "federation://admin:hidden@h1:5672,h2:5673/a%2Fb?heartbeat=5"


def patterns(login):
    (step,) = [step for step in login.steps if step.path.startswith("permissions/")]
    return step.body


def may(expression, name):
    return re.search(expression, name) is not None


@pytest.mark.parametrize(
    ("right", "name", "allowed"),
    [
        ("configure", "federation.lab.worker.w1.answers", True),
        ("configure", "federation.lab.worker.w1:0a1b:replies", True),
        ("configure", "federation.lab.worker.w1", False),
        ("configure", "federation.lab.worker.w1x:replies", False),
        ("configure", "federation.lab.worker.w11.answers", False),
        ("configure", "federationxlab.worker.w1.answers", False),
        ("read", "federation.lab.e1.p31", True),
        ("read", "federation.lab.e1.p31.more", False),
        ("read", "federation.lab2.e1.p0", False),
        ("read", "federation.xlab.e1.p0", False),
        ("read", "federation.answers:lab", True),
        ("read", "federation.answers:lab-2", False),
        ("write", "federation.lab.e1.p31", False),
        ("write", "federation.commands", False),
        ("write", "federation.results", True),
        ("write", "federation.results.0", False),
        ("write", "federation.rpc:federation.admission", True),
        ("write", "federation.rpc:federation.manager", False),
        ("write", "", False),
        ("write", "amq.default", False),
    ],
)
def test_a_worker_may_touch_its_own_and_nothing_that_only_looks_alike(right, name, allowed):
    assert may(patterns(worker_login(URL, "lab", "w1"))[right], name) is allowed


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("federation.commands", True),
        ("federation.results.31", True),
        ("federation.lab.e2.p3", True),
        ("federation.answers:lab", True),
        ("federation.managers:m1:0a:replies", True),
        ("federation.managers:m2:0a:replies", False),
        ("federation.lab.worker.w1.answers", False),
        ("amq.default", False),
    ],
)
def test_a_manager_may_touch_what_managers_share_and_its_own(name, allowed):
    for expression in patterns(manager_login(URL, "m1")).values():
        assert may(expression, name) is allowed


@pytest.mark.parametrize("cluster", ["lab", "l.b", "lab|other", "(", ".*"])
def test_no_name_can_widen_an_expression(cluster):
    try:
        login = worker_login(URL, cluster, "w1")
    except ValueError:
        return
    assert not may(patterns(login)["read"], "federation.other.e1.p0")
    assert not may(patterns(login)["read"], "federation.lxb.e1.p0")


def test_the_new_url_has_the_same_hosts_and_options_and_another_login():
    login = worker_login(URL, "lab", "w1")
    before, _, password = re.fullmatch(r"(federation://)(worker\.lab\.w1):(\S{43})@.*", login.url).groups()
    assert login.url == f"{before}worker.lab.w1:{password}@h1:5672,h2:5673/a%2Fb?heartbeat=5"
    assert worker_login(URL, "lab", "w1").url != login.url
    told = repr(login) + "".join(step.command for step in login.steps)
    assert password not in told
    assert "hidden" not in told


def test_the_hash_is_what_the_broker_computes():
    raw = base64.b64decode(password_hash("secret"))
    assert raw[4:] == hashlib.sha256(raw[:4] + b"secret").digest()
    assert password_hash("secret") != password_hash("secret")


def test_every_step_says_the_same_to_the_api_and_to_rabbitmqctl():
    for step in worker_login(URL, "lab", "w1").steps:
        words = shlex.split(step.command)
        for value in (step.body or {}).values():
            known = {str(value), json.dumps({"max-connections": value})}
            assert known & set(words) or value in {"", "rabbit_password_hashing_sha256"}, (value, words)
    assert [shlex.split(step.command)[1] for step in removal("u")] == ["close_all_user_connections", "delete_user"]


class Api:
    """A management API that answers with the statuses of a list, and then with 204."""

    def __init__(self, *statuses):
        self.asked = []
        left = list(statuses)
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self):
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "null")
                asked.append((self.command, self.path, body))
                self.send_response(left.pop(0) if left else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_DELETE = do_PUT  # noqa: N815 (http.server's name)

            def log_message(self, *_):
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.client = read_management_url(f"http://me:hidden@127.0.0.1:{self.server.server_port}/")


@pytest.fixture
def serve():
    made = []

    def make(*statuses):
        made.append(Api(*statuses))
        return made[-1]

    yield make
    for api in made:
        api.server.shutdown()
        api.server.server_close()


def test_what_failed_at_the_broker_is_tried_again_and_what_was_removed_already_is_gone(serve):
    api = serve(503, 204, 404)
    api.client.carry_out(removal("a/b"))
    assert [(method, path) for method, path, _ in api.asked] == [
        ("DELETE", "/api/connections/username/a%2Fb"),
        ("DELETE", "/api/connections/username/a%2Fb"),
        ("DELETE", "/api/users/a%2Fb"),
    ]


def test_a_refusal_ends_it_with_its_reason_and_without_the_password(serve):
    api = serve(401)
    with pytest.raises(BrokerRefused, match="401") as refused:
        api.client.carry_out(worker_login(URL, "lab", "w1").steps)
    assert len(api.asked) == 1
    assert "hidden" not in str(refused.value) + repr(api.client)


def test_an_api_that_stays_away_is_unavailable(serve):
    api = serve(500, 500, 500, 500, 500)
    with pytest.raises(BusUnavailable, match="status 500"):
        api.client.carry_out(removal("u"))
    assert len(api.asked) == 4


@pytest.mark.parametrize("url", ["ftp://a:hidden@h", "http://h:15672", "http://a:hidden@h:port", "h:15672", ""])
def test_a_management_url_that_cannot_be_meant_is_refused_without_its_password(url):
    with pytest.raises(AddressError) as refused:
        read_management_url(url)
    assert "hidden" not in str(refused.value)
