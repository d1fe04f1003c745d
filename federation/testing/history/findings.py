"""What the checker found, with the exact records, as text and as JSON."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import msgspec

from federation.testing.history.records import Record


class FindingKind(enum.StrEnum):
    """The ways in which a history can break the claims C1 to C4."""

    LOST = "lost"
    """Accepted, and neither settled nor parked nor pending."""
    DUPLICATED = "duplicated"
    """One visible effect of one operation, made more than once."""
    OVERLAPPING = "overlapping"
    """Two operations or two attempts acted on one instance at the same time."""
    OUT_OF_ORDER = "out of order"
    """A later operation acted before the end of an earlier one."""
    REVOKED = "revoked effects"
    """An attempt acted although a newer one had acted already, or had leave to."""
    CONTRADICTED = "contradicted outcomes"
    """The outcome says something else than the hypervisor."""
    UNACCOUNTED = "unaccounted"
    """Something changed that no accepted operation and no granted attempt explains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One violation: what, of which instance, said in a sentence, with the records that prove it."""

    kind: FindingKind
    cluster: str
    key: str
    message: str
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much was looked at; ``applied_once`` are operations that succeeded and of which nothing was found."""

    accepted: int = 0
    settled: dict[str, int] = field(default_factory=dict)
    pending: int = 0
    parked: int = 0
    effects: int = 0
    executions: int = 0
    applied_once: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The checker's verdict."""

    counts: Counts
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def of(self, kind: FindingKind) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind is kind)

    def tally(self) -> dict[FindingKind, int]:
        """How many findings there are of each kind, zeros too."""
        return {kind: len(self.of(kind)) for kind in FindingKind}

    def verdict(self) -> str:
        """One line: how much was looked at and how much was found."""
        counts = self.counts
        settled = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.settled.items())) or "none"
        parts = [
            f"accepted {counts.accepted}",
            f"settled {sum(counts.settled.values())} ({settled})",
            f"applied once {counts.applied_once}",
            *(f"{kind} {number}" for kind, number in self.tally().items()),
        ]
        return ("clean: " if self.clean else "VIOLATED: ") + ", ".join(parts)

    def to_text(self, limit: int = 20) -> str:
        """The verdict, then at most ``limit`` findings with their records."""
        lines = [self.verdict()]
        for finding in self.findings[:limit]:
            lines.append(f"{finding.kind}: {finding.cluster}/{finding.key}: {finding.message}")
            lines.extend(f"    {_describe(record)}" for record in finding.records)
        if len(self.findings) > limit:
            lines.append(f"and {len(self.findings) - limit} more")
        return "\n".join(lines)

    def to_json(self) -> bytes:
        """Everything: ``clean``, ``counts``, ``tally`` and all findings with their records."""
        return msgspec.json.encode(
            {
                "clean": self.clean,
                "counts": self.counts,
                "tally": self.tally(),
                "findings": [_as_data(finding) for finding in self.findings],
            }
        )


def _as_data(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "cluster": finding.cluster,
        "key": finding.key,
        "message": finding.message,
        "records": [{"record": type(record).__name__.lower(), **_fields(record)} for record in finding.records],
    }


def _fields(record: Record) -> dict[str, object]:
    return {str(name): value for name, value in msgspec.to_builtins(record).items()}


def _describe(record: Record) -> str:
    shown = (f"{name}={value}" for name, value in _fields(record).items() if value not in (None, {}, ""))
    return f"{type(record).__name__.lower()} {' '.join(shown)}"
