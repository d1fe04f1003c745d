"""The scorecard as files: ``scorecard.json``, ``junit.xml``, ``scorecard.html`` (one file, nothing fetched), ``badge.svg``."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec

from federation.conformance.clauses import known_clauses
from federation.conformance.scorecard import Case, Scorecard, Verdict

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8dee4;vertical-align:top}td.n,th.n{text-align:right}
.passed{color:#116329}.failed{color:#a40e26;font-weight:600}.skipped{color:#57606a}pre{overflow-x:auto;background:#f6f8fa;padding:.7rem}
.sum{font-size:1.2rem}details{margin:.2rem 0}summary{cursor:pointer}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,td{border-color:#30363d}.passed{color:#56d364}
.failed{color:#ff7b72}.skipped{color:#8b949e}pre{background:#161b22}a{color:#58a6ff}}
"""
_GREEN, _RED, _GREY = "#2da44e", "#cf222e", "#57606a"


def write_all(card: Scorecard, folder: Path) -> None:
    """Write every form of the scorecard into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scorecard.json").write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=1))
    (folder / "junit.xml").write_bytes(junit(card))
    (folder / "scorecard.html").write_text(page(card), encoding="utf-8")
    (folder / "badge.svg").write_text(badge(card), encoding="utf-8")


def junit(card: Scorecard) -> bytes:
    """As continuous integration reads it."""
    suite = ET.Element(
        "testsuite", name=f"conformance of {card.driver} {card.driver_version}", tests=str(len(card.cases)),
        failures=str(card.count(Verdict.FAILED)), skipped=str(card.count(Verdict.SKIPPED)), errors="0",
        time=f"{card.seconds:.3f}",
    )  # fmt: skip
    for case in card.cases:
        element = ET.SubElement(suite, "testcase", classname=case.group, name=case.id, time=f"{case.seconds:.3f}")
        properties = ET.SubElement(element, "properties")
        for clause in case.clauses:
            ET.SubElement(properties, "property", name="clause", value=clause)
        if case.verdict is Verdict.FAILED:
            failure = ET.SubElement(
                element, "failure", message=_printable(case.message.strip().splitlines()[-1:] or [""])[0]
            )
            failure.text = "\n".join(_printable(case.message.splitlines()))
        elif case.verdict is Verdict.SKIPPED:
            ET.SubElement(element, "skipped", message=f"capability {case.capability}")
    root = ET.Element("testsuites")
    root.append(suite)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def badge(card: Scorecard) -> str:
    """A picture of one line."""
    passed, failed = card.count(Verdict.PASSED), card.count(Verdict.FAILED)
    label = f"contract {card.release}"
    value = f"{passed} passed" if card.conforms else f"{failed} failed" if failed else "nothing ran"
    left, right = 7 * len(label) + 12, 7 * len(value) + 12
    colour = _GREEN if card.conforms else _RED
    words = html.escape(f"{label}: {value}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{words}">'
        f"<title>{words}</title>"
        f'<rect width="{left}" height="20" fill="{_GREY}"/><rect x="{left}" width="{right}" height="20" fill="{colour}"/>'
        f'<g fill="#fff" font-family="Verdana,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{left / 2}" y="14">{html.escape(label)}</text>'
        f'<text x="{left + right / 2}" y="14">{html.escape(value)}</text></g></svg>\n'
    )


def page(card: Scorecard) -> str:
    """The page for people."""
    title = html.escape(f"Conformance of {card.driver} {card.driver_version}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>\n"
        + "\n".join(_body(card))
        + "\n</body></html>\n"
    )


def _body(card: Scorecard) -> Iterator[str]:
    verdict = (
        '<span class="passed">conforms</span>' if card.conforms else '<span class="failed">does not conform</span>'
    )
    yield (
        f'<p class="sum">It {verdict}: {card.count(Verdict.PASSED)} passed, {card.count(Verdict.FAILED)} failed, '
        f"{card.count(Verdict.SKIPPED)} skipped by capability, in {card.seconds:.0f} s.</p>"
    )
    yield (
        f"<p>Contract release {html.escape(card.release)}; the driver serves {html.escape(card.serves)}. "
        f"Tried on {html.escape(card.tried_on or 'what its target does not say')}. "
        f"{html.escape(card.date)}.</p>"
    )
    yield "<h2>Capabilities</h2><table><tr><th>declared</th><th>not declared (cases skipped for it)</th></tr>"
    without = ", ".join(f"{html.escape(name)} ({times})" for name, times in card.skipped_for().items()) or "nothing"
    yield f"<tr><td>{html.escape(', '.join(card.flags)) or 'nothing'}</td><td>{without}</td></tr></table>"
    yield from _groups(card)
    yield from _failures(card)
    yield from _clauses(card)
    yield from _cases(card)


def _groups(card: Scorecard) -> Iterator[str]:
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in card.cases:
        groups[case.group].append(case)
    yield '<h2>Groups</h2><table><tr><th>about</th><th class="n">passed</th><th class="n">failed</th><th class="n">skipped</th><th class="n">seconds</th></tr>'
    for name, cases in groups.items():
        cells = "".join(f'<td class="n {v}">{sum(c.verdict is v for c in cases)}</td>' for v in Verdict)
        yield f'<tr><td>{html.escape(name)}</td>{cells}<td class="n">{sum(c.seconds for c in cases):.1f}</td></tr>'
    yield "</table>"


def _failures(card: Scorecard) -> Iterator[str]:
    failed = [case for case in card.cases if case.verdict is Verdict.FAILED]
    if failed:
        yield "<h2>What failed</h2>"
    for case in failed:
        yield f'<details open><summary class="failed">{html.escape(case.id)}</summary><p>{html.escape(case.says)} '
        yield f"[{html.escape(', '.join(case.clauses))}]</p><pre>{html.escape(case.message)}</pre></details>"


def _clauses(card: Scorecard) -> Iterator[str]:
    yield '<h2>Clauses</h2><table><tr><th>clause</th><th>says</th><th></th><th class="n">passed</th><th class="n">failed</th><th class="n">skipped</th></tr>'
    texts = known_clauses()
    for identifier, cases in card.by_clause().items():
        clause = texts.get(identifier)
        text = html.escape(clause.text) if clause else "<em>not in the contract</em>"
        must = "MUST" if clause and clause.must else ""
        cells = "".join(f'<td class="n {v}">{sum(c.verdict is v for c in cases)}</td>' for v in Verdict)
        yield f"<tr><td>{identifier}</td><td>{text}</td><td>{must}</td>{cells}</tr>"
    yield "</table>"


def _cases(card: Scorecard) -> Iterator[str]:
    yield '<h2>Cases</h2><table><tr><th>case</th><th>clauses</th><th></th><th class="n">seconds</th></tr>'
    for case in card.cases:
        why = f" ({html.escape(case.capability)})" if case.capability else ""
        yield (
            f'<tr><td><span title="{html.escape(case.says)}">{html.escape(case.id)}</span></td><td>{", ".join(case.clauses)}</td>'
            f'<td class="{case.verdict}">{case.verdict}{why}</td><td class="n">{case.seconds:.2f}</td></tr>'
        )
    yield "</table>"


def _printable(lines: list[str]) -> list[str]:
    """XML carries no control characters."""
    return ["".join(sign if sign.isprintable() or sign == "\t" else " " for sign in line) for line in lines]
