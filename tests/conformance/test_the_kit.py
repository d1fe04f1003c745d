"""What the kit itself promises: clauses, scenarios, reports, exit status, and skips that say why."""

import ast
import json
import re
import subprocess
import sys
import types
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from federation.conformance.clauses import FILE as CLAUSES
from federation.conformance.clauses import as_file, known_clauses, read_page
from federation.conformance.mistakes import mistakes_of
from federation.conformance.observing import comparable
from federation.conformance.scenarios import SCENARIOS
from federation.conformance.scorecard import Case, Recorder, Scorecard, Verdict, uncovered
from federation.conformance.scorecard_files import badge, junit, page
from federation.conformance.source_rules import sources_of
from federation.conformance.target import load_target
from federation.contract.errors import InvalidRequest
from federation.contract.operations import DECLARED, Lane, Ordering, on_lane
from federation.contract.validation import parse_request

ROOT = Path(__file__).parents[2]
CASES = ROOT / "federation/conformance/cases"
ONE_OF_THEIR_OWN = {"adopt", "set_admin_password"}


def cited():
    """Every case with the clauses of its marks, read from the source."""
    found = {}
    for path in CASES.glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = [call for call in node.decorator_list if isinstance(call, ast.Call)]
                clauses = [m for m in marks if isinstance(m.func, ast.Attribute) and m.func.attr == "clause"]
                found[node.name] = {argument.value for mark in clauses for argument in mark.args}
    return found


def test_the_clauses_are_those_of_the_contract_s_page():
    text = (ROOT / "docs/contract.md").read_text()
    assert CLAUSES.read_text() == as_file(read_page(text)), (
        "run: python -m federation.conformance.clauses docs/contract.md"
    )


def test_two_clauses_with_one_id_are_refused():
    with pytest.raises(ValueError, match="ABC-1"):
        read_page("**[ABC-1]** One MUST.\n\n**[ABC-1]** Two MUST NOT.\n")


def test_every_case_cites_clauses_that_exist():
    cases = cited()
    assert len(cases) > 50
    assert [name for name, clauses in cases.items() if not clauses] == []
    assert {clause for clauses in cases.values() for clause in clauses} <= set(known_clauses())


def test_every_must_clause_has_a_case():
    covered = {clause for clauses in cited().values() for clause in clauses}
    assert uncovered(covered) == []
    assert uncovered(covered - {"CHG-3"}) == ["CHG-3"]


