"""What the worker's decision core asks its surroundings to do: imperative, one class an action."""

from __future__ import annotations

from dataclasses import dataclass

from federation.protocol.envelope import Command, Question, Report
from federation.protocol.lease import Lease


@dataclass(frozen=True, slots=True)
class Held:
    """A delivery that waits to be settled; ``handle`` is the bus's own and comes back in Acknowledge."""

    command: Command
    delivery_count: int
    handle: object
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a question (for the first time, or again with the same id)."""

    question: Question


@dataclass(frozen=True, slots=True)
class StartCall:
    """Run the driver in a thread of its own; ``call`` comes back in ``call_ended``."""

    call: int
    held: Held
    attempt: int
    lease: Lease


@dataclass(frozen=True, slots=True)
class LeaseChanged:
    """The lease of a running call was renewed, revoked or cancelled: wake its guard."""

    call: int


@dataclass(frozen=True, slots=True)
class SendReport:
    """Publish an outcome with a confirm; its fate comes back in ``report_settled``."""

    call: int
    report: Report


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Acknowledge a delivery."""

    held: Held


Action = Ask | StartCall | LeaseChanged | SendReport | Acknowledge
