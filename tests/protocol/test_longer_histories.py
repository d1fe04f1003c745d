"""Longer histories than the model can exhaust: several keys, partitions, workers and managers, and continuous time."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from protocol.living.faults import FAULTS
from protocol.living.world import LIMITS, World

from federation.protocol.lease import Leave

KEYS = [f"instance-{n}" for n in range(4)]
SWEEP_AFTER = 30.0

Event = tuple[str, tuple[int, ...]]


def possible(world: World) -> list[Event]:
    """What can happen by itself: methods of the world and their arguments."""
    events: list[Event] = []
    for number, manager in enumerate(world.managers):
        events += [("publish", (number, place)) for place in range(len(manager.wire))]
    for partition in range(len(world.queues)):
        if world.queues[partition] and world.consumers[partition]:
            events.append(("deliver", (partition,)))
        if world.results[partition]:
            events += [("handle", (partition, number)) for number in range(len(world.managers))]
    for index, worker in enumerate(world.workers):
        if not worker.paused:
            events += of_worker(world, index)
    return events


def of_worker(world: World, index: int) -> list[Event]:
    worker = world.workers[index]
    events: list[Event] = []
    if worker.socket:
        events.append(("receive", (index,)))
    if worker.answers:
        events.append(("hear", (index,)))
    if worker.pipe and worker.connected:
        events.append(("take", (index,)))
    for number, call in worker.calls.items():
        waits = call.steps and call.start.lease.leave(worker.clock(world.now)) is Leave.WAIT
        if call.guarded_at is not None or not waits:
            events.append(("drive", (index, number)))
    return events


def do(world: World, event: Event) -> None:
    name, details = event
    if name == "publish":
        number, place = details
        world.publish(number, world.managers[number].wire[place])
    else:
        getattr(world, name)(*details)


def run_dry(world: World) -> None:
    """Without faults everything that can happen happens, in some order, and the outbox is read."""
    for _ in range(400):
        events = possible(world)
        if not events:
            break
        do(world, world.random.choice(events))
    world.poll()


def resolve(world: World) -> None:
    for key, facts in list(world.truth.keys.items()):
        if facts.parked_by is not None:
            world.truth.resolve(key, world.managers[0].stamp(world.now))


def not_ended(world: World) -> list[str]:
    truth = world.truth
    return [key for key, facts in truth.keys.items() if facts.parked_by is not None or truth.unsettled(key)]


class LongHistories(RuleBasedStateMachine):
    """Wishes and faults are chosen; what happens by itself in between is drawn from the world's own dice."""

    world: World

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(Random(seed))
        for key in KEYS:
            self.world.accept(key)

    @rule(key=st.sampled_from(KEYS))
    def accept(self, key: str) -> None:
        self.world.accept(key)

    @rule(events=st.integers(1, 25), pace=st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    def work(self, events: int, pace: float) -> None:
        for _ in range(events):
            choice = possible(self.world)
            if choice:
                do(self.world, self.world.random.choice(choice))
            self.world.advance(self.world.random.uniform(0, pace))

    @rule(events=st.integers(1, 25))
    def work_slowly(self, events: int) -> None:
        self.work(events, 2.0)

    @rule(seconds=st.floats(0, 9))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)
        self.world.expire()
        self.world.poll()

    @rule(name=st.sampled_from(sorted(FAULTS)))
    def goes_wrong(self, name: str) -> None:
        FAULTS[name](self.world)

    @rule(name=st.sampled_from(["flap", "connection_lost", "worker_pauses", "needless_sweep"]))
    def goes_wrong_as_it_often_does(self, name: str) -> None:
        FAULTS[name](self.world)

    @rule()
    def an_operator_resolves(self) -> None:
        resolve(self.world)

    def teardown(self) -> None:
        """When the faults stop, everything that was accepted ends, or is parked and can be resolved."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for worker in world.workers:
            worker.paused = False
        for _ in range(100):
            for _ in range(10):
                run_dry(world)
                world.advance(LIMITS.terms.lease / 6)
            resolve(world)
            if not not_ended(world):
                return
            if all(world.truth.keys[key].parked_by is None for key in not_ended(world)) and not possible(world):
                world.advance(SWEEP_AFTER)
                world.sweep()
        raise AssertionError(f"C4: {not_ended(world)} neither end nor can be resolved")


LongHistories.TestCase.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTheClaimsHoldOnLongHistories = LongHistories.TestCase
