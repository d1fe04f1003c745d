"""``federation contract`` as its user meets it."""

import copy
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from federation.cli.main import root
from federation.contract.evolution.frozen import ReleaseFiles
from federation.contract.release import CURRENT, snapshot

NEXT = f"{CURRENT.major}.{CURRENT.minor + 1}"


def run(*words):
    return CliRunner().invoke(root, ["contract", *words])


@pytest.fixture
def files(tmp_path):
    """Release files of their own: this tree's contract, frozen."""
    made = ReleaseFiles(tmp_path)
    made.freeze()
    return made


def newer(tmp_path, **errors):
    contract = {**copy.deepcopy(snapshot()), "release": NEXT}
    contract["errors"].update(errors)
    path = tmp_path / "newer.json"
    path.write_text(json.dumps(contract))
    return contract, str(path)


def test_check_ends_with_zero_where_nothing_breaks():
    done = subprocess.run(
        [sys.executable, "-m", "federation.cli", "contract", "check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_ends_with_one_and_says_what_to_do_where_something_breaks(files):
    path = files.path(CURRENT)
    path.write_text(path.read_text().replace('"graceful"', '"gentle"'))
    done = run("check", "--releases", str(files.folder))
    assert done.exit_code == 1
    for word in ("frozen-file-edited", "request-value-removed", "types/PowerOffMode/=gentle", "Restore it"):
        assert word in done.stdout
    as_data = json.loads(run("check", "--releases", str(files.folder), "--output", "json").stdout)
    assert as_data["broken"] is True
    (removed,) = [f for f in as_data["releases"][str(CURRENT)] if f["rule"] == "request-value-removed"]
    assert (removed["direction"], removed["operations"]) == ("request", ["power_off"])


def test_diff_compares_files_and_the_tree(tmp_path):
    _, path = newer(tmp_path, asleep={"fault": "caller", "effect": "none", "next_move": "Wake it."})
    done = run("diff", "tree", path)
    assert (done.exit_code, "error-added" in done.stdout) == (0, True)
    (finding,) = json.loads(run("diff", "tree", path, "-o", "json").stdout)
    assert (finding["rule"], finding["weight"], finding["path"]) == (
        "error-added",
        "addition",
        "contract/errors/asleep",
    )
    assert "error-removed" in run("diff", path, "tree").stdout
    assert "nothing changed" in run("diff", "tree", "tree").stdout


def test_show_shows_a_release_or_one_operation():
    assert f"contract release {CURRENT}" in run("show").stdout
    whole = json.loads(run("show", str(CURRENT), "-o", "json").stdout)
    assert whole["operations"] == snapshot()["operations"]
    shown = run("show", "power_off").stdout
    for word in ("power_off revision 1", "timeout_seconds", "≤ 86400", "PowerOffMode", "power_state"):
        assert word in shown
    (facts,) = json.loads(run("show", "tree", "power_off", "-o", "json").stdout)
    assert set(facts["types"]) == {"PowerOff", "Instance"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["diff", "9.9"], 3, "known are: 1.0"),
        (["diff", "nonsense"], 3, "expected major.minor"),
        (["diff", "{tmp}/text"], 2, "cannot be read as a release file"),
        (["diff", "{tmp}/empty"], 2, "it lacks capabilities"),
        (["show", "nothing"], 3, "has no operation 'nothing'"),
        (["show", "1.0", "create", "more"], 2, "a release, an operation, or both"),
    ],
)
def test_what_cannot_be_is_said(words, code, said, tmp_path):
    (tmp_path / "text").write_text("contract")
    (tmp_path / "empty").write_text("{}")
    done = run(*(word.format(tmp=tmp_path) for word in words))
    assert done.exit_code == code
    assert said in " ".join(done.output.replace("│", " ").split())
