"""The messages of the ordering protocol, as facts without a wire format.

Commands go from manager to worker through a cluster's partitions; questions, outcomes and progress go from worker to
manager through the results queues; answers go from manager to one worker's own queue.  DESIGN §6.3 gives the rules.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from federation.contract.outcomes import Outcome


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One copy of an accepted operation on its way to the workers of a cluster.

    ``key`` is the ordering key (an instance's UUID, or ``node:<cluster>/<name>``); ``sequence`` counts from 1 within the key;
    ``round`` counts publications from 1; ``deadline`` is seconds since the Unix epoch (UTC) or None; ``arguments`` is
    the operation's request in builtin types; ``release`` is the contract release that the manager speaks to the cluster.
    """

    operation: str
    name: str
    revision: int
    release: str
    cluster: str
    epoch: int
    partition: int
    key: str
    sequence: int
    round: int
    deadline: float | None
    arguments: dict[str, object]
    trace: str | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True, tag="question"):
    """A worker asks leave to execute an operation, or (``renews`` names its attempt) to go on executing it."""

    id: str
    worker: str
    cluster: str
    partition: int
    operation: str
    key: str
    sequence: int
    round: int
    delivery_count: int
    renews: int | None = None
    percent: float | None = None
    stage: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True, tag="outcome"):
    """A worker reports the outcome of one attempt."""

    worker: str
    cluster: str
    partition: int
    operation: str
    key: str
    sequence: int
    attempt: int
    outcome: Outcome


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """How far a running attempt has come; unconfirmed, may be lost."""

    worker: str
    cluster: str
    partition: int
    operation: str
    key: str
    attempt: int
    percent: float | None
    stage: str | None


Result = Question | Report | Progress
"""What travels through the results queues."""

Verdict = Literal["settled", "parked", "gap", "stale", "poison", "refused", "grant", "renewed", "revoked"]
"""The rows of the answer table (``refused`` covers deadline_passed and cancelled), and the two answers to a renewal."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the manager answers to one question; ``question`` is its id.

    ``wait_seconds`` (grants) is how long the older attempt's lease may still run; ``lease_seconds`` counts from the
    first sending of the question.  ``cancel`` asks the running call to stop.  ``reason`` is for people and logs.
    """

    question: str
    operation: str
    key: str
    verdict: Verdict
    attempt: int = 0
    wait_seconds: float = 0.0
    lease_seconds: float = 0.0
    cancel: bool = False
    reason: str = ""
