"""The tutorial for authors of drivers, gone through as it stands: every block that is marked runs, in the page's order.

What differs from the reader's machine is named here and nowhere else: packages come from this tree instead of the package
index, and the toy hypervisor answers on a free port.
"""

import re
import threading
from pathlib import Path

import pytest
from acceptance.conftest import make_estate  # noqa: F401 (a fixture)
from authoring.home import Home

from federation.testing.toy_hypervisor import ToyServer

PAGE = Path(__file__).parents[2] / "docs/tutorial/write-a-driver.md"
PROJECT = "federation-driver-toy"
FROM_THE_INDEX = {
    "python3 -m venv .venv",
    ".venv/bin/pip install 'driver-federation[conformance]'",
    ".venv/bin/pip install -e federation-driver-toy ruff mypy",
}
_BLOCK = re.compile(
    r"<!-- (run|fails|file): ?(.*?) ?-->\n```(?:python)?\n(.*?)```|<!-- (run) -->\n```\n(.*?)```", re.DOTALL
)


def blocks():
    """(what, argument, text) of every marked block."""
    for what, argument, text, plain, plain_text in _BLOCK.findall(PAGE.read_text()):
        yield (what or plain), argument, (text or plain_text)


class Reader:
    """Types what the page says, in one shell's folder."""

    def __init__(self, home, port):
        self.home = home
        self.port = str(port)
        self.folder = "."

    def type(self, text):
        """Run the lines; returns the last status and all that was said."""
        said, status = "", 0
        for line in text.strip().splitlines():
            if line in FROM_THE_INDEX:
                if "-e " in line:
                    self.home.install(f"./{PROJECT}", "--editable")
            elif line.startswith("cd "):
                self.folder = line.removeprefix("cd ")
            else:
                done = self.home.try_(["bash", "-c", line.replace("8901", self.port)], self.folder)
                said, status = said + done.stdout, done.returncode
                self._move()
        return status, said

    def write(self, place, text):
        (self.home.folder / self.folder / place).write_text(text)

    def _move(self):
        config = self.home.folder / PROJECT / "toy.toml"
        if config.exists():
            config.write_text(config.read_text().replace(":8901", f":{self.port}"))


@pytest.fixture(scope="module")
def toy():
    server = ToyServer()
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.close()
    thread.join(10)


@pytest.fixture(scope="module")
def reader(tmp_path_factory, toy):
    return Reader(Home.make(tmp_path_factory.mktemp("reader")), toy.port)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.rabbitmq
def test_the_tutorial_leads_to_a_driver_that_conforms_and_drives_a_machine(reader, make_estate):  # noqa: F811
    said = []
    for what, argument, text in blocks():
        if what == "file":
            reader.write(argument, text)
            continue
        status, told = reader.type(text)
        said.append(told)
        if what == "fails":
            assert status != 0, f"{text}\n{told}"
            assert argument in told
        else:
            assert status == 0, f"{text}\n{told}"
    (summary,) = re.findall(r"toy 0\.1\.0, contract [\d.]+: (\d+) passed, 0 failed", "".join(said))
    assert int(summary) > 150
    drive_a_machine(reader, make_estate())


def drive_a_machine(reader, estate):
    """Part 6, with the estate's broker and manager."""
    estate.start_manager()
    estate.ask("create_cluster", cluster="toys", driver="toy")
    estate.command = lambda *arguments: [str(reader.home.python), "-m", "federation.cli", *arguments]
    config = str(reader.home.folder / PROJECT / "toy.toml")
    worker = estate.spawn("toy", "worker", "--driver", "toy", "--cluster", "toys", "--driver-config", config)
    estate.until(lambda: len(estate.ask("nodes", cluster="toys")) == 2, 60, worker)
    (create,) = re.findall(r"^\.venv/bin/federation (instance create .*)$", PAGE.read_text(), re.MULTILINE)
    done = estate.run(*create.split())
    assert done.returncode == 0, done.stderr
    (machine,) = estate.json("instance", "list")
    assert (machine["name"], machine["cluster"]) == ("web-1", "toys")


def test_the_page_has_what_the_reader_types():
    kinds = [what for what, _, _ in blocks()]
    assert kinds.count("run") >= 6
    assert kinds.count("fails") == 2
    assert kinds.count("file") == 1
    assert [line for line in FROM_THE_INDEX if line not in PAGE.read_text()] == []
