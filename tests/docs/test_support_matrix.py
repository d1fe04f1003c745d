"""The support matrix says what the drivers declare and what the newest reports found."""

from importlib.metadata import entry_points

import msgspec
import pytest
from docs.support_matrix import PAGE, REPORTS, SMALLEST, WITHOUT_RELEASE, declared, newest_reports, render

from federation.conformance.scorecard import Case, Scorecard, Verdict
from federation.contract.capabilities import Capabilities, Capability
from federation.contract.nodes import Description


def description(*flags):
    return Description(
        driver="toy", driver_version="2.0", releases=("1.0", "1.1"), capabilities=Capabilities(flags=frozenset(flags))
    )


def report(date, *flags, version="2.0", failed=0):
    cases = [Case(id=f"case-{n}", says="", clauses=("DRV-1",)) for n in range(3)]
    for case in cases[:failed]:
        case.verdict = Verdict.FAILED
    return Scorecard(
        driver="toy",
        driver_version=version,
        tried_on="a toy hypervisor",
        date=date,
        flags=tuple(map(str, flags)),
        cases=cases,
    )


def keep(folder, *cards):
    for number, card in enumerate(cards):
        (folder / f"{number}.json").write_bytes(msgspec.json.encode(card))


def test_the_page_is_current():
    assert PAGE.read_text() == render(declared(), newest_reports(REPORTS)), "run: python tests/docs/support_matrix.py"


def test_every_driver_of_this_tree_is_in_the_matrix_or_says_why_not():
    installed = {point.name for point in entry_points(group="federation.drivers")}
    assert installed <= set(SMALLEST) | set(WITHOUT_RELEASE)


def test_without_a_report_nothing_is_claimed_beyond_the_declaration(tmp_path):
    page = render([description(Capability.PAUSE)], newest_reports(tmp_path))
    assert "| toy | 2.0 | 1.0 to 1.1 | no report yet: declared, not proven here |  |  |" in page
    assert "| `pause` | yes |" in page
    assert "| `suspend` |  |" in page


def test_the_newest_report_counts_whatever_its_file_is_called(tmp_path):
    keep(tmp_path, report("2026-11-22 10:00 UTC"), report("2026-11-21 10:00 UTC", failed=2))
    page = render([description()], newest_reports(tmp_path))
    assert "conforms: 3 passed, 0 failed, 0 skipped by capability | a toy hypervisor | 2026-11-22 10:00 UTC |" in page


def test_a_report_with_a_failure_says_so(tmp_path):
    keep(tmp_path, report("2026-11-22 10:00 UTC", failed=1))
    assert "does not conform: 2 passed, 1 failed" in render([description()], newest_reports(tmp_path))


def test_what_changed_after_the_report_is_marked(tmp_path):
    keep(tmp_path, report("2026-11-22 10:00 UTC", Capability.SUSPEND, version="1.9"))
    page = render([description(Capability.PAUSE)], newest_reports(tmp_path))
    assert "conforms (1.9): 3 passed" in page
    assert "| `pause` | yes, since the report |" in page
    assert "| `suspend` | no more |" in page


def test_a_file_that_is_no_report_is_an_error(tmp_path):
    (tmp_path / "broken.json").write_text("[]")
    with pytest.raises(msgspec.ValidationError):
        newest_reports(tmp_path)
