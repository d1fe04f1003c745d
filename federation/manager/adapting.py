"""Between the revision and release that a caller speaks and those that a cluster speaks (DESIGN §5.2, §5.4).

Rules:

1. What a caller asks goes out in a revision that is part of the release that the cluster is pinned to, or is refused.
2. Nothing is dropped: a field, value or capability that is newer than the pin is refused by its name.
3. Whoever uses a deprecated revision is counted, and told of in the log once for each operation.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from federation.contract.adapters import Revisions
from federation.contract.errors import ContractMismatch
from federation.contract.operations import Operation
from federation.contract.release import CURRENT, Release
from federation.contract.requests import Request
from federation.contract.since import as_spoken, newer_parts
from federation.contract.validation import parse_request, required_capabilities
from federation.manager.counters import Caller, ManagerCounters

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller asks, in the caller's own revision."""

    operation: Operation
    request: Request


class Adapting:
    """The use cases' way from what was asked to what is sent, and back."""

    def __init__(self, revisions: Revisions, counters: ManagerCounters) -> None:
        self.revisions = revisions
        self._counters = counters

    def read(self, name: str, revision: int, arguments: Mapping[str, object], caller: Caller) -> Asked:
        """Check a request by its own revision; raises ContractMismatch or InvalidRequest."""
        asked = self.read_again(name, revision, arguments)
        self._note(asked.operation, caller)
        return asked

    def read_again(self, name: str, revision: int, arguments: Mapping[str, object]) -> Asked:
        """The same of what was accepted before: nobody uses anything by it."""
        operation = self.revisions.find(name, revision)
        return Asked(operation, parse_request(operation, arguments))

    def fit(self, asked: Asked, pin: str | None) -> Asked:
        """The same in the revision that the cluster gets; ContractMismatch or InvalidRequest when it cannot be said."""
        spoken = Release.parse(pin) if pin is not None else CURRENT
        sent = self.revisions.sendable(asked.operation, spoken)
        if sent is asked.operation:
            fitted = asked
        else:
            plain = msgspec.to_builtins(asked.request)
            fitted = Asked(sent, parse_request(sent, self.revisions.adapt_request(asked.operation, sent, plain)))
        self._refuse_newer(fitted, spoken)
        return fitted

    def spoken(self, request: Request, pin: str | None) -> dict[str, Any]:
        """A request that ``fit`` has let through, as workers of the pinned release read it."""
        return as_spoken(request, Release.parse(pin) if pin is not None else CURRENT)

    def result_for(self, asked: Operation, sent: Operation, result: Mapping[str, Any]) -> dict[str, Any]:
        """A result of the revision that was sent as one of the revision that was asked."""
        return dict(result) if asked is sent else self.revisions.adapt_result(asked, sent, dict(result))

    def _refuse_newer(self, fitted: Asked, spoken: Release) -> None:
        operation = fitted.operation
        for part in newer_parts(fitted.request, spoken):
            message = (
                f"{operation.name}: {part.path} came with contract release {part.release}; the cluster speaks {spoken}: "
                f"leave it out, or upgrade the cluster's workers"
            )
            raise ContractMismatch(message, field=part.path, since=part.release, cluster=spoken)
        for flag in sorted(required_capabilities(operation, fitted.request)):
            for part in newer_parts(flag, spoken):
                message = (
                    f"{operation.name} needs the capability {flag}, which came with contract release {part.release}; "
                    f"the cluster speaks {spoken}"
                )
                raise ContractMismatch(message, capability=flag, since=part.release, cluster=spoken)

    def _note(self, operation: Operation, caller: Caller) -> None:
        deprecated = operation.deprecated
        if deprecated is None:
            return
        if self._counters.deprecated_use(operation.name, operation.revision, caller):
            name, revision = deprecated.replaced_by
            log.warning(
                "deprecated: %s revision %d is used (by caller=%s); use %s revision %d, release %s may drop the old one",
                operation.name, operation.revision, caller, name, revision, deprecated.removal,
            )  # fmt: skip
