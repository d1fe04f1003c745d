"""The bench that a case works on: the driver in its processes, the observer, and instances that are removed in the end."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_random

from federation.conformance.observing import Observer, comparable, make_observer
from federation.conformance.process import DriverProcess, Run
from federation.conformance.scripted_call import Script
from federation.conformance.target import Target, TargetInvalid
from federation.contract.capabilities import Capability
from federation.contract.nodes import Description

_T = TypeVar("_T")
_names = itertools.count(1)


@dataclass(slots=True)
class Subject:
    """One instance of one case; ``operation`` is the id of the operation under test, ``kept`` ids that its set-up used."""

    node: str
    instance: str = field(default_factory=lambda: str(uuid.uuid4()))
    operation: str = field(default_factory=lambda: str(uuid.uuid4()))
    name: str = ""
    kept: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A name that no other case has."""
        self.name = self.name or f"conf-{self.instance[:8]}-{next(_names)}"

    def id_of(self, what: str) -> str:
        """The id of an operation of the set-up: the same whenever it is asked for by the same word."""
        return self.kept.setdefault(what, str(uuid.uuid4()))

    def stored(self, what: str) -> str:
        """A name in storage that belongs to this subject only."""
        return self.kept.setdefault(f"stored {what}", f"conf-{what}-{self.instance[:13]}")

    def identities(self) -> list[tuple[str, str]]:
        """What differs between two subjects that went the same way."""
        kept = [(text, f"<{what}>") for what, text in self.kept.items()]
        return [(self.instance, "<instance>"), (self.operation, "<operation>"), (self.name, "<name>"), *kept]


