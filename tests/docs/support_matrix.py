"""docs/drivers/support-matrix.md, made from what the drivers declare and from dated reports of the conformance kit.

``python tests/docs/support_matrix.py`` writes it.  A report is the ``scorecard.json`` that ``federation conformance run
--report`` writes, kept as ``docs/drivers/reports/NAME-VERSION.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from federation.conformance.scorecard import Scorecard, Verdict
from federation.contract.capabilities import MEANING, Capability
from federation.contract.nodes import Description
from federation.worker.drivers import find_driver, open_driver

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/drivers/support-matrix.md"
REPORTS = ROOT / "docs/drivers/reports"
SMALLEST: dict[str, dict[str, Any]] = {
    "hyperv": {"hosts": {"node-1": {"address": "node-1.example"}}},
    "libvirt": {"hosts": {"node-1": "qemu:///system"}},
    "vmware": {"host": "vcenter.example"},
}
"""By driver: the smallest settings that it opens with; nothing is connected to for that."""
WITHOUT_RELEASE = {
    "simulated": "it drives nothing: for tests and demonstrations",
}
"""Drivers of this tree that are not in the matrix, and why."""
HEAD = """# Which driver can do what

Made from what the drivers declare, and from dated reports of the conformance kit. A driver declares a capability only when
everything that needs it works; the manager refuses, before anything is sent, what a cluster's driver does not declare.
"""


@dataclass(frozen=True)
class Row:
    """One driver; ``report`` is its newest, None until the kit has been run and its report kept."""

    described: Description
    report: Scorecard | None

    @property
    def name(self) -> str:
        return self.described.driver

    def cell(self, flag: Capability) -> str:
        """Whether a capability is declared, and whether the report is of a driver that declared it."""
        declared = flag in self.described.capabilities.flags
        if self.report is None or declared == (str(flag) in self.report.flags):
            return "yes" if declared else ""
        return "yes, since the report" if declared else "no more"

    def tried(self) -> str:
        """What the report says, in a table's cell."""
        if self.report is None:
            return "no report yet: declared, not proven here"
        counts = {verdict: self.report.count(verdict) for verdict in Verdict}
        verdict = "conforms" if self.report.conforms else "does not conform"
        older = (
            "" if self.report.driver_version == self.described.driver_version else f" ({self.report.driver_version})"
        )
        return (
            f"{verdict}{older}: {counts[Verdict.PASSED]} passed, {counts[Verdict.FAILED]} failed, "
            f"{counts[Verdict.SKIPPED]} skipped by capability"
        )


def declared() -> list[Description]:
    """What every driver of the table says of itself, by name."""
    found = []
    for name in sorted(SMALLEST):
        driver = find_driver(name)
        opened = open_driver(driver, msgspec.convert(SMALLEST[name], driver.settings, strict=True), "matrix")
        found.append(opened.description)
        opened.driver.close()
    return found


def newest_reports(folder: Path) -> dict[str, Scorecard]:
    """By driver: the report with the latest date; msgspec's error names a file that is no report."""
    newest: dict[str, Scorecard] = {}
    for path in sorted(folder.glob("*.json")):
        card = msgspec.json.decode(path.read_bytes(), type=Scorecard)
        if card.driver not in newest or newest[card.driver].date < card.date:
            newest[card.driver] = card
    return newest


def render(descriptions: Iterable[Description], reports: Mapping[str, Scorecard]) -> str:
    """The page."""
    rows = [Row(description, reports.get(description.driver)) for description in descriptions]
    lines = [
        HEAD,
        "| driver | version | contract releases | conformance | tried on | date |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lowest, highest = row.described.releases
        serves = lowest if lowest == highest else f"{lowest} to {highest}"
        tried_on, date = (row.report.tried_on, row.report.date) if row.report is not None else ("", "")
        lines.append(
            f"| {row.name} | {row.described.driver_version} | {serves} | {row.tried()} | {tried_on} | {date} |"
        )
    lines += ["", f"| capability | {' | '.join(row.name for row in rows)} | |", f"|---|{'---|' * len(rows)}---|"]
    lines += [f"| `{flag}` | {' | '.join(row.cell(flag) for row in rows)} | {MEANING[flag]} |" for flag in Capability]
    limits = [(row.name, name, value) for row in rows for name, value in _limits(row.described)]
    if limits:
        lines += ["", "| driver | limit | largest value |", "|---|---|---|"]
        lines += [f"| {driver} | `{name}` | {value} |" for driver, name, value in limits]
    return "\n".join([*lines, ""])


def _limits(described: Description) -> list[tuple[str, int]]:
    limits = msgspec.structs.asdict(described.capabilities.limits)
    return [(name, value) for name, value in limits.items() if value is not None]


def main() -> int:
    """Write the page."""
    PAGE.write_text(render(declared(), newest_reports(REPORTS)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
