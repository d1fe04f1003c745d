"""A WorkerCore with its messages made easy: what was asked, started, reported and acknowledged, by operation."""

from __future__ import annotations

from itertools import count
from typing import Any

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.envelope import Answer, Command, Question, Report, Verdict
from federation.protocol.lease import LeaseTerms
from federation.protocol.worker_actions import Acknowledge, Action, Ask, Held, LeaseChanged, SendReport, StartCall
from federation.protocol.worker_core import WorkerCore, WorkerTerms

DONE = Outcome(kind=OutcomeKind.SUCCEEDED, result={})
TERMS = WorkerTerms(lease=LeaseTerms(lease=6.0, margin=1.0), max_operations=4, resend_after=1.0, report_retry=0.5)


def held(operation: str, key: str = "k", **more: Any) -> Held:
    """A delivery; ``more`` are fields of the command, and ``deliveries``."""
    deliveries = more.pop("deliveries", 0)
    fields: dict[str, Any] = {
        "name": "create",
        "revision": 1,
        "release": "1.0",
        "cluster": "c",
        "epoch": 1,
        "partition": 0,
        "sequence": 1,
        "round": 1,
        "deadline": None,
        "arguments": {},
    }
    command = Command(operation=operation, key=key, **{**fields, **more})
    return Held(command, deliveries, handle=object())


class OneWorker:
    """Drives a core; every method keeps and returns the actions it caused."""

    def __init__(self, terms: WorkerTerms = TERMS) -> None:
        ids = count(1)
        self.core = WorkerCore("w", terms, lambda: f"q{next(ids)}")
        self.now = 100.0
        self.actions: list[Action] = []

    def _keep(self, actions: list[Action]) -> list[Action]:
        self.actions += actions
        return actions

    def deliver(self, *deliveries: Held) -> list[Action]:
        """Deliver one after the other."""
        return [action for one in deliveries for action in self._keep(self.core.deliver(one, self.now))]

    def answer(self, question: Question, verdict: Verdict, **more: Any) -> list[Action]:
        """Answer a question; a grant is of attempt 1 and the terms' lease unless ``more`` says otherwise."""
        fields: dict[str, Any] = {"lease_seconds": self.core.terms.lease.lease}
        if verdict == "grant":
            fields["attempt"] = 1
        if verdict == "renewed":
            fields["attempt"] = question.renews
        answer = Answer(
            question=question.id, operation=question.operation, key=question.key, verdict=verdict, **{**fields, **more}
        )
        return self._keep(self.core.answered(answer, self.now))

    def grant(self, delivery: Held, **more: Any) -> StartCall:
        """Deliver, grant, and give the call that starts."""
        self.deliver(delivery)
        started = [a for a in self.answer(self.asked[-1], "grant", **more) if isinstance(a, StartCall)]
        return started[0]

    def end(self, call: StartCall, outcome: Outcome | None = DONE) -> list[Action]:
        """A driver call ends."""
        return self._keep(self.core.call_ended(call.call, outcome, self.now))

    def confirm(self, call: StartCall, *, confirmed: bool = True) -> list[Action]:
        """The broker answers for a report."""
        return self._keep(self.core.report_settled(call.call, confirmed=confirmed, now=self.now))

    def lose(self, partition: int | None = None) -> list[Action]:
        """The channel, or a partition's consumer, is gone."""
        return self._keep(self.core.lost(partition, self.now))

    def after(self, seconds: float) -> list[Action]:
        """Time passes; the core is told once, at the end."""
        self.now += seconds
        return self._keep(self.core.tick(self.now))

    @property
    def asked(self) -> list[Question]:
        """Every question sent, re-sendings included."""
        return [a.question for a in self.actions if isinstance(a, Ask)]

    @property
    def reported(self) -> list[Report]:
        """Every report sent."""
        return [a.report for a in self.actions if isinstance(a, SendReport)]

    @property
    def acknowledged(self) -> list[Held]:
        """Every delivery acknowledged."""
        return [a.held for a in self.actions if isinstance(a, Acknowledge)]

    @property
    def woken(self) -> list[int]:
        """Every call whose guard was woken."""
        return [a.call for a in self.actions if isinstance(a, LeaseChanged)]
