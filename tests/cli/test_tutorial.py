"""The tutorial of the first machine, gone through as it stands: every block that is marked runs, in the page's order.

What differs from the reader's machine is named here and nowhere else: the broker, the port, and a simulated hypervisor with
its image in the place of libvirt's.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.conftest import CHECKSUM

PAGE = Path(__file__).parents[2] / "docs/tutorial/first-machine.md"
_BLOCK = re.compile(r"<!-- (run|starts|file):? ?(.*?) ?-->\n```(?:toml)?\n(.*?)```", re.DOTALL)


class Reader:
    """Types what the page says, in terminals that live in one folder."""

    def __init__(self, folder, broker):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = str(probe.getsockname()[1])
        self.folder = folder
        self.instead = {
            "federation://user:password@localhost:5672/": broker,
            "8780": self.port,
            "--driver libvirt": "--driver simulated",
            "file:///srv/images/debian.qcow2": "http://images/debian.qcow2",
            "sha256:…": CHECKSUM,
        }
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_")},
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "FEDERATION_MANAGER_STORE": f"sqlite:///{folder}/manager.sqlite",
        }
        self.shown = []
        self.started = []

    def type(self, text):
        """Run the lines in the terminal that goes on from block to block."""
        script = f"set -e\n{self._restored()}\n{self._said(text)}\nexport -p > {self.folder}/terminal\n"
        done = subprocess.run(
            ["bash", "--norc", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        self.shown.append(done.stdout + done.stderr)

    def start(self, text, sign):
        """Run the lines in a terminal of their own until they say this."""
        log = self.folder / f"log-{len(self.started)}"
        script = f"{self._restored()}\n{self._said(text).strip()}"
        head, _, last = script.rpartition("\n")
        with log.open("w") as out:
            process = subprocess.Popen(
                ["bash", "--norc", "-c", f"{head}\nexec {last}"], cwd=self.folder, env=self.environment, stdout=out,
                stderr=out,
            )  # fmt: skip
        self.started.append(process)
        deadline = time.monotonic() + 90
        while sign not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def write(self, place, text):
        assert place == "libvirt.toml"
        assert "qemu:///system" in text
        (self.folder / place).write_text(f'[driver]\nstate_directory = "{self.folder}"\n')

    def _said(self, text):
        for page, mine in self.instead.items():
            text = text.replace(page, mine)
        return text

    def _restored(self):
        return f"[ ! -f {self.folder}/terminal ] || . {self.folder}/terminal"

    def end(self):
        for process in reversed(self.started):
            process.send_signal(signal.SIGKILL)
            process.wait(10)


@pytest.fixture
def reader(rabbitmq, tmp_path):
    url = rabbitmq.add_vhost(f"tutorial-{tmp_path.name}").replace("amqp://", "federation://", 1)
    made = Reader(tmp_path, url)
    yield made
    made.end()


@pytest.mark.rabbitmq
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_the_tutorial_work_as_they_stand(reader):
    blocks = _BLOCK.findall(PAGE.read_text())
    assert [what for what, _, _ in blocks].count("starts") == 3
    for what, argument, text in blocks:
        if what == "run":
            reader.type(text)
        elif what == "starts":
            reader.start(text, argument)
        else:
            reader.write(argument, text)
    said = "".join(reader.shown)
    assert "logged in to http://127.0.0.1:" in said
    assert re.search(r"name +create\nstate +succeeded", said)
    assert "no instances" in reader.shown[-1]
    assert "FAIL" not in said
