"""What the protocol cannot do without, and what it can within these bounds: one entry for each thing taken away.

``claim`` is the claim that falls; None means that no history within the bounds breaks one, and ``remark`` then says what
the thing is good for, or which other thing does the same work.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from . import mutations as without
from .events import Rules
from .explore import Bounds
from .parts import Parts

ORDER, EXCLUSION, ONE_EFFECT, NOTHING_LOST = "C1 order", "C2 exclusion", "C3 one effect", "C4 nothing lost"
TOTALITY = "totality"


@dataclass(frozen=True)
class Mutation:
    """One thing taken away, and where the model looks for what breaks: at most ``budget`` of these ``faults``."""

    name: str
    parts: Parts
    claim: str | None
    remark: str
    faults: tuple[str, ...] = ()
    budget: int = 1
    rules: Rules = field(default_factory=Rules)
    bounds: Bounds = field(default_factory=Bounds)

    @property
    def scope(self) -> tuple[Rules, Bounds]:
        """The rules and the bounds of the exploration."""
        return replace(self.rules, faults=frozenset(self.faults)), replace(self.bounds, faults=self.budget)


_FLAP = ("flap", "results slow")
_CLOCKS = ("flap", "results slow", "clock stands")
_RESOLVE = Rules(resolve=True, retry=True)
_SEVERAL = Rules(elsewhere=True)
_THREE = Bounds(steps=(1, 1, 1))
_ONE = Bounds(operations=1, steps=(2,))
_SHORT = Bounds(steps=(1, 1))

MUTATIONS = (
    # The answer table, row by row
    Mutation("row 1 (settled)", without.row(1), ONE_EFFECT, "what is settled runs again", ("flap",)),
    Mutation(
        "row 2 (parked)", without.row(2), EXCLUSION, "the next operation runs on a parked instance", ("driver bug",)
    ),
    Mutation(
        "row 3 (gap)", without.row(3), ORDER, "an operation whose predecessor got lost runs before it", ("copy purged",)
    ),
    Mutation(
        "row 4 (stale)",
        without.row(4),
        None,
        "attempts and leases make a stale copy harmless; the row keeps it from superseding a healthy attempt",
        _FLAP,
        2,
        bounds=_ONE,
    ),
    Mutation(
        "row 5 (poison)",
        without.row(5),
        None,
        "it only bounds how often what never ends is tried",
        _FLAP,
        2,
        bounds=_ONE,
    ),
    Mutation(
        "row 6 (refused), cancelled", without.row(6), ONE_EFFECT, "what was cancelled in time starts", ("cancel",)
    ),
    Mutation("row 6 (refused), deadline", without.row(6), ONE_EFFECT, "what is too late starts", ("deadline",)),
    Mutation(
        "row 7 (granted before; row 8 answers instead)", without.row(7), EXCLUSION, "it grants without a wait", _FLAP
    ),
    Mutation("row 8 (otherwise)", without.row(8), TOTALITY, "some questions have no answer"),
    # The lease
    Mutation("the wait of row 7", without.the_wait(lambda _: 0.0), EXCLUSION, "two attempts act at once", _FLAP),
    Mutation(
        "the worker's waiting",
        Parts(core=without.StartsWithoutWaiting),
        EXCLUSION,
        "the same, from the other side",
        _FLAP,
    ),
    Mutation(
        "both margins",
        without.margins(guard=True, wait=True),
        EXCLUSION,
        "a call under way meets the newer attempt",
        _FLAP,
        2,
        bounds=_ONE,
    ),
    Mutation(
        "the margin of the guard",
        without.margins(guard=True, wait=False),
        None,
        "while all clocks run equally fast, the other margin is enough",
        _FLAP,
        2,
        bounds=_ONE,
    ),
    Mutation(
        "the margin of the wait",
        without.margins(guard=False, wait=True),
        None,
        "while all clocks run equally fast, the other margin is enough",
        _FLAP,
        2,
        bounds=_ONE,
    ),
    Mutation(
        "the margin of the guard, with a slow clock",
        without.margins(guard=True, wait=False),
        EXCLUSION,
        "both margins together pay for clocks and for the call under way",
        _CLOCKS,
        3,
        bounds=_ONE,
    ),
    Mutation(
        "the margin of the wait, with a slow clock",
        without.margins(guard=False, wait=True),
        EXCLUSION,
        "both margins together pay for clocks and for the call under way",
        _CLOCKS,
        3,
        bounds=_ONE,
    ),
    Mutation(
        "the limit of reach",
        Parts(reach=3),
        EXCLUSION,
        "no lease stops a call that takes longer than the margin to reach the hypervisor",
        _FLAP,
        2,
        bounds=_ONE,
    ),
    Mutation(
        "the lease from the first sending, counted from the answer",
        Parts(core=without.LeaseFromTheAnswer),
        EXCLUSION,
        "a paused worker hears the answer late and believes in a whole lease",
        ("flap", "pause"),
        2,
        bounds=_ONE,
    ),
    Mutation(
        "the lease from the first sending, counted from the last",
        Parts(core=without.LeaseFromTheLastSending),
        EXCLUSION,
        "the answer may be to an earlier sending",
        ("flap", "results slow", "answer lost"),
        3,
        bounds=_ONE,
    ),
    Mutation(
        "the attempt check on renewals",
        Parts(answer=without.attempt_check_on_renewals),
        EXCLUSION,
        "a superseded worker goes on",
        _FLAP,
        2,
    ),
    # The question
    Mutation(
        "the question",
        Parts(core=without.TrustsTheBroker, apply_report=without.attempt_check_on_outcomes),
        ONE_EFFECT,
        "exclusive delivery is no exclusion",
        _FLAP,
    ),
    Mutation(
        "the question, trusting the delivery count",
        Parts(core=without.TrustsTheDeliveryCount, apply_report=without.attempt_check_on_outcomes),
        EXCLUSION,
        "nor does knowing of an earlier delivery fence it",
        _FLAP,
    ),
    Mutation(
        "only the answer to the newest question counts",
        Parts(newest_only=False),
        ORDER,
        "an old grant starts what was settled meanwhile",
        ("flap", "results slow", "pause"),
        2,
        bounds=_SHORT,
    ),
    Mutation(
        "the same question gets the same answer",
        Parts(answer=without.memory_of_questions),
        None,
        "a second grant to the same question supersedes the first; safe, but it costs an attempt",
        ("flap", "result redelivered"),
        2,
    ),
    # Outcomes
    Mutation(
        "the attempt check on outcomes",
        Parts(apply_report=without.attempt_check_on_outcomes),
        ONE_EFFECT,
        "an older attempt's failure is written over a newer one's work",
        ("driver fails", *_FLAP),
        3,
        bounds=_ONE,
    ),
    Mutation(
        "acknowledging after the confirm, and the sweeper",
        Parts(core=without.AcknowledgesEarly, sweeper=False),
        NOTHING_LOST,
        "a lost report takes its operation with it",
        ("connection lost",),
    ),
    Mutation(
        "acknowledging after the confirm",
        Parts(core=without.AcknowledgesEarly),
        None,
        "the sweeper finds what is lost, but only after its long wait",
        ("connection lost",),
        2,
    ),
    # The worker's rules
    Mutation(
        "rule 5, waiting for the lease (a copy revokes at once)",
        Parts(core=without.RevokesAtOnce),
        None,
        "each copy then costs a healthy operation one of its grants",
        _FLAP,
        2,
        bounds=_SHORT,
    ),
    Mutation(
        "rule 5, revoking (the older call goes on beside the question)",
        Parts(core=without.AsksWithoutRevoking),
        None,
        "the wait of row 7 outlasts the older lease; revoking ends the call at once",
        _FLAP,
        2,
        bounds=_SHORT,
    ),
    Mutation(
        "rule 5, asking after the lease (a copy waits for ever)",
        Parts(core=without.KeepsRunningWhenReceivedAgain),
        None,
        "the copy is found settled after the outcome; it matters when the older call cannot renew and hangs",
        _FLAP,
        2,
        bounds=_SHORT,
    ),
    Mutation(
        "rule 6, revoking (calls go on when their channel is lost)",
        Parts(core=without.KeepsRunningWhenLost),
        None,
        "nobody renews the lease, so it ends anyway; revoking ends the call at once",
        ("connection lost", "results slow"),
        2,
        bounds=_SHORT,
    ),
    # Publishing
    Mutation(
        "the sweeper",
        Parts(sweeper=False),
        NOTHING_LOST,
        "what a superseded worker acknowledged and what was purged stays away",
        ("copy purged",),
    ),
    Mutation(
        "the publisher's rule (s+1 after s is confirmed)",
        Parts(publisher=without.SendsAheadOfConfirms),
        None,
        "row 3 keeps the order; the rule saves the gaps, their rounds and their alarms",
        ("copy nacked", "confirm lost"),
    ),
    Mutation(
        "settled for what failed and has its outcome",
        Parts(unblocks_settled=False),
        NOTHING_LOST,
        "another manager settled it, and its successor waits for ever",
        ("confirm lost",),
        1,
        _SEVERAL,
    ),
    # Parking
    Mutation(
        "the wait before resolve",
        Parts(wait_before_resolve=without.wait_before_resolve),
        ORDER,
        "a revoked call meets the retry",
        ("flap", "dead letter"),
        1,
        _RESOLVE,
        _THREE,
    ),
    Mutation(
        "parking revokes",
        Parts(answer=without.revocation_by_parking),
        ORDER,
        "a renewed call meets the retry",
        ("dead letter",),
        1,
        _RESOLVE,
        _THREE,
    ),
    Mutation(
        "a foreign stamp is read again",
        Parts(restamps=False),
        NOTHING_LOST,
        "after a restart on another clock nobody may ever resolve",
        ("driver bug", "manager crash"),
        2,
        _RESOLVE,
        _THREE,
    ),
)
