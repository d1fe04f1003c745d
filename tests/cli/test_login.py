"""Logging in to managers, and choosing among them."""

from __future__ import annotations

import stat
import threading
import time

import pexpect
import pytest
from api.conftest import Installation
from cli.conftest import Person, terminal

from federation import config
from federation.cli import session
from federation.cli.contexts_file import Context, ContextError, Contexts, changing, check_url, read_contexts


def test_a_login_is_checked_kept_for_its_owner_alone_and_used(person, manager):
    token = manager.token("operator", ["lab"])[0]
    done = person.log_in(manager.address, token, "--name", "lab")
    assert "operator of lab until" in done.stderr
    assert token not in done.output
    assert stat.S_IMODE(person.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(person.file.parent.stat().st_mode) == 0o700
    assert [cluster["name"] for cluster in person.json("cluster", "list")] == ["lab"]
    assert token not in person.ok("context", "list").output + person.ok("context", "show").output
    assert person.json("context", "show")["token_clusters"] == ["lab"]


def test_the_token_may_come_from_a_file(person, manager, tmp_path):
    file = tmp_path / "token"
    file.write_text(manager.token("reader")[0] + "\n")
    person.ok("login", manager.address, "--token-file", str(file))
    assert person.json("context", "show")["context"] == "127.0.0.1"


def test_on_a_terminal_the_token_is_asked_for_and_not_shown(person, manager):
    token = manager.token("reader")[0]
    screen = terminal(person, "login", manager.address, "--name", "asked")
    screen.expect_exact("Token: ")
    screen.sendline(token)
    screen.expect("logged in to .* context asked: reader of all")
    assert token not in screen.before + screen.after
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0
    assert person.json("context", "show")["context"] == "asked"


@pytest.mark.parametrize("kind", ["wrong", "expired", "revoked"])
def test_a_token_that_is_not_good_is_refused_and_not_kept(person, manager, kind):
    token, identity = manager.token("operator", seconds=0.01 if kind == "expired" else 60.0)
    if kind == "revoked":
        manager.door("revoke_token", token=identity)
    time.sleep(0.05)
    done = person.run("login", manager.address, said=(token[:-4] + "AAAA" if kind == "wrong" else token) + "\n")
    assert done.exit_code == 3
    assert "error unauthenticated: " in done.stderr
    assert "next: log in again" in done.stderr
    assert not person.file.exists()


def test_a_token_that_ends_while_it_is_used_says_how_to_go_on(person, manager):
    token, identity = manager.token("operator")
    person.log_in(manager.address, token)
    manager.door("revoke_token", token=identity)
    done = person.run("instance", "list")
    assert (done.exit_code, "next: log in again" in done.stderr) == (3, True)


def test_a_manager_with_a_certificate_is_trusted_by_its_authority_only(person, certificates, tmp_path):
    served = Installation(tmp_path, certificates["server_pem"], certificates["server_key"], verify=False)
    try:
        token = served.token("operator")[0] + "\n"
        done = person.run("login", served.address, said=token)
        assert (done.exit_code, "untrusted_certificate" in done.stderr, "--ca-file" in done.stderr) == (69, True, True)
        done = person.run("login", served.address, "--ca-file", certificates["client_pem"], said=token)
        assert (done.exit_code, "untrusted_certificate" in done.stderr) == (69, True)
        done = person.run("login", served.address, "--ca-file", certificates["ca_key"], said=token)
        assert (done.exit_code, "cannot be used" in done.stderr) == (69, True)
        assert not person.file.exists()
        person.log_in(served.address, token, "--ca-file", certificates["ca_pem"], "--name", "tls")
        assert {cluster["name"] for cluster in person.json("cluster", "list")} == {"lab", "prod", "idle"}
        clear = person.run("login", served.address.replace("https", "http"), "--name", "clear", said=token)
        assert clear.exit_code == 69, clear.output
    finally:
        served.end()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("manager:8780", "expected https://HOST:PORT"),
        ("ftp://manager", "expected https://HOST:PORT"),
        ("https://a:b@manager", "holds a login"),
        ("https://manager:x", "the manager's URL is 'https://manager:x'"),
        ("http://manager:8780", "the token would travel in clear"),
        ("https://manager?x=1", "expected https://HOST:PORT"),
    ],
)
def test_a_url_that_is_none_is_refused(person, url, said):
    done = person.run("login", url, said="fed_x\n")
    assert done.exit_code == 2
    assert said in done.stderr
    assert ":b@" not in done.output


def test_clear_text_is_allowed_on_this_machine_and_where_it_is_said():
    assert check_url("http://127.0.0.1:1/") == "http://127.0.0.1:1"
    assert check_url("http://[::1]:1") == "http://[::1]:1"
    assert check_url("http://localhost/api/") == "http://localhost/api"
    assert check_url("http://manager:8780", plain=True) == "http://manager:8780"


def test_what_is_no_token_is_never_sent(person, manager):
    for text in ("", "two words", "uml\u00e4ut"):
        done = person.run("login", manager.address, said=text + "\n")
        assert (done.exit_code, "is no token" in done.stderr) == (2, True)