def test_every_ordered_operation_of_an_instance_has_a_scenario():
    declared = {o.name for o in on_lane(Lane.ORDERED) if o.ordering is Ordering.INSTANCE}
    assert declared - {scenario.name for scenario in SCENARIOS} == ONE_OF_THEIR_OWN
    assert len({scenario.id for scenario in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.parametrize("operation", DECLARED, ids=lambda o: o.name)
def test_every_mistake_is_one(operation):
    mistakes = list(mistakes_of(operation))
    assert mistakes
    for told, arguments in mistakes:
        with pytest.raises(InvalidRequest) as refused:
            parse_request(operation, arguments)
        assert refused.value.message, told


def test_two_instances_that_went_the_same_way_compare_equal():
    one = {
        "id": "aaaa-1",
        "name": "n1",
        "mac": "52:54:00:00:00:01",
        "created_at": "2026-01-01",
        "disks": ["aaaa1-root"],
    }
    other = {
        "id": "bbbb-2",
        "name": "n2",
        "mac": "52:54:00:00:00:02",
        "created_at": "2026-01-02",
        "disks": ["bbbb2-root"],
    }
    same = comparable(one, ("aaaa-1", "<i>"), ("n1", "<n>"))
    assert same == comparable(other, ("bbbb-2", "<i>"), ("n2", "<n>"))
    assert same != comparable(other | {"disks": []}, ("bbbb-2", "<i>"), ("n2", "<n>"))


# Reports


def a_card():
    cases = [
        Case(id="test_operations.py::a", says="It works.", clauses=("CON-1",), seconds=0.5),
        Case(
            id="test_operations.py::b",
            says="<b>",
            clauses=("CHG-1",),
            verdict=Verdict.FAILED,
            message="E  1 < 2 \x1b[31m",
        ),
        Case(id="test_queries.py::c", says="It.", clauses=("QRY-1",), verdict=Verdict.SKIPPED, capability="pause"),
    ]
    return Scorecard(driver="toy", driver_version="1.2", serves="1.0-1.0", date="2026-01-01", seconds=3.0, cases=cases)


def test_the_page_names_driver_cases_clauses_and_what_was_skipped():
    text = page(a_card())
    for words in (
        "toy 1.2",
        "does not conform",
        "1 passed, 1 failed, 1 skipped",
        "pause (1)",
        "CON-1",
        "&lt;b&gt;",
        "1 &lt; 2",
    ):
        assert words in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "<script" not in text


def test_junit_counts_and_can_be_parsed():
    suite = ET.fromstring(junit(a_card())).find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert {p.get("value") for p in suite.iter("property")} == {"CON-1", "CHG-1", "QRY-1"}


def test_the_badge_says_what_failed_or_how_much_passed():
    card = a_card()
    assert "1 failed" in badge(card)
    card.cases = card.cases[:1]
    assert "1 passed" in badge(card)
    assert card.conforms
    card.cases = []
    assert not card.conforms
    assert "nothing ran" in badge(card)


# The command


def run_kit(config, *arguments, driver="simulated"):
    command = [
        sys.executable,
        "-m",
        "federation.cli",
        "conformance",
        "run",
        "--driver",
        driver,
        "--config",
        str(config),
    ]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_a_driver_that_conforms_ends_with_status_0_and_a_scorecard(config_file, tmp_path):
    done = run_kit(config_file, "-k", "pause and says", "--report", str(tmp_path), "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"scorecard.json", "scorecard.html", "junit.xml", "badge.svg"}
    card = json.loads((tmp_path / "scorecard.json").read_text())
    assert card["driver"] == "simulated"
    assert {case["verdict"] for case in card["cases"]} == {"passed"}
    assert "skipped by capability" in done.stdout


def test_a_driver_that_fails_a_case_ends_with_status_1_also_in_two_processes(config_file, tmp_path):
    broken = "federation.conformance.broken.state:CountsInKibibytes"
    done = run_kit(
        config_file, "-k", "does_what_it_says and create", "--report", str(tmp_path), "--jobs", "2", driver=broken
    )
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [c for c in json.loads((tmp_path / "scorecard.json").read_text())["cases"] if c["verdict"] == "failed"]
    assert "CAP-1" in failed[0]["clauses"]
    assert "262144" in failed[0]["message"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('[driver]\nstate_directory = "x"\n', "[conformance] is missing"),
        ('[driver]\nstate_dir = "x"\n[conformance]\nboots = [{kind = "volume", volume = "v"}]\n', "state_dir"),
        ("[conformance]\nboots = []\n", "boots"),
    ],
)
def test_a_target_that_cannot_be_used_ends_with_status_2_and_says_why(tmp_path, wrong, told):
    config = tmp_path / "wrong.toml"
    config.write_text(wrong)
    done = run_kit(config)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_driver_that_is_not_there_ends_with_status_2(config_file):
    done = run_kit(config_file, driver="no-such-driver")
    assert done.returncode == 2
    assert "simulated" in done.stderr


def test_a_case_that_is_skipped_for_another_reason_fails(config_file, tmp_path):
    case = tmp_path / "test_lazy.py"
    case.write_text(
        "import pytest\n@pytest.mark.clause('CON-1')\ndef test_lazy():\n    pytest.skip('no time')\n"
        "@pytest.mark.clause('CON-1')\ndef test_honest():\n    pytest.skip('capability pause')\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(case),
        "-c",
        "/dev/null",
        f"--rootdir={tmp_path}",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "1 failed, 1 skipped" in done.stdout, done.stdout


def test_a_capability_that_is_not_declared_is_counted_as_skipped(config_file, tmp_path):
    config = tmp_path / "less.toml"
    config.write_text(config_file.read_text().replace("[driver]", '[driver]\nwithout = ["pause"]'))
    done = run_kit(config, "-k", "says and (pause or stopped)", "--report", str(tmp_path / "report"), "--jobs", "1")
    card = json.loads((tmp_path / "report/scorecard.json").read_text())
    assert done.returncode == 0, done.stdout
    assert {case["capability"] for case in card["cases"] if case["verdict"] == "skipped"} == {"pause"}
    assert "not declared: pause" in done.stdout


def test_a_driver_s_shipped_doubles_may_hold_locks_unless_the_driver_uses_them(tmp_path, monkeypatch):
    package = tmp_path / "driver_with_doubles"
    (package / "testing").mkdir(parents=True)
    for file in (package / "__init__.py", package / "testing" / "__init__.py"):
        file.write_text("")
    (package / "testing" / "simulator.py").write_text("import threading\nlock = threading.Lock()\n")
    driver = package / "driver.py"
    driver.write_text("import json\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "simulator.py" not in {path.name for path in sources_of("driver_with_doubles.driver")}
    driver.write_text("from driver_with_doubles.testing import simulator\n")
    assert "simulator.py" in {path.name for path in sources_of("driver_with_doubles.driver")}


# Processes side by side, and reports


def test_processes_side_by_side_have_names_of_their_own(config_file, tmp_path, monkeypatch):
    config = tmp_path / "shared.toml"
    config.write_text(config_file.read_text().replace('networks = ["lan"]', 'networks = ["lan-{process}"]'))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    assert load_target("simulated", config, tmp_path).conformance.networks == ("lan-main",)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw3")
    assert load_target("simulated", config, tmp_path).conformance.networks == ("lan-gw3",)


def reported(driver):
    properties = {
        "clauses": "DRV-1", "says": "It does.", "driver": driver, "driver_version": "1", "releases": "1.0-1.1",
        "flags": "", "tried_on": f"hosts of {driver}",
    }  # fmt: skip
    return pytest.TestReport(
        f"test_x.py::{driver}", ("test_x.py", 1, driver), {}, "passed", None, "call", user_properties=list(properties.items())
    )  # fmt: skip


def ended(recorder):
    session = types.SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    recorder.pytest_sessionfinish(session)
    return session.exitstatus


def test_a_report_says_what_the_driver_was_tried_on(tmp_path):
    recorder = Recorder(tmp_path / "report")
    recorder.pytest_runtest_logreport(reported("one"))
    assert ended(recorder) == pytest.ExitCode.OK
    assert json.loads((tmp_path / "report/scorecard.json").read_text())["tried_on"] == "hosts of one"
    assert "Tried on hosts of one." in (tmp_path / "report/scorecard.html").read_text()


def test_a_run_of_several_drivers_leaves_no_report_and_fails(tmp_path):
    recorder = Recorder(tmp_path / "report")
    for driver in ("one", "another"):
        recorder.pytest_runtest_logreport(reported(driver))
    assert ended(recorder) == pytest.ExitCode.USAGE_ERROR
    assert not (tmp_path / "report").exists()


def test_the_cases_of_one_scenario_run_in_one_process(config_file):
    command = [
        sys.executable, "-m", "pytest", str(CASES), "-c", "/dev/null", f"--rootdir={CASES}", f"--confcutdir={CASES}", "-v", "-p", "no:cacheprovider",
        "--import-mode=importlib", "--conformance-driver=simulated", f"--conformance-config={config_file}",
        "-n2", "--dist=loadgroup", "-k", "(says or repeat or reached) and (pause-paused or unpause-running)",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    found = re.findall(r"\[(gw\d)\].* PASSED .*test_operations.*\[([a-z-]+)\]", done.stdout)
    assert len(found) == 6, done.stdout
    processes = {scenario: {gateway for gateway, one in found if one == scenario} for _, scenario in found}
    assert {scenario: len(gateways) for scenario, gateways in processes.items()} == dict.fromkeys(processes, 1)
