"""The two ways into the simulated hypervisor: ``read`` and ``change``.

Every changing call of every operation goes through :meth:`Session.change`: guard, then faults, then the change and its
entry in the effect log in one transaction.  A call that takes time is noted first and takes effect when its time has
come, whoever looks then: like a task of a real hypervisor it survives the death of its caller.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from federation.contract.call import Call, Revoked
from federation.contract.errors import Cancelled, InvalidRequest, OperationError, TimedOut
from federation.testing import faults
from federation.testing.calls import SimulatedCrash
from federation.testing.clock import Clock
from federation.testing.faults import Action, Fault, Phase, Spot
from federation.testing.hypervisor import node_rows, planting, world
from federation.testing.hypervisor.database import Connection, Database
from federation.testing.hypervisor.injection import act_all, find_hold
from federation.testing.hypervisor.profiles import TYPICAL, Delay
from federation.testing.hypervisor.records import Machine
from federation.testing.hypervisor.settings import SimulatedSettings

_T = TypeVar("_T")
HELD_POLL_SECONDS = 0.02


class Hypervisor:
    """One cluster's simulated hypervisor, as one worker sees it."""

    def __init__(self, settings: SimulatedSettings, cluster: str, clock: Clock) -> None:
        if not settings.state_directory:
            raise InvalidRequest("state_directory is empty: name the folder in which the simulated hypervisor lives")
        self.settings = settings
        self.cluster = cluster
        self.clock = clock
        self.database = Database(Path(settings.state_directory))
        self._set_up()

    @contextmanager
    def execution(self, call: Call, name: str, machine: str) -> Iterator[Session]:
        """Run one operation's method: its begin and end are logged, with how it ended."""
        with self.database.transaction() as connection:
            connection.execute(
                "DELETE FROM calls WHERE machine = ? AND done = 1", (machine,)
            )  # what killed processes never collected
            begun = connection.execute(
                "INSERT INTO executions (key, operation, name, attempt, pid, began) VALUES (?, ?, ?, ?, ?, ?)",
                (machine, call.operation, name, call.attempt, os.getpid(), self.clock.monotonic()),
            )
        session = Session(self, call, name, machine, int(begun.lastrowid or 0))
        how = "returned"
        try:
            yield session
        except SimulatedCrash:
            how = ""  # a dead process logs nothing
            raise
        except Revoked:
            how = "revoked"
            raise
        except OperationError as error:
            how = f"raised {error.code}"
            raise
        except BaseException as error:
            how = f"bug {type(error).__name__}"
            raise
        finally:
            if how:
                session.log_end(how)

    def query(self, call: Call, name: str, machine: str = "") -> Session:
        """A session that only reads; nothing of it is logged."""
        return Session(self, call, name, machine, 0)

    def delay(self, kind: str, seed: str) -> float:
        """How long a call takes, in seconds; the same seed takes as long in every run."""
        settings = self.settings
        if kind in settings.delays:
            delay, pace = settings.delays[kind], 1.0
        else:
            delay, pace = TYPICAL.get(kind, Delay()), settings.pace * settings.profile.slower
        if not (delay.mean or delay.jitter) or not pace:
            return 0.0
        chance = random.Random(f"{settings.seed}:{seed}:{kind}").uniform(-delay.jitter, delay.jitter)
        return max(0.0, (delay.mean + chance) * pace)

    def _set_up(self) -> None:
        with self.database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO facts VALUES ('cluster', ?)", (self.cluster,))
            owner = connection.execute("SELECT value FROM facts WHERE name = 'cluster'").fetchone()[0]
            if owner != self.cluster:
                message = f"state_directory {self.database.path.parent} belongs to cluster {owner}, not {self.cluster}"
                raise InvalidRequest(message, field="state_directory", cluster=self.cluster, owner=owner)
            planting.plant_all(connection, self.settings, self.clock.monotonic())
            for number, fault in enumerate(self.settings.faults):
                faults.plant(connection, fault, fault.name or f"settings-{number:03}")


