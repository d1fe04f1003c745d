"""The claims of DESIGN §2 as the model checks them, on every history, at every effect and every settlement."""

from __future__ import annotations

from .state import CallState, World


class Violation(Exception):
    """A history broke a claim."""

    def __init__(self, claim: str, text: str) -> None:
        super().__init__(f"{claim}: {text}")
        self.claim = claim


def check_landing(world: World, call: CallState, step: int) -> None:
    """A changing call of an attempt reaches the hypervisor."""
    mine = (call.sequence, call.attempt)
    who = f"attempt {call.attempt} of operation {call.sequence}"
    if call.sequence < world.started[0] or call.sequence <= world.resolved:
        raise Violation("C1 order", f"{who} changes something after operation {max(world.started[0], world.resolved)}")
    if mine < world.started:
        raise Violation("C2 exclusion", f"{who} changes something after attempt {world.started[1]} may have acted")
    for sequence in range(1, call.sequence):
        if not world.operations[sequence - 1].outcome:
            raise Violation("C1 order", f"{who} changes something before operation {sequence} has ended")
    own = world.operations[call.sequence - 1].outcome
    if own and own != "unknown":
        raise Violation("C3 one effect", f"{who} changes something after the operation was settled as {own}")
    if world.key.parked_by and world.key.parked_by < call.sequence:
        raise Violation("C2 exclusion", f"{who} changes something while operation {world.key.parked_by} parks the key")
    effect = world.effects[call.sequence - 1][step if step >= 0 else ~step]
    if step >= 0 and effect == 1:
        raise Violation("C3 one effect", f"{who} repeats step {step + 1}")


def check_grant(world: World, sequence: int, attempt: int) -> None:
    """A grant is written; ``world`` is as it was before."""
    operation = world.operations[sequence - 1]
    if attempt == 1 and (operation.overdue or operation.cancel):
        why = "after its deadline" if operation.overdue else "after it was cancelled"
        raise Violation("C3 one effect", f"operation {sequence} is granted for the first time {why}")


def check_settlement(world: World, sequence: int, outcome: str) -> None:
    """An outcome is written; ``world`` is as it was before."""
    effects = world.effects[sequence - 1]
    text = f"operation {sequence} is settled as {outcome} and its steps are {effects}"
    for earlier in range(1, sequence):
        if not world.operations[earlier - 1].outcome:
            raise Violation("C1 order", f"operation {sequence} is settled before operation {earlier}")
    if world.operations[sequence - 1].outcome:
        raise Violation("C3 one effect", f"operation {sequence} is settled twice")
    if outcome == "succeeded" and any(effect != 1 for effect in effects):
        raise Violation("C3 one effect", text)
    if outcome == "refused" and any(effects):
        raise Violation("C3 one effect", text)
    if outcome == "failed" and any(effect == 1 for effect in effects):
        raise Violation("C3 one effect", text)
