"""Contract releases: the range that this tree serves, and the machine-readable form of the working tree."""

from __future__ import annotations

from typing import NamedTuple, Self

import msgspec

from federation.contract.capabilities import MEANING
from federation.contract.errors import CATALOGUE, InvalidRequest
from federation.contract.operations import DECLARED, Operation


class Release(NamedTuple):
    """``major.minor``; minor releases only add."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``1.0``; raise InvalidRequest on anything else."""
        major, dot, minor = text.partition(".")
        if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
            message = f"contract release is {text!r}, expected major.minor such as 1.0"
            raise InvalidRequest(message, field="release", value=text)
        return cls(int(major), int(minor))

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.major}.{self.minor}"


CURRENT = Release(1, 0)
LOWEST = Release(1, 0)
STATUS = "draft"


def snapshot() -> dict[str, object]:
    """The working tree's contract as data: what a release file freezes."""
    _, components = msgspec.json.schema_components(
        [kind for operation in DECLARED for kind in (operation.request, operation.result)],
        ref_template="#/types/{name}",
    )
    return {
        "release": str(CURRENT),
        "status": STATUS,
        "operations": [_operation(operation) for operation in DECLARED],
        "errors": {
            code: {"fault": error.fault, "effect": error.effect, "next_move": error.next_move}
            for code, error in CATALOGUE.items()
        },
        "capabilities": {str(flag): meaning for flag, meaning in MEANING.items()},
        "types": components,
    }


def _operation(operation: Operation) -> dict[str, object]:
    return {
        "name": operation.name,
        "revision": operation.revision,
        "since": operation.since,
        "lane": str(operation.lane),
        "ordering": operation.ordering and str(operation.ordering),
        "convergence": str(operation.convergence),
        "capability": operation.capability and str(operation.capability),
        "request": operation.request.__name__,
        "result": operation.result.__name__,
        "errors": sorted(operation.errors),
    }
