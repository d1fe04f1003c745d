"""The commands through a real manager's REST interface, also when the way to it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pexpect
import pytest
import yaml
from api.conftest import Installation
from cli.conftest import MACHINE, terminal

from federation.cli.contexts_file import Context
from federation.cli.problems import Problem
from federation.cli.rest_way import RestWay
from federation.contract.errors import Overloaded


def create(person, name, *options, cluster="lab"):
    return person.run("-o", "json", "instance", "create", name, "--cluster", cluster, *MACHINE, *options)


def test_a_machine_is_made_operated_and_removed(operator):
    done = create(operator, "life")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["state"] == "succeeded"
    assert "create queued" in done.stderr
    for words, state in [
        (["stop", "life", "--mode", "hard"], "stopped"),
        (["resize", "life", "--vcpus", "2", "--memory", "512MiB"], "stopped"),
        (["start", "life", "--cluster", "lab"], "running"),
    ]:
        operator.ok("instance", *words)
        assert operator.json("instance", "show", "life")["state"] == state
    assert operator.json("instance", "show", "life", "--live")["vcpus"] == 2
    assert operator.json("instance", "snapshots", "life") == []
    assert "login" in operator.ok("instance", "console-log", "life").stdout
    names = [each["name"] for each in operator.json("operation", "list", "--instance", "life")]
    assert names == ["power_on", "resize", "power_off", "create"]
    assert operator.json("operation", "list", "--limit", "1", "--state", "succeeded")[0]["name"] == "power_on"
    operator.ok("instance", "delete", "life")


def test_clusters_nodes_workers_and_tokens_are_seen_and_kept(admin):
    admin.ok("cluster", "create", "extra", "--driver", "simulated", "--partitions", "2")
    assert admin.json("cluster", "show", "extra")["partitions"] == 2
    admin.ok("cluster", "remove", "extra", "--yes")
    assert {node["cluster"] for node in admin.json("node", "list", "--refresh", "--cluster", "lab")} == {"lab"}
    node = admin.json("node", "list", "--cluster", "lab")[0]["name"]
    for state in ("--enabled", "--no-enabled"):
        admin.ok("node", "maintenance", node, "--cluster", "lab", state)
    assert [worker["id"] for worker in admin.json("worker", "list", "--cluster", "lab")] == ["lab-1"]
    made = admin.json("token", "create", "ci", "--role", "reader", "--cluster", "lab")
    assert made["created_by"] == "token a-admin"
    assert made["id"] in {token["id"] for token in admin.json("token", "list")}
    admin.ok("token", "revoke", made["id"])
    assert "manager: answers at http" in admin.run("doctor").stdout


def test_what_is_for_operators_of_the_broker_says_so(admin):
    done = admin.run("broker", "grants")
    assert (done.exit_code, "--context local or --broker URL" in done.stderr) == (3, True)


def test_tokens_are_kept_by_admins_of_all_clusters_alone(person, manager):
    for role, clusters in (("operator", None), ("admin", ["lab"])):
        person.log_in(manager.address, manager.token(role, clusters)[0])
        for words in (["list"], ["create", "more", "--role", "admin"], ["revoke", "0" * 32]):
            done = person.run("token", *words)
            assert (done.exit_code, "error forbidden: " in done.stderr) == (3, True), done.output


def test_a_refusal_shows_code_field_and_next_move(operator):
    for words, said in [
        (["instance", "show", "nobody"], ["error not_found: ", "field: instance", "next: "]),
        (["instance", "create", "a/b", "--cluster", "lab", *MACHINE], ["error invalid_request: ", "name", "next: "]),
        (["cluster", "create", "x", "--driver", "simulated"], ["error forbidden: ", "the role admin", "next: "]),
        (["operation", "show", "nothing"], ["error invalid_request: ", "field: operation"]),
        (["instance", "show", ""], ["error invalid_request: ", "field: instance"]),
    ]:
        done = operator.run(*words)
        assert done.exit_code == 3, done.output
        assert [text for text in said if text not in done.stderr] == [], done.stderr
    failed = operator.run(
        "instance", "create", "bad", "--cluster", "lab", *[w.replace("http:", "corrupt:") for w in MACHINE]
    )
    assert (failed.exit_code, "next: Correct checksum" in failed.stderr) == (1, True)
    operator.ok("instance", "delete", "bad")


def test_json_and_yaml_say_the_same_before_and_behind_the_command(operator):
    expected = operator.json("cluster", "list")
    assert json.loads(operator.ok("cluster", "list", "-o", "json").stdout) == expected
    for words in (["-o", "yaml", "cluster", "list"], ["cluster", "list", "--output", "yaml"]):
        assert [each["name"] for each in yaml.safe_load(operator.ok(*words).stdout)] == [
            each["name"] for each in expected
        ]
    assert "\x1b" not in operator.ok("cluster", "list").stdout
    assert operator.run("cluster", "list", "-o", "xml").exit_code == 2


def test_a_key_makes_one_machine_however_often_the_command_is_given(operator):
    first, second = (json.loads(create(operator, "once", "--idempotency-key", "k-1").stdout)["id"] for _ in range(2))
    assert first == second


def test_an_answer_that_is_lost_is_asked_for_again_and_makes_one_machine(person, manager, proxy):
    person.log_in(proxy.address, manager.token("operator")[0])
    proxy.swallow = 1
    done = create(person, "answer-lost", "--no-wait")
    assert done.exit_code == 0, done.output
    assert (proxy.swallow, len(person.json("operation", "list", "--instance", "answer-lost"))) == (0, 1)


def test_a_watcher_survives_a_cut_and_hears_the_outcome(person, manager, proxy):
    person.log_in(proxy.address, manager.token("operator")[0])
    queued = json.loads(create(person, "cut", "--no-wait", cluster="idle").stdout)
    way = RestWay(Context(url=proxy.address, token=manager.token("operator")[0]), 5.0)
    said, seen = [], []

    def watch():
        seen.extend(record["state"] for record in way.follow(queued, said.append))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        until(lambda: seen)
        before = proxy.connections
        proxy.cut()
        until(lambda: proxy.connections > before)
        manager.door("cancel", operation=queued["id"])
        watcher.join(20)
        assert seen == ["queued", "refused"]  # what was seen before the cut is not told again
        assert "still waiting" in said[0]
    finally:
        way.close()


def test_a_manager_that_goes_away_in_the_middle_is_waited_for_and_comes_back(person, tmp_path):
    first = Installation(tmp_path)
    port = first.address.rpartition(":")[2]
    token = first.token("operator")[0]
    person.log_in(first.address, token)
    queued = json.loads(create(person, "away", "--no-wait", cluster="idle").stdout)
    command = [sys.executable, "-m", "federation.cli", "operation", "watch", queued["id"]]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(person.home)}
    environment.pop("FEDERATION_BROKER", None)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as watching:
        assert "create queued" in watching.stderr.readline()
        first.process.kill()
        first.process.wait(20)
        assert "still waiting" in watching.stderr.readline()
        second = Installation(tmp_path, options=["--port", port, "--again"])
        try:
            second.door("cancel", operation=queued["id"])
            out, errors = watching.communicate(timeout=60)
            assert watching.returncode == 1, errors
            assert "refused" in out
        finally:
            second.end()
            for client in first.clients:
                client.close()
            first.log.close()


def test_ctrl_c_leaves_the_operation_and_says_how_to_come_back(operator):
    queued = json.loads(create(operator, "left", "--no-wait", cluster="idle").stdout)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(operator.home)}
    environment.pop("FEDERATION_BROKER", None)
    command = [sys.executable, "-m", "federation.cli", "instance", "stop", "left"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job passes on that it is ignored
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as waiting:
        assert "power_off queued" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 130, errors
    left = re.search(r"federation operation watch (\S+)", errors)[1]
    assert f"federation operation cancel {left}" in errors
    assert operator.json("operation", "show", left)["state"] == "queued"
    operator.ok("operation", "cancel", queued["id"])
    operator.ok("operation", "cancel", left)


def test_ctrl_c_before_the_manager_has_answered_says_that_the_change_may_have_been_accepted(person, manager, proxy):
    person.log_in(proxy.address, manager.token("operator")[0])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy.target = silent.getsockname()
        screen = terminal(person, "instance", "stop", "left")
        asked, _ = silent.accept()
        asked.recv(65536)
        screen.sendintr()
        screen.expect("it may have been accepted")
        screen.expect("look: federation operation list")
        screen.expect(pexpect.EOF)
        asked.close()
    screen.close()
    assert screen.exitstatus == 130


def test_an_older_manager_is_named_with_what_it_lacks(person, tmp_path):
    lacks = "/v1/token,/v1/workers/{worker}/drain,/v1/operations/{operation}/cancel"
    old = Installation(tmp_path, options=["--without", lacks])
    try:
        done = person.log_in(old.address, old.token("admin")[0])
        assert "logged in" in done.stderr
        for words, path in [
            (["worker", "drain", "lab-1"], "POST /v1/workers/{worker}/drain"),
            (
                ["operation", "cancel", "0" * 8 + "-0000-7000-8000-" + "0" * 12],
                "POST /v1/operations/{operation}/cancel",
            ),
        ]:
            done = person.run(*words)
            assert done.exit_code == 3
            assert f"(version 0.1.0) does not serve {path}" in done.stderr
            assert "next: upgrade the manager" in done.stderr
        assert "error not_found: instance" in person.run("instance", "show", "nobody").stderr
    finally:
        old.end()


def test_a_command_on_rest_loads_neither_broker_nor_store_nor_server(operator):
    program = (
        "import sys; from federation.cli.main import root; root(sys.argv[1:], standalone_mode=False);"
        "print({m.partition('.')[0] for m in sys.modules} & {'oslo_messaging', 'oslo_config', 'sqlalchemy', 'litestar', 'amqp'})"
    )
    environment = {**os.environ, "XDG_CONFIG_HOME": str(operator.home)}
    environment.pop("FEDERATION_BROKER", None)
    for words in (["instance", "list"], ["worker", "list"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "set()", words


# What only a server of another kind answers


class Scripted:
    """A real HTTP server that answers what it is told, in turn, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                scripted.asked.append((self.command, self.path, dict(self.headers)))
                status, kind, body, *headers = (
                    scripted.answers.pop(0) if scripted.answers else (500, "text/plain", "none left")
                )
                self.send_response(status)
                for name, value in [("Content-Type", kind), ("Content-Length", str(len(body.encode()))), *headers]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 (http.server's names)

            def log_message(self, *_):
                """Not on standard error."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.way = RestWay(Context(url=f"http://127.0.0.1:{self.server.server_port}", token="fed_t"), 10.0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.way.close()
        self.server.shutdown()
        self.server.server_close()


BUSY = (
    503,
    "application/problem+json",
    '{"code": "overloaded", "detail": "too much", "next_move": "wait"}',
    ("Retry-After", "0"),
)
OK = (200, "application/json", "[]")


def test_a_busy_manager_is_asked_again_with_the_same_key():
    with Scripted(BUSY, BUSY, (202, "application/json", '{"id": "x"}')) as server:
        assert server.way.ask("drain_worker", {"worker": "w"}) == {"id": "x"}
        keys = [headers["Idempotency-Key"] for _, _, headers in server.asked]
        assert (len(keys), len(set(keys))) == (3, 1)


def test_tries_are_bounded_and_the_last_answer_is_told():
    with Scripted(*[BUSY] * 20) as server:
        with pytest.raises((Problem, Overloaded), match="too much"):
            server.way.ask("clusters", {})
        assert len(server.asked) == 4


def test_two_requests_never_share_a_key():
    with Scripted(OK, OK) as server:
        for _ in range(2):
            server.way.ask("drain_worker", {"worker": "w"})
        assert len({headers["Idempotency-Key"] for _, _, headers in server.asked}) == 2


def test_a_removal_is_not_sent_twice():
    with Scripted(BUSY, (204, "application/json", "")) as server:
        with pytest.raises((Problem, Overloaded)):
            server.way.ask("remove_cluster", {"cluster": "lab"})
        assert len(server.asked) == 1


def test_a_redirect_is_not_followed_because_the_token_would_go_with_it():
    with Scripted((307, "text/html", "", ("Location", "http://127.0.0.1:1/")), OK) as server:
        with pytest.raises(Problem, match="answers 307"):
            server.way.ask("clusters", {})
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([(404, "text/html", "<h1>nothing</h1>"), (404, "text/html", "")], "not_a_manager", "404 for /openapi.json"),
        ([(200, "text/html", "<h1>hello</h1>")], "not_a_manager", "no JSON"),
        ([(502, "text/html", "bad gateway")] * 4, "unreachable", "no manager is behind it"),
        ([(500, "text/html", "boom")], "not_a_manager", "500 Internal Server Error"),
        ([(409, "application/problem+json", "{")], "not_a_manager", "409"),
        ([(418, "application/problem+json", '{"code": "teapot", "detail": "short", "next_move": "pour"}')], "teapot", "short"),
    ],
)  # fmt: skip
def test_what_is_no_manager_or_a_newer_one_is_told_clearly(answers, code, said):
    with Scripted(*answers) as server:
        with pytest.raises(Problem) as raised:
            server.way.ask("clusters", {})
        assert (raised.value.code, said in raised.value.message) == (code, True), raised.value.message


def test_the_token_is_in_no_message(proxy):
    way = RestWay(Context(url=proxy.address, token="fed_secret"), 1.0)
    proxy.end()
    with pytest.raises(Problem) as raised:
        way.ask("clusters", {})
    assert "fed_secret" not in f"{raised.value.message} {raised.value.next_move} {raised.value.__cause__!r}"
    way.close()


def until(look, seconds=30):
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)
