"""``federation demo``: the main job on the embedded default, in one process, with a verdict that was checked.

Three simulated clusters, two workers each, some hundreds of operations, one worker dropped in the middle.
"""

from __future__ import annotations

import logging
import random
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from federation.manager.submission import Submission
from federation.protocol.records import OperationRecord, OperationState
from federation.testing.demonstration.estate import Crew, DemoEstate, NotReady
from federation.testing.demonstration.load import Wish, create, life
from federation.testing.demonstration.verdict import Dropped, Line, judge
from federation.testing.demonstration.view import View, show_verdict
from federation.testing.history import check
from federation.testing.store_history import history_of, operations_of

_GIVE_UP_SECONDS = 110.0
_DROP_AT = 0.3


@click.command()
@click.option(
    "--instances", type=click.IntRange(1, 100), default=12, show_default=True, help="Machines of each cluster."
)
@click.option(
    "--length", type=click.IntRange(1, 100), default=10, show_default=True, help="Operations on each machine."
)
@click.option("--pace", type=float, default=0.1, show_default=True, help="Speed of the hypervisors; 1 is as in life.")
@click.option("--seed", type=int, default=2014, show_default=True, help="Of the operations chosen.")
def demo(instances: int, length: int, pace: float, seed: int) -> None:
    """Run the main job on simulated hypervisors and judge it by their own logs.

    Needs no service and no root.  Ends with status 0 only if every claim it prints was checked and holds.
    """
    logging.getLogger("federation").setLevel(logging.CRITICAL)
    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    console.print("broker embedded, store SQLite, 3 simulated clusters, 2 workers each")
    with tempfile.TemporaryDirectory(prefix="federation-demo-") as name:
        try:
            with DemoEstate(Path(name), pace) as estate:
                lines = _run(estate, console, instances, length, random.Random(seed))
        except NotReady as error:
            raise click.ClickException(str(error)) from error
    show_verdict(console, lines, time.monotonic() - began)
    if not all(line.holds for line in lines):
        raise click.exceptions.Exit(1)


def _run(estate: DemoEstate, console: Console, instances: int, length: int, chance: random.Random) -> list[Line]:
    view = View(console, Live(console=console, transient=True, refresh_per_second=8) if console.is_terminal else None)
    if view.live is not None:
        view.live.start()
    try:
        wanted = _submit_all(estate, instances, length, chance)
        view.say(f"{wanted} operations on {3 * instances} machines accepted; nobody waits for anybody")
        dropped = _watch(estate, view, wanted)
    finally:
        if view.live is not None:
            view.live.stop()
    manager = estate.manager.manager
    report = check(history_of(manager, [cluster.state_directory for cluster in estate.clusters]))
    if not report.clean:
        console.print(report.to_text(), markup=False)
    return judge(list(operations_of(manager)), report, dropped)


def _submit_all(estate: DemoEstate, instances: int, length: int, chance: random.Random) -> int:
    submitting = estate.manager.manager.submitting
    wanted = 0
    for number in range(instances):
        for cluster in estate.clusters:
            wish = create(f"demo-{number}", cluster.kind)
            made = submitting.submit(Submission(name=wish.name, arguments=wish.arguments, cluster=cluster.name))
            line = [*life(cluster.kind, length, chance), *([Wish("destroy")] if number % 3 == 0 else [])]
            for wish in line:
                submitting.submit(Submission(name=wish.name, arguments={"instance": made.key, **wish.arguments}))
            wanted += 1 + len(line)
    return wanted


def _watch(estate: DemoEstate, view: View, wanted: int) -> Dropped:
    """Until everything is settled; drops the busiest worker on the way.

    One that had reported everything right before its connection was cut shows nothing; then another cluster loses one.
    """
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    dropped: Dropped | None = None
    while time.monotonic() < deadline:
        counts = estate.manager.manager.operating.counts()
        settled = sum(number for c in counts.values() for state, number in c.items() if state in _SETTLED)
        if settled >= _DROP_AT * wanted and not (dropped and dropped.operations):
            dropped = _drop(estate, view) or dropped
        if settled >= wanted and dropped is not None:
            return dropped
        view.update(estate, wanted)
        time.sleep(0.1)
    message = f"not everything was settled within {_GIVE_UP_SECONDS:.0f} s"
    raise click.ClickException(message)


def _drop(estate: DemoEstate, view: View) -> Dropped | None:
    crew: Crew | None = estate.busiest()
    if crew is None:
        return None
    estate.drop(crew)
    running = estate.manager.manager.operating.operations(state=OperationState.RUNNING, cluster=crew.cluster, limit=500)
    held: list[OperationRecord] = [o for o in running if o.worker == crew.name]
    view.say(f"dropped worker {crew.name}: its connection is cut with {len(held)} operations in flight")
    return Dropped(crew.name, crew.cluster, tuple(o.id for o in held))


_SETTLED = {"succeeded", "failed", "refused", "unknown"}
