"""`federation driver new`: what it writes installs, is clean, starts, and says what is not written yet."""

import json
import subprocess
import sys

import pytest
from acceptance.conftest import make_estate  # noqa: F401 (a fixture)
from authoring.home import Home
from click.testing import CliRunner

from federation.cli.driver_new_package import LONGEST_NAME, CannotWrite, NewDriver
from federation.cli.main import root

NAMES = ["toy", "cloud-hypervisor-2", "a" * LONGEST_NAME, "a-" * 15 + "a"]


def write(name, folder):
    return CliRunner().invoke(root, ["driver", "new", name, "--path", str(folder)])


@pytest.mark.parametrize(
    "name", ["", "Toy", "9x", "a--b", "a-", "a_b", "a.b", "../a", "a\n", "ä", "a" * (LONGEST_NAME + 1)]
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(name, tmp_path):
    done = write(name, tmp_path / "new")
    assert done.exit_code == 1
    assert "cannot be a driver's name" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_installed_already_is_refused_by_its_provider():
    with pytest.raises(CannotWrite, match="installed already, by driver-federation"):
        NewDriver("simulated")


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    done = write("toy", tmp_path)
    assert done.exit_code == 1
    assert "is not empty" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file" in write("toy", tmp_path / "file").output
    assert "cannot be written" in write("toy", tmp_path / "file" / "below").output
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_program_is_told_the_files(tmp_path):
    done = CliRunner().invoke(root, ["-o", "json", "driver", "new", "toy", "--path", str(tmp_path / "new")])
    told = json.loads(done.output)
    found = {str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert set(told["files"]) == found


@pytest.mark.parametrize("name", NAMES)
def test_it_passes_lint_format_and_types_as_written(name, tmp_path):
    folder = tmp_path / "new"
    assert write(name, folder).exit_code == 0
    left = [path for path in folder.rglob("*") if path.is_file() and "{{" in path.read_text()]
    assert left == []
    tools = [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]]
    for tool in tools:
        done = subprocess.run([sys.executable, "-m", *tool], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An author's home with the driver `fresh` as it was written, installed from its wheel."""
    home = Home.make(tmp_path_factory.mktemp("author"))
    assert write("fresh", home.folder / "fresh").exit_code == 0
    home.install("./fresh")
    return home


def test_its_own_tests_pass_as_written(home):
    assert "passed" in home.run([str(home.python), "-m", "pytest", "-q", "-m", "not conformance"], "fresh")


ASK = """
import sys, uuid, pathlib, msgspec
from federation.contract.operations import DECLARED, Lane
from federation.protocol.envelope import Command
from federation.testing.calls import RecordedCall
from federation.contract.validation import parse_request
from federation.contract.errors import OperationError
from federation.worker.drivers import find_driver, open_driver, read_settings

driver = find_driver("fresh")
opened = open_driver(driver, read_settings(pathlib.Path("fresh.toml"), driver), "lab")
instance = str(uuid.uuid4())
boot = {"kind": "template", "template": "small"}
spec = {"name": "a", "node": "n", "flavour": {"vcpus": 1, "memory_bytes": 1 << 28}, "boot": boot}
asked = {
    "list_nodes": {}, "list_instances": {}, "get_instance": {"instance": instance}, "destroy": {"instance": instance},
    "create": {"instance": instance, "spec": spec}, "power_on": {"instance": instance}, "power_off": {"instance": instance},
    "migrate": {"instance": instance, "node": "m"}, "get_console": {"instance": instance, "kind": "vnc"},
    "capture_image": {"instance": instance, "target": {"kind": "template", "template": "t"}},
}
answers = {}
for operation in DECLARED:
    if operation.name in asked:
        try:
            getattr(opened.driver, operation.name)(RecordedCall(), parse_request(operation, asked[operation.name]))
        except OperationError as error:
            assert operation.may_raise(error.code), (operation.name, error.code)
            answers[operation.name] = f"{error.code}: {error.message}"
print(msgspec.json.encode(answers).decode())
"""


def test_what_is_not_written_says_so_by_an_error_of_the_catalogue(home):
    answers = json.loads(home.run([str(home.python), "-c", ASK], "fresh").splitlines()[-1])
    optional = {"migrate", "get_console", "capture_image"}
    assert {name for name, told in answers.items() if told.startswith("not_supported: ")} == optional
    unwritten = {name: told for name, told in answers.items() if name not in optional}
    assert len(unwritten) == 7
    for told in unwritten.values():
        assert told.startswith("hypervisor_refused: the driver fresh cannot do that: ")
        assert told.endswith(" is not written yet")


@pytest.mark.rabbitmq
def test_it_starts_under_a_worker_and_its_operations_end_with_what_is_missing(home, make_estate):  # noqa: F811
    estate = make_estate()
    estate.start_manager()
    estate.ask("create_cluster", cluster="lab", driver="fresh")
    config = home.folder / "fresh/fresh.toml"
    estate.command = lambda *arguments: [str(home.python), "-m", "federation.cli", *arguments]
    worker = estate.spawn(
        "fresh", "worker", "--driver", "fresh", "--cluster", "lab", "--id", "w1", "--driver-config", str(config)
    )
    estate.until(lambda: any(w["state"] == "admitted" for w in estate.ask("workers", cluster="lab")), 60, worker)
    estate.until(lambda: "is not written yet" in estate.log("fresh") + estate.log("manager"), 60, worker)