def test_nobody_answers(person):
    started = time.monotonic()
    done = person.run("--timeout", "2", "login", "http://127.0.0.1:1", said="fed_x\n")
    assert (done.exit_code, "error unreachable" in done.stderr, "next: " in done.stderr) == (69, True, True)
    assert time.monotonic() - started < 10


def test_several_managers_are_told_apart(person, manager):
    person.log_in(manager.address, manager.token("operator", ["lab"])[0], "--name", "one")
    person.log_in(manager.address, manager.token("operator", ["prod"])[0], "--name", "two")

    def seen(*words, **environment):
        done = person.ok(*words, "-o", "json", "cluster", "list", **environment)
        return done.stdout.count('"name": "lab"'), done.stdout.count('"name": "prod"')

    assert seen() == (0, 1)
    assert seen("--context", "one") == (1, 0)
    assert seen(FEDERATION_CONTEXT="one") == (1, 0)
    assert seen("--context", "two", FEDERATION_CONTEXT="one") == (0, 1)
    person.ok("context", "use", "one")
    assert seen() == (1, 0)
    marked = {each["name"]: each["used"] for each in person.json("context", "list")}
    assert marked == {"one": True, "two": False, "local": False}
    person.ok("context", "remove", "one")
    assert person.json("context", "show") == {"context": "local", "decided_by": "no context is chosen"}
    unknown = person.run("--context", "one", "cluster", "list")
    assert (unknown.exit_code, "there are: two" in unknown.stderr) == (2, True)
    taken = person.run("login", "http://127.0.0.1:1", "--name", "local", said="fed_x\n")
    assert taken.exit_code == 2


def test_another_manager_does_not_take_a_name_that_is_taken(person, manager, proxy):
    person.log_in(manager.address, manager.token("operator")[0], "--name", "lab")
    done = person.run("login", proxy.address, "--name", "lab", said=manager.token("operator")[0] + "\n")
    assert done.exit_code == 2
    assert f"context 'lab' is of {manager.address}" in done.stderr


@pytest.mark.parametrize(
    ("words", "environment", "reason"),
    [
        (["--broker", "federation://u:p@h/"], {"FEDERATION_CONTEXT": "lab"}, "--broker"),
        (["--context", "local"], {}, "--context"),
        ([], {"FEDERATION_CONTEXT": "local"}, "FEDERATION_CONTEXT"),
        ([], {"FEDERATION_BROKER": "federation://u:p@h/"}, "FEDERATION_BROKER"),
        ([], {"FEDERATION_BROKER_FILE": "/nowhere"}, "FEDERATION_BROKER_FILE"),
        (["--config", "FILE"], {}, "--config"),
    ],
)
def test_the_broker_goes_before_the_current_context_where_it_is_named(operator, tmp_path, words, environment, reason):
    file = tmp_path / "federation.conf"
    file.write_text("[DEFAULT]\nbroker = federation://u:p@h/\n")
    words = [str(file) if word == "FILE" else word for word in words]
    shown = operator.ok("-o", "json", *words, "context", "show", **environment)
    assert f'"decided_by": "{reason}"' in shown.stdout
    assert '"context": "local"' in shown.stdout


def test_two_ways_at_once_are_refused(operator):
    done = operator.run("--context", "lab", "--broker", "federation://u:p@h/", "cluster", "list")
    assert (done.exit_code, "a command takes one way" in done.stderr) == (2, True)


@pytest.mark.parametrize("mode", [0o644, 0o620])
def test_a_file_of_tokens_that_others_may_use_is_refused(operator, mode):
    operator.file.chmod(mode)
    done = operator.run("cluster", "list")
    assert (done.exit_code, f"chmod 600 {operator.file}" in done.stderr) == (2, True)


def test_a_damaged_file_is_named_and_left(operator):
    operator.file.write_text("{")
    done = operator.run("login", "http://127.0.0.1:1", said="fed_x\n")
    assert operator.run("cluster", "list").exit_code == 2
    assert str(operator.file) in operator.run("cluster", "list").stderr
    assert done.exit_code in {2, 69}
    assert operator.file.read_text() == "{"


def test_logins_at_once_lose_none(tmp_path):
    path = tmp_path / "federation" / "contexts.json"

    def add(number):
        with changing(path) as held:
            more = {f"c{number}": Context(url="https://m", token="t")}
            held[0] = Contexts(current=f"c{number}", contexts={**held[0].contexts, **more})

    threads = [threading.Thread(target=add, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_contexts(path).contexts) == 20


def test_a_home_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ContextError, match=r"contexts\.json cannot be"), changing(tmp_path / "home" / "contexts.json"):
        pass


def test_a_relative_xdg_folder_is_ignored_as_its_specification_says(tmp_path):
    person = Person(tmp_path)
    done = person.ok("-o", "json", "context", "list", XDG_CONFIG_HOME="relative", HOME=str(tmp_path))
    assert '"local"' in done.stdout


def test_a_token_is_never_shown_by_mistake():
    assert "secret" not in repr(Contexts(contexts={"a": Context(url="https://m", token="secret")}))


def test_what_the_command_line_knows_without_reading_options_is_what_the_options_say():
    assert config.load(None, {}, {}).timeout == session.DEFAULT_TIMEOUT
    assert (session.DEFAULT_FILE,) == config.DEFAULT_FILES
