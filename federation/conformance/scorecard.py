"""The report of a run: one document, from which JUnit, JSON, the readable page and the badge are made."""

from __future__ import annotations

import datetime as dt
import enum
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from federation.conformance.clauses import known_clauses
from federation.contract.release import CURRENT


class Verdict(enum.StrEnum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Case(msgspec.Struct, kw_only=True):
    """One case; ``seconds`` with set-up and removal; ``capability`` is what it was skipped for."""

    id: str
    says: str
    clauses: tuple[str, ...]
    verdict: Verdict = Verdict.PASSED
    seconds: float = 0.0
    capability: str = ""
    message: str = ""

    @property
    def group(self) -> str:
        """What it is about: its file's name."""
        return self.id.partition("::")[0].rpartition("/")[2].removeprefix("test_").removesuffix(".py").replace("_", " ")


class Scorecard(msgspec.Struct, kw_only=True):
    """A whole run.

    ``release`` is the contract release of the kit, ``serves`` what the driver says that it serves, ``tried_on`` what the
    target says that it is.
    """

    driver: str = ""
    driver_version: str = ""
    serves: str = ""
    release: str = str(CURRENT)
    tried_on: str = ""
    date: str = ""
    seconds: float = 0.0
    flags: tuple[str, ...] = ()
    cases: list[Case] = []

    def count(self, verdict: Verdict) -> int:
        """How many cases ended so."""
        return sum(case.verdict is verdict for case in self.cases)

    @property
    def conforms(self) -> bool:
        """Whether something passed and nothing failed."""
        return self.count(Verdict.FAILED) == 0 and self.count(Verdict.PASSED) > 0

    def by_clause(self) -> dict[str, list[Case]]:
        """The cases of every clause of the contract, also of those that have none."""
        table: dict[str, list[Case]] = {identifier: [] for identifier in known_clauses()}
        for case in self.cases:
            for clause in case.clauses:
                table.setdefault(clause, []).append(case)
        return table

    def skipped_for(self) -> dict[str, int]:
        """How many cases were skipped for each capability."""
        table: dict[str, int] = defaultdict(int)
        for case in self.cases:
            if case.verdict is Verdict.SKIPPED:
                table[case.capability] += 1
        return dict(sorted(table.items()))


class Recorder:
    """Collects pytest's reports and writes them as files in the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cases: dict[str, Case] = {}
        self._drivers: set[str] = set()
        self.card = Scorecard()
        self._began = dt.datetime.now(dt.UTC)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one case."""
        properties = {str(name): str(value) for name, value in report.user_properties}
        if "clauses" not in properties:
            return
        case = self._cases.setdefault(
            report.nodeid,
            Case(id=_short(report.nodeid), says=properties["says"], clauses=tuple(properties["clauses"].split(","))),
        )
        case.seconds += report.duration
        if "driver" in properties:
            self._describe(properties)
        if report.failed:
            case.verdict = Verdict.FAILED
            case.message = report.longreprtext
        elif report.skipped and case.verdict is not Verdict.FAILED:
            case.verdict = Verdict.SKIPPED
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            case.capability = reason.removeprefix("Skipped: ").removeprefix("capability ")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write everything; nothing, and the run fails, when several drivers were tried: a report is of one."""
        from federation.conformance.scorecard_files import write_all  # noqa: PLC0415 (it imports this module)

        if len(self._drivers) > 1:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            return
        ended = dt.datetime.now(dt.UTC)
        self.card.date = ended.strftime("%Y-%m-%d %H:%M UTC")
        self.card.seconds = (ended - self._began).total_seconds()
        self.card.cases = sorted(self._cases.values(), key=lambda case: case.id)
        write_all(self.card, self._folder)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say in words what the files hold."""
        card = self.card
        terminalreporter.section("conformance")
        if len(self._drivers) > 1:
            terminalreporter.line(
                f"no report: it is of one driver, and {' and '.join(sorted(self._drivers))} were tried"
            )
            return
        terminalreporter.line(
            f"{card.driver} {card.driver_version}, contract {card.release}: {card.count(Verdict.PASSED)} passed, "
            f"{card.count(Verdict.FAILED)} failed, {card.count(Verdict.SKIPPED)} skipped by capability, {card.seconds:.0f} s"
        )
        for capability, times in card.skipped_for().items():
            terminalreporter.line(f"  not declared: {capability} ({times})")
        terminalreporter.line(f"scorecard: {self._folder / 'scorecard.html'}")

    def _describe(self, properties: dict[str, str]) -> None:
        self._drivers.add(properties["driver"])
        self.card.driver = properties["driver"]
        self.card.driver_version = properties["driver_version"]
        self.card.serves = properties["releases"]
        self.card.tried_on = properties["tried_on"]
        self.card.flags = tuple(filter(None, properties["flags"].split(",")))


def uncovered(clauses: Iterable[str]) -> list[str]:
    """MUST clauses of the contract that are not among these."""
    cited = set(clauses)
    return [clause.id for clause in known_clauses().values() if clause.must and clause.id not in cited]


def _short(nodeid: str) -> str:
    path, _, rest = nodeid.partition("::")
    return f"{Path(path).name}::{rest}"
