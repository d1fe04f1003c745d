"""What ``federation worker list`` says of workers that are not simply there."""

from __future__ import annotations

import msgspec
from click.testing import CliRunner

from federation.cli.session import Session
from federation.cli.worker import worker
from federation.protocol.records import WorkerRecord, WorkerState


class Told:
    """A way to a manager that has answered already."""

    def __init__(self, records):
        self.records = records

    def ask(self, _method, _given):
        return msgspec.to_builtins(self.records)


def listed(*records, everyone=False):
    session = Session(environment={})
    session.__dict__["way"] = Told(records)
    done = CliRunner().invoke(worker, ["list", *(["--all"] if everyone else [])], obj=session)
    assert done.exit_code == 0, done.output
    return [line.split()[:3] for line in done.output.splitlines() if "simulated" in line]


def record(name, state, waiting_since=None):
    return WorkerRecord(
        id=name, cluster="lab", driver="simulated", driver_version="0.1.0", release_lowest="1.0", release_highest="1.0",
        capabilities={}, state=state, waiting_since=waiting_since,
    )  # fmt: skip


def test_who_waits_to_be_admitted_is_listed_as_such_and_who_left_only_when_asked_for():
    there = record("w1", WorkerState.ADMITTED), record("w2", WorkerState.LEFT, 5.0), record("w3", WorkerState.LEFT)
    assert listed(*there) == [["w1", "lab", "admitted"], ["w2", "lab", "waiting"]]
    assert [state for _, _, state in listed(*there, everyone=True)] == ["admitted", "waiting", "left"]