class Bench:
    """Everything of one target; make one for each process of the test run, and ``close`` it."""

    def __init__(self, target: Target, observer: Observer | None = None) -> None:
        self.target = target
        if target.conformance.capture_url.startswith("file://"):
            Path(target.conformance.capture_url.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
        self._crew = DriverProcess(target)
        self._subjects: list[Subject] = []
        self._foreign: list[str] = []
        self._imagining = False
        self.description: Description = self._crew.description
        try:
            self.observer: Observer = observer or make_observer(target)
        except TargetInvalid:
            self._crew.close()
            raise
        self.nodes = self._find_nodes()

    @property
    def flags(self) -> frozenset[Capability]:
        """What the driver declares."""
        return self.description.capabilities.flags

    @property
    def crew(self) -> DriverProcess:
        """The driver's process that lives through many cases; a new one if a case killed it."""
        if not self._crew.alive:
            self._crew.kill()
            self._crew = DriverProcess(self.target)
        return self._crew

    def given(self, value: _T | None, told: str, imagined: _T) -> _T:
        """A value of the target; AssertionError that says what ``[conformance]`` lacks, unless one is only imagined."""
        if value is None and self._imagining:
            return imagined
        assert value is not None, f"the driver declares what cannot be tried: [conformance] {told}"
        return value

    @contextmanager
    def imagining(self) -> Iterator[None]:
        """Within, requests are made only to be looked at: what the target does not have is imagined."""
        self._imagining = True
        try:
            yield
        finally:
            self._imagining = False

    @contextmanager
    def another_process(self) -> Iterator[DriverProcess]:
        """A process that the case may kill."""
        with DriverProcess(self.target) as process:
            yield process

    def subject(self, node: int = 0) -> Subject:
        """A new instance's identity; whatever comes to bear it is destroyed after the case."""
        subject = Subject(self.nodes[node % len(self.nodes)])
        self._subjects.append(subject)
        return subject

    def do(self, name: str, arguments: Mapping[str, Any], **how: Any) -> Run:
        """Run one operation or query undisturbed, to its end."""
        return self.crew.run(name, dict(arguments), **how)

    def succeed(self, name: str, arguments: Mapping[str, Any], **how: Any) -> dict[str, Any]:
        """Run one that has to succeed; returns its result."""
        return self.do(name, arguments, **how).result()

    def disturbed(self, name: str, arguments: Mapping[str, Any], operation: str, script: Script, **how: Any) -> Run:
        """Run one in a process of its own, which the script may kill."""
        with self.another_process() as process:
            return process.run(name, dict(arguments), operation=operation, script=script, **how)

    def look(self, subject: Subject) -> Any:
        """What the observer sees of it, without what makes it another instance than others."""
        stored = [name for what, name in subject.kept.items() if what.startswith("stored ")]
        return comparable(self.observer.look(subject.instance, stored), *subject.identities())

    def plant_foreign(self) -> str:
        """The id of a machine that is not ours; AssertionError when the target has none."""
        planted = self.observer.plant_foreign(self.nodes[0])
        if planted is not None:
            self._foreign.append(planted)
            return planted
        told = "the observer plants no foreign machine and [conformance] foreign names none"
        assert self.target.conformance.foreign, told
        return self.target.conformance.foreign[0]

    def adoptee(self, foreign: str, node: str) -> Subject:
        """A foreign machine that a case adopts, to be destroyed like any other in the end."""
        if foreign in self._foreign:
            self._foreign.remove(foreign)
        subject = Subject(node, instance=foreign)
        self._subjects.append(subject)
        return subject

    def wait_ready(self, subject: Subject) -> None:
        """Wait until the guest is up, as the target says; AssertionError when it does not come up."""
        guest = self.target.conformance.guest
        if not guest.ready_line:
            return
        looking = Retrying(
            retry=retry_if_result(lambda text: guest.ready_line not in text),
            stop=stop_after_delay(guest.boot_seconds),
            wait=wait_random(0.2, 0.4),
        )
        try:
            looking(lambda: self.succeed("get_console_output", {"instance": subject.instance})["text"])
        except RetryError as error:
            told = f"the guest did not print {guest.ready_line!r} within {guest.boot_seconds:g} s"
            raise AssertionError(told) from error

    def settle(self, subject: Subject) -> Any:
        """Look until two looks in a row are the same: a call that outlived its caller may still be under way."""
        last, deadline = self.look(subject), time.monotonic() + self.target.conformance.operation_seconds
        while True:
            time.sleep(0.02 if self.observer.changes("") is not None else 0.2)
            now = self.look(subject)
            if now == last:
                return now
            assert time.monotonic() < deadline, f"{subject.instance} does not come to rest"
            last = now

    def discharge(self, subject: Subject) -> None:
        """Remove what a case no longer needs before it ends; AssertionError names what is left."""
        self._subjects.remove(subject)
        trouble = list(self._remove(subject))
        assert not trouble, "; ".join(trouble)

    def clean(self) -> list[str]:
        """Remove what the case made; returns what could not be removed or was left behind."""
        trouble: list[str] = []
        while self._subjects:
            subject = self._subjects.pop()
            trouble += self._remove(subject)
        while self._foreign:
            self.observer.remove_foreign(self._foreign.pop())
        return trouble

    def close(self) -> None:
        """End every process and let go of the hypervisor."""
        self._crew.close()
        self.observer.close()

    def _remove(self, subject: Subject) -> Iterator[str]:
        if self.observer.look(subject.instance) is not None:
            run = self.do("destroy", {"instance": subject.instance})
            if not run.died and run.code == "invalid_state" and "foreign" in run.outcome.message:
                self.observer.remove_foreign(subject.instance)  # was to be adopted, and was not
            elif run.died or run.code != "succeeded":
                yield f"destroy of {subject.instance}: {'died' if run.died else run.outcome.message}"
            left = self.observer.look(subject.instance)
            if left is not None:
                yield f"destroy left something of {subject.instance} behind: {left}"
        for what, name in subject.kept.items():
            if what.startswith("stored "):
                self.observer.discard(name)

    def _find_nodes(self) -> list[str]:
        listed = self.crew.run("list_nodes", {}).result()["nodes"]
        usable = [node["name"] for node in listed if node["reachable"] and node["accepts_instances"]]
        wanted = list(self.target.conformance.nodes) or usable
        missing = [name for name in wanted if name not in usable]
        if missing or not wanted:
            raise TargetInvalid(f"nodes that can be used are {usable}, the target wants {wanted or 'at least one'}")
        return wanted
