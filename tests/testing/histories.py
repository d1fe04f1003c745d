"""Correct histories, made by a small model of one instance; and hypothesis strategies for them.

The model knows nothing of the checker's rules nor of the simulated driver: it writes down what a correct federation and a
correct hypervisor would have done, crashes and second attempts included.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from federation.contract.outcomes import OutcomeKind
from federation.testing.history import ABSENT, Accepted, Effect, Execution, Final, History, Seen, Settled, check

CLUSTER = "c"
DISKS = ("root", "data0")
# state -> operations that make sense there, each with the effects (kind, target, visible, state after)
NEXT_STATE = {
    "power_off": "stopped", "power_on": "running", "pause": "paused", "unpause": "running",
    "suspend": "suspended", "resume": "running", "reboot": "running",
}  # fmt: skip
POSSIBLE = {
    None: ("create",),
    "running": ("power_off", "reboot", "pause", "suspend", "power_on", "destroy"),
    "stopped": ("power_on", "resize", "power_off", "destroy"),
    "paused": ("unpause", "pause", "power_off", "suspend", "destroy"),
    "suspended": ("resume", "power_on", "suspend", "destroy"),
}


def planned(name: str, now: Seen, size: int) -> tuple[list[tuple[str, str, bool, Seen]], dict]:
    """The effects of the operation in this state, and its arguments."""
    if name == "create":
        return _create(size)
    if name == "destroy":
        steps = (
            []
            if now.power_state in {"stopped", "suspended"}
            else [("stop", "", True, replace(now, power_state="stopped"))]
        )
        steps.append(("undefine", "", True, Seen(disks=now.disks)))
        left = list(now.disks)
        while left:
            gone = left.pop(0)
            steps.append(("delete_disk", gone, True, Seen(disks=tuple(left))))
        return steps, {}
    if name == "resize":
        middle = replace(now, vcpus=size)
        end = replace(middle, memory_bytes=size << 30)
        return [("set_processors", "", True, middle), ("set_memory", "", True, end)], {
            "flavour": {"vcpus": size, "memory_bytes": size << 30}
        }
    return _power(name, now), {}


def _create(size):
    seen, steps = ABSENT, []
    for disk in DISKS:
        seen = replace(seen, disks=(*seen.disks, disk))
        steps.append(("allocate_disk", disk, True, seen))
    seen = replace(seen, power_state="stopped", vcpus=size, memory_bytes=size << 30)
    steps.append(("define", "", True, seen))
    steps.append(("start", "", True, replace(seen, power_state="running", boots=1)))
    return steps, {"spec": {"flavour": {"vcpus": size, "memory_bytes": size << 30}}, "start": True}


def _power(name, now):
    end = NEXT_STATE[name]
    if name == "reboot":
        return [("mark", "", False, now), ("reset", "", True, replace(now, boots=now.boots + 1))]
    if now.power_state == end:
        return []
    if name == "suspend":
        saved = replace(now, memory_file=True)
        return [("write_memory", "", True, saved), ("suspend", "", True, replace(saved, power_state=end))]
    if name == "power_on" and now.power_state == "stopped":
        return [("start", "", True, replace(now, power_state=end, boots=now.boots + 1))]
    return [(name, "", True, replace(now, power_state=end, memory_file=False))]


@dataclass
class Model:
    """Writes one cluster's history, operation by operation, on a clock that all keys share."""

    now: float = 100.0
    accepted: list[Accepted] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)
    ids: itertools.count = field(default_factory=lambda: itertools.count(1))

    def tick(self, seconds=1.0):
        self.now += seconds
        return self.now

    def accept(self, key, name, arguments=None):
        number = next(self.ids)
        sequence = 1 + sum(one.key == key for one in self.accepted)
        accepted = Accepted(
            operation=f"op{number}", cluster=CLUSTER, key=key, sequence=sequence, name=name, arguments=arguments or {}
        )
        self.accepted.append(accepted)
        return accepted

    def run(self, key, name, *, size=1, crashes=(), fails=None, refused=None, zombie=False):
        """One operation with all its attempts: ``crashes`` says after how many effects each earlier attempt dies."""
        now = self.seen.get(key, ABSENT)
        steps, arguments = planned(name, now, size)
        accepted = self.accept(key, name, arguments)
        if refused:
            self.settle(accepted, OutcomeKind.REFUSED, refused, 0)
            return accepted
        if fails:
            steps = [*steps[:1], ("undo", "", True, now)] if steps and name in {"create", "resize"} else []
        attempt, done = 1, 0
        for after in crashes:
            made = steps[done : done + after]
            self.execute(accepted, attempt, made, ends=zombie)
            done += len(made)
            attempt += 1
        self.execute(accepted, attempt, steps[done:], how=f"raised {fails}" if fails else "returned")
        self.settle(accepted, OutcomeKind.FAILED if fails else OutcomeKind.SUCCEEDED, fails, attempt)
        return accepted

    def execute(self, accepted, attempt, steps, how="returned", *, ends=True):
        number = next(self.ids)
        began = self.tick()
        guarded = self.tick() if steps else None
        for step in steps:
            self.effect(accepted, attempt, number, step)
        self.executions.append(
            Execution(
                cluster=CLUSTER,
                id=number,
                key=accepted.key,
                operation=accepted.operation,
                name=accepted.name,
                attempt=attempt,
                pid=number,
                began=began,
                guarded=guarded,
                ended=self.tick() if ends else None,
                how=how if ends else None,
            )
        )

    def effect(self, accepted, attempt, execution, step):
        kind, target, visible, after = step
        started, ended = self.tick(), self.tick(0.5)
        self.effects.append(
            Effect(
                cluster=CLUSTER,
                sequence=len(self.effects) + 1,
                key=accepted.key,
                operation=accepted.operation,
                name=accepted.name,
                attempt=attempt,
                execution=execution,
                pid=execution,
                kind=kind,
                target=target,
                visible=visible,
                wall=ended,
                started=started,
                ended=ended,
                arguments="",
                after=after,
            )
        )
        self.seen[accepted.key] = after

    def settle(self, accepted, kind, code, attempts):
        self.settled.append(Settled(operation=accepted.operation, kind=kind, code=code, attempts=attempts))

    def history(self, **more) -> History:
        return History(
            accepted=tuple(self.accepted), settled=tuple(self.settled), effects=tuple(self.effects),
            executions=tuple(self.executions),
            finals=tuple(Final(cluster=CLUSTER, key=key, seen=seen) for key, seen in self.seen.items()),
            **more,
        )  # fmt: skip


@st.composite
def correct_histories(draw, min_operations=1):
    model = Model()
    keys = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=min_operations, max_size=25))
    for key in keys:
        state = model.seen.get(key, ABSENT).power_state
        name = draw(st.sampled_from(POSSIBLE[state]))
        model.run(
            key,
            name,
            size=draw(st.integers(1, 8)),
            crashes=draw(st.lists(st.integers(0, 3), max_size=3)),
            fails=draw(st.sampled_from([None, None, None, "hypervisor_refused", "timed_out", "cancelled"])),
            refused=draw(st.sampled_from([None, None, None, "deadline_passed", "parked"])),
            zombie=draw(st.booleans()),
        )
    return model.history()


def kinds(history):
    return {finding.kind for finding in check(history).findings}


def only(history):
    (finding,) = check(history).findings
    return finding


def one_instance(*names, **last):
    """An instance on which these operations ran; keywords are of the last one."""
    model = Model()
    for name in names[:-1]:
        model.run("a", name)
    model.run("a", names[-1], **last)
    return model
