"""Processes that hold the driver under test, as the kit sees them: errands go in, what became of them comes out."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Self

from federation.conformance.child import serve
from federation.conformance.errands import Close, Done, Errand, NotOpened, Opened, Start, decode_word, encode
from federation.conformance.scripted_call import Script
from federation.conformance.target import Target, TargetInvalid, modules_to_preload
from federation.contract.nodes import Description
from federation.contract.outcomes import Outcome, OutcomeKind

OPEN_SECONDS = 60.0
CLOSE_SECONDS = 10.0


class Blocked(Exception):
    """The driver did not end an operation in time."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one errand; ``done`` None means that the process died."""

    errand: Errand
    done: Done | None

    @property
    def died(self) -> bool:
        """Whether the process was killed in the middle."""
        return self.done is None

    @property
    def revoked(self) -> bool:
        """Whether the worker took the leave away and the driver obeyed."""
        return self.done is not None and self.done.outcome is None

    @property
    def outcome(self) -> Outcome:
        """The outcome; AssertionError when there is none."""
        assert self.done is not None, f"the process died in {self.errand.name}"
        assert self.done.outcome is not None, f"{self.errand.name} was revoked"
        return self.done.outcome

    @property
    def code(self) -> str:
        """The catalogue's code, or ``succeeded``."""
        return "succeeded" if self.outcome.kind is OutcomeKind.SUCCEEDED else str(self.outcome.code)

    @property
    def guards(self) -> int:
        """How often the driver asked for leave."""
        assert self.done is not None, f"the process died in {self.errand.name}"
        return self.done.guards

    def result(self) -> dict[str, Any]:
        """The result in builtin types; AssertionError that says what happened instead."""
        outcome = self.outcome
        told = f"{self.errand.name}: {outcome.code}: {outcome.message}"
        assert outcome.kind is OutcomeKind.SUCCEEDED, told
        assert outcome.result is not None, told
        return outcome.result


@dataclass(slots=True)
class _Waiting:
    errand: Errand
    done: SimpleQueue[Done | None] = field(default_factory=SimpleQueue)


class DriverProcess:
    """One process with an open driver; several threads may give it errands."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._changing = threading.Lock()
        self._ended = False
        context = multiprocessing.get_context("forkserver")
        # A process that is forked for a case then finds everything imported.
        context.set_forkserver_preload([serve.__module__, *modules_to_preload(target.driver)])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), name=f"driver {target.driver}", daemon=True)
        self._process.start()
        theirs.close()
        self.description = self._open()
        self._listener = threading.Thread(target=self._listen, name="driver process listener", daemon=True)
        self._listener.start()

    def start(  # noqa: PLR0913 (what an errand can be told)
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        operation: str = "",
        attempt: int = 1,
        script: Script | None = None,
        deadline_seconds: float | None = None,
        bare: bool = False,
        release: str = "",
    ) -> _Waiting:
        """Begin an errand; :meth:`finish` waits for it."""
        errand = Errand(
            number=next(self._numbers), name=name, arguments=arguments, operation=operation or str(uuid.uuid4()),
            attempt=attempt, script=script or Script(), deadline_seconds=deadline_seconds, bare=bare, release=release,
        )  # fmt: skip
        waiting = _Waiting(errand)
        with self._changing:
            if self._ended:
                waiting.done.put(None)
                return waiting
            self._waiting[errand.number] = waiting
            # A process that has died is found out by the listener, which tells whoever waits.
            with suppress(BrokenPipeError):
                self._pipe.send_bytes(encode(errand))
        return waiting

    def finish(self, waiting: _Waiting, seconds: float | None = None) -> Run:
        """Wait for its end; raises Blocked, and ends the process, when that does not come."""
        limit = self._target.conformance.operation_seconds if seconds is None else seconds
        try:
            return Run(waiting.errand, waiting.done.get(timeout=limit))
        except Empty:
            self.kill()
            raise Blocked(f"{waiting.errand.name} did not end within {limit:g} s") from None

    def run(self, name: str, arguments: dict[str, Any], **how: Any) -> Run:
        """Begin an errand and wait for its end."""
        return self.finish(self.start(name, arguments, **how))

    def kill(self) -> None:
        """SIGKILL, as a worker may end at any time."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.join(CLOSE_SECONDS)

    def close(self) -> None:
        """Let the driver close and the process end; kill it when it does not."""
        with self._changing:
            if not self._ended:
                with suppress(BrokenPipeError):  # it died in this moment
                    self._pipe.send_bytes(encode(Close()))
        self._process.join(CLOSE_SECONDS)
        self.kill()

    @property
    def alive(self) -> bool:
        """Whether it can take errands."""
        return not self._ended and self._process.is_alive()

    def __enter__(self) -> Self:
        """Use as a context: closed in the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _open(self) -> Description:
        self._pipe.send_bytes(encode(Start(target=self._target)))
        if not self._pipe.poll(OPEN_SECONDS):
            self.kill()
            raise Blocked(f"the driver did not open within {OPEN_SECONDS:g} s")
        try:
            word = decode_word(self._pipe.recv_bytes())
        except EOFError:
            self._process.join(CLOSE_SECONDS)
            message = f"the process that opens the driver ended with status {self._process.exitcode}"
            raise TargetInvalid(message) from None
        if isinstance(word, NotOpened):
            self._process.join(CLOSE_SECONDS)
            raise TargetInvalid(word.message)
        assert isinstance(word, Opened), word
        return word.description

    def _listen(self) -> None:
        while True:
            try:
                word = decode_word(self._pipe.recv_bytes())
            except (EOFError, OSError):  # the process died: whoever waits is told so
                break
            if isinstance(word, Done) and (waiting := self._waiting.pop(word.number, None)) is not None:
                waiting.done.put(word)
        with self._changing:
            self._ended = True
            for waiting in self._waiting.values():
                waiting.done.put(None)
            self._waiting.clear()