class Session:
    """One execution's conversation with the hypervisor; ``call`` says on whose behalf.

    ``irreversible`` is set by an operation that has passed the point from which it can only go on: a cancellation that
    comes then comes too late and the operation ends as if it had not been cancelled.
    """

    def __init__(self, hypervisor: Hypervisor, call: Call, name: str, machine: str, execution: int) -> None:
        self.hypervisor = hypervisor
        self.call = call
        self.name = name
        self.machine_id = machine
        self.irreversible = False
        self._execution = execution
        self._guarded: float | None = None
        self._guard_logged = False

    def read(self, kind: str = "read_machine") -> Machine | None:
        """The machine as it is now."""
        return self.look(kind, lambda connection: world.load(connection, self.machine_id), self.machine_id)

    def look(self, kind: str, reading: Callable[[Connection], _T], machine: str | None = None) -> _T:
        """Read anything; faults of reads act before and after."""
        hypervisor = self.hypervisor
        spot = self._spot(kind, changes_something=False)
        with hypervisor.database.reading() as connection:
            fired = self._draw(connection, spot, of_guard=False)
        act_all(fired, Phase.BEFORE, hypervisor.database, hypervisor.clock)
        if slower := _slowness(fired):
            hypervisor.clock.sleep(slower)
        with hypervisor.database.reading() as connection:
            due = world.calls_due(connection, hypervisor.clock.monotonic(), machine)
        if due:
            with hypervisor.database.transaction() as connection:
                self._complete(connection, machine)
        with hypervisor.database.reading() as connection:
            result = reading(connection)
        act_all(fired, Phase.AFTER, hypervisor.database, hypervisor.clock)
        return result

    def change(
        self, kind: str, *, target: str = "", seconds: float | None = None, node: str = "", **arguments: Any
    ) -> None:
        """Change the machine: the one choke point of all changing calls.

        ``seconds`` overrides how long the call takes; ``node`` is needed for the first thing made of a machine.
        Raises what the hypervisor refuses it with, what a fault plants, and what the guard raises.
        """
        hypervisor = self.hypervisor
        spot = self._spot(kind, changes_something=True)
        self._ask_leave(spot)
        with hypervisor.database.reading() as connection:
            fired = self._draw(connection, spot, of_guard=False)
        act_all(fired, Phase.BEFORE, hypervisor.database, hypervisor.clock)
        if not any(fault.action is Action.LIE for fault in fired):
            self._carry_out(self._describe(kind, target, node, arguments), fired, seconds)
        act_all(fired, Phase.AFTER, hypervisor.database, hypervisor.clock)

    def log_end(self, how: str) -> None:
        """Note that the method is over."""
        with self.hypervisor.database.transaction() as connection:
            connection.execute(
                "UPDATE executions SET ended = ?, how = ?, guarded = coalesce(guarded, ?) WHERE id = ?",
                (self.hypervisor.clock.monotonic(), how, self._guarded, self._execution),
            )

    def calls_over_at(self) -> float | None:
        """When the last call under way on the machine ends (infinity: held), None when there is none."""

        def reading(connection: Connection) -> float | None:
            return world.next_ready(connection, self.machine_id)

        return self.look("read_calls", reading, self.machine_id)

    def _ask_leave(self, spot: Spot) -> None:
        with self.hypervisor.database.reading() as connection:
            ignored = self._draw(connection, spot, of_guard=True)
        if ignored:
            return
        try:
            self.call.guard()
        except (Cancelled, TimedOut):
            if not self.irreversible:
                raise
            self.call.guard()
        if self._guarded is None:
            self._guarded = self.hypervisor.clock.monotonic()

    def _draw(self, connection: Connection, spot: Spot, *, of_guard: bool) -> tuple[Fault, ...]:
        if not faults.any_planted(connection):
            return ()
        with self.hypervisor.database.transaction() as writing:
            return faults.draw(writing, spot, self.hypervisor.clock.wall(), of_guard=of_guard)

    def _carry_out(self, change: world.Change, fired: tuple[Fault, ...], seconds: float | None) -> None:
        hypervisor = self.hypervisor
        takes = hypervisor.delay(change.kind, change.operation) if seconds is None else seconds
        takes += _slowness(fired)
        if takes > 0 or any(fault.phase is Phase.UNDER_WAY for fault in fired):
            self._carry_out_slowly(change, fired, takes)
            return
        with hypervisor.database.transaction() as connection:
            started = hypervisor.clock.monotonic()
            self._prepare(connection, change)
            moment = world.Moment(started, hypervisor.clock.monotonic(), hypervisor.clock.wall())
            world.take_effect(connection, change, moment)
        self._guard_logged = self._guarded is not None

    def _carry_out_slowly(self, change: world.Change, fired: tuple[Fault, ...], takes: float) -> None:
        hypervisor = self.hypervisor
        hold = find_hold(fired)
        held_for = 0.0 if hold is None else float("inf") if hold.seconds is None else hold.seconds
        with hypervisor.database.transaction() as connection:
            started = hypervisor.clock.monotonic()
            self._prepare(connection, change)
            ready: float | None = started + takes + held_for
            number = world.start_call(
                connection, change, started, started + takes + held_for, hold.name if hold else None
            )
        self._guard_logged = self._guarded is not None
        act_all(fired, Phase.UNDER_WAY, hypervisor.database, hypervisor.clock)
        while ready is not None:
            left = ready - hypervisor.clock.monotonic()
            hypervisor.clock.sleep(HELD_POLL_SECONDS if math.isinf(left) else left)
            ready = self._collect(number)

    def _collect(self, number: int) -> float | None:
        with self.hypervisor.database.transaction() as connection:
            self._complete(connection, self.machine_id)
            return world.collect_call(connection, number)

    def _prepare(self, connection: Connection, change: world.Change) -> None:
        if not self._guard_logged and self._guarded is not None:
            connection.execute("UPDATE executions SET guarded = ? WHERE id = ?", (self._guarded, self._execution))
        self._complete(connection, self.machine_id)
        node_rows.require_node(connection, change.node)

    def _complete(self, connection: Connection, machine: str | None) -> None:
        clock = self.hypervisor.clock
        world.complete_calls(connection, clock.monotonic(), clock.wall(), machine)

    def _describe(self, kind: str, target: str, node: str, arguments: dict[str, Any]) -> world.Change:
        if kind not in world.kinds():
            raise KeyError(kind)
        if not node:
            with self.hypervisor.database.reading() as connection:
                machine = world.load(connection, self.machine_id)
            node = machine.node if machine else ""
        return world.Change(
            machine=self.machine_id,
            node=node,
            kind=kind,
            target=target,
            arguments=arguments,
            operation=self.call.operation,
            name=self.name,
            attempt=self.call.attempt,
            execution=self._execution,
            pid=os.getpid(),
        )

    def _spot(self, kind: str, *, changes_something: bool) -> Spot:
        return Spot(
            kind=kind,
            changes=changes_something,
            operation_name=self.name,
            operation=self.call.operation,
            instance=self.machine_id,
            attempt=self.call.attempt,
            pid=os.getpid(),
        )


def _slowness(fired: tuple[Fault, ...]) -> float:
    return sum(fault.seconds or 0.0 for fault in fired if fault.action is Action.SLOW)
