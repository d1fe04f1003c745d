"""The command line in this process, on a real manager in another."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sys
import threading

import pexpect
import pytest
from api.conftest import Installation
from click.testing import CliRunner
from parts.certificates import make_certificates

from federation.cli.main import root

CHECKSUM = "sha256:" + "0" * 64
MACHINE = ["--vcpus", "1", "--memory", "256MiB", "--image", "http://images/guest", "--checksum", CHECKSUM]


class Person:
    """Somebody with a home of their own who types commands."""

    def __init__(self, home):
        self.home = home
        self.file = home / "federation" / "contexts.json"
        self.environment = {"XDG_CONFIG_HOME": str(home), "FEDERATION_BROKER": None, "FEDERATION_CONTEXT": None}

    def run(self, *words, said=None, **environment):
        """Type a command; answers the finished run."""
        return CliRunner().invoke(
            root, words, input=said, env={**self.environment, **environment}, prog_name="federation"
        )

    def ok(self, *words, **more):
        done = self.run(*words, **more)
        assert done.exit_code == 0, done.output
        return done

    def json(self, *words):
        return json.loads(self.ok("--output", "json", *words).stdout)

    def log_in(self, url, token, *options):
        return self.ok("login", url, *options, said=token + "\n")


def terminal(person, *words, rows=40):
    """The command on a terminal of its own, driven as by a keyboard."""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(person.home), "TERM": "xterm-256color"}
    for name in ("COLUMNS", "FEDERATION_BROKER", "LINES", "NO_COLOR"):  # side by side, pytest sets a size
        environment.pop(name, None)
    arguments = ["-m", "federation.cli", *words]
    return pexpect.spawn(
        sys.executable, arguments, env=environment, timeout=120, dimensions=(rows, 160), encoding="utf-8"
    )


class Proxy:
    """Passes TCP connections on, and cuts them when told."""

    def __init__(self, address):
        host, port = re.fullmatch(r"https?://(.+):(\d+)", address).groups()
        self.target = (host, int(port))
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.open = []
        self.connections = 0
        self.swallow = 0
        """So many of the next connections lose their answers: what they ask arrives."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listening.accept()
                far = socket.create_connection(self.target, 5)
            except OSError:
                return
            self.connections += 1
            loses = self.swallow > 0
            self.swallow -= loses
            self.open += [near, far]
            threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, loses), daemon=True).start()

    @staticmethod
    def _pass(source, sink, loses):
        try:
            while data := source.recv(65536):
                if loses:
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                end.close()

    def cut(self):
        ends, self.open = self.open, []
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                end.close()

    def end(self):
        with contextlib.suppress(OSError):  # it may have been ended before
            self.listening.shutdown(socket.SHUT_RDWR)  # closing alone lets the thread that waits accept one more
        self.listening.close()
        self.cut()


@pytest.fixture(scope="session")
def manager(tmp_path_factory):
    made = Installation(tmp_path_factory.mktemp("manager"))
    yield made
    made.end()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def person(tmp_path):
    return Person(tmp_path / "home")


@pytest.fixture
def operator(person, manager):
    """A person who is logged in as an operator."""
    person.log_in(manager.address, manager.token("operator")[0], "--name", "lab")
    return person


@pytest.fixture
def admin(person, manager):
    person.log_in(manager.address, manager.token("admin")[0], "--name", "lab")
    return person


@pytest.fixture
def proxy(manager):
    made = Proxy(manager.address)
    yield made
    made.end()
